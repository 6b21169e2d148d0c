"""The official SFT-PG toy loop, timed from outside: a checkout the user supplies is run as it is, in its own process.

Nothing of it is imported here. Its script prints the epoch number and, every ten epochs, ``w_dis`` (sliced W2 with 100
projections against its 10,000 training points); the child process below prints its CPU time beside each of those.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

BATCH_SIZE, BATCHES_PER_EPOCH = 128, 79  # 10,000 points in batches of 128

# Runs train.py as the main program. print() is wrapped to report CPU time, and ends the run after the epoch wanted.
# OpenCV is imported by the script and not used, so an empty module will do where it is not installed.
CHILD = """
import builtins, importlib.util, runpy, sys, time, types
if importlib.util.find_spec("cv2") is None:
    sys.modules["cv2"] = types.ModuleType("cv2")
import torch
torch.set_num_threads(1)
last_epoch, plain, started, epoch = int(sys.argv[1]), print, time.process_time(), 0
def timed(*values, **options):
    global epoch
    if len(values) == 1 and isinstance(values[0], int):
        epoch = values[0]
    if values and values[0] == "w_dis":
        plain("TIMED", epoch, time.process_time() - started, float(values[1]), flush=True)
        if epoch >= last_epoch:
            raise SystemExit(0)
builtins.print = timed
sys.path.insert(0, ".")
sys.argv = ["train.py"]
runpy.run_path("train.py", run_name="__main__")
"""


def time_official(checkout: Path, last_epoch: int) -> dict[str, Any]:
    """CPU time and SW2 of the official fine-tuning up to ``last_epoch``, one torch thread.

    Its own plots and measurements every ten epochs are in its CPU time. Raises FileNotFoundError where the checkout or
    its pretrained network is missing, RuntimeError with the script's last words where it fails.
    """
    folder = checkout / "toy_exp"
    for needed, remedy in (
        ("train.py", "give the repository's root"),
        ("swiss.pt", "run `python train.py --pretrain 1`"),
    ):
        if not (folder / needed).is_file():
            raise FileNotFoundError(f"{folder / needed} does not exist: {remedy}.")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, "-c", CHILD, str(last_epoch)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    points = parse(done.stdout)
    if not points or points[-1]["epoch"] < last_epoch:
        raise RuntimeError(f"The official script stopped before epoch {last_epoch}: {done.stderr.strip()[-500:]}")
    trajectories = BATCH_SIZE * BATCHES_PER_EPOCH * (points[-1]["epoch"] - points[0]["epoch"])
    seconds = points[-1]["cpu_seconds"] - points[0]["cpu_seconds"]
    return {"trajectories_per_cpu_second": trajectories / seconds, "curve": points}


def parse(output: str) -> list[dict[str, float]]:
    """The child's TIMED lines as epoch, cpu_seconds, sw2."""
    lines = [line.split()[1:] for line in output.splitlines() if line.startswith("TIMED ")]
    return [{"epoch": int(e), "cpu_seconds": float(t), "sw2": float(w)} for e, t, w in lines]
