"""Accidents of a run on the command line: whatever ended it, it goes on; nothing is lost, doubled or passed over."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from agents.cli import main
from agents.commands import train
from agents.runs.callbacks import Checkpoint
from agents.runs.folder import RunFolder
from agents.runs.lock import locked
from agents.runs.logs import DAMAGED, TIMESTEPS
from agents.zoo import load_agent

ITERATION = 4 * 2 * 5  # environment steps: 4 environments, K = 2, n_critic = 5
TIMES = ("time/fps", "time/time_elapsed", "time/train_seconds", "time/train_cpu_seconds")

KILLED = """
import os, signal, sys
from agents.cli import main
from agents.runs.callbacks import Checkpoint
written, act = [], Checkpoint.act
def act_and_die(self):
    when, number = sys.argv[1], int(sys.argv[2])
    written.append(1)
    if when == "before" and len(written) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    act(self)
    if when == "after" and len(written) == number:
        os.kill(os.getpid(), signal.SIGKILL)
Checkpoint.act = act_and_die
main(sys.argv[3:])
"""


def words(dataset: Path, denoiser: Path, output: Path, *more: str) -> list[str]:
    sizes = f"--num-envs 4 --num-steps 2 --total-timesteps {5 * ITERATION}"
    intervals = "--measure-every 2 --measure-samples 20 --checkpoint-every 2 --log-interval 1 --no-progress-bar"
    paths = f"--dataset {dataset} --denoiser {denoiser} --output {output}"
    own = "" if "ppo" in more else "--n-critic 5 --n-critic-exponent 0"
    return ["train", *sizes.split(), *intervals.split(), *paths.split(), *own.split(), *more]


@pytest.fixture(scope="module")
def whole(points_file: Path, denoiser_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(words(points_file, denoiser_file, folder)) == 0
    return RunFolder(folder)


def copy(run: RunFolder, to: Path) -> RunFolder:
    """A run with the same files, which a test may damage."""
    to.mkdir()
    for path in run.path.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return RunFolder(to)


def lines(run: RunFolder) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in TIMES} for line in run.metrics()]


def events(run: RunFolder) -> list[tuple[int, str]]:
    """Step and tag of every value in every file, whatever a purge says."""
    return sorted(
        (event.step, value.tag)
        for path in run.path.glob("events.*")
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    )


def same_run(one: RunFolder, other: RunFolder) -> bool:
    return lines(one) == lines(other) and events(one) == events(other)


# --- killed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kill", ["before 1", "before 3", "after 4"])
def test_a_killed_run_ends_as_the_whole_one(
    kill: str, whole: RunFolder, points_file: Path, denoiser_file: Path, tmp_path: Path
) -> None:
    """SIGKILL before and after checkpoints: the first, one in the middle, and the last."""
    run, command = RunFolder(tmp_path / "run"), words(points_file, denoiser_file, tmp_path / "run")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = [sys.executable, "-c", KILLED, *kill.split(), *command]
    assert subprocess.run(script, env=environment, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert (lines(run) == lines(whole)) == (kill == "after 4")  # negative control: something was missing
    assert main(["train", "--resume", str(run.path)]) == 0
    assert same_run(run, whole)
    assert run.checkpoint.read_bytes() == whole.checkpoint.read_bytes()
    assert not list(run.path.glob("*.lock"))


@pytest.mark.parametrize("how", ["the same command", "resume"])
def test_a_run_without_a_checkpoint_begins_again(
    how: str,
    whole: RunFolder,
    points_file: Path,
    denoiser_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def die(self: Checkpoint) -> None:
        raise KeyboardInterrupt

    run, command = RunFolder(tmp_path / "run"), words(points_file, denoiser_file, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "act", die)
        assert main(command) == 130
    assert not run.checkpoint.exists()
    assert main([*command, "--seed", "1"]) == 2  # another run is not this one
    assert "continue that run with `ddpm-shortcut train --resume" in " ".join(capsys.readouterr().err.split())
    assert main(command if how == "the same command" else ["train", "--resume", str(run.path)]) == 0
    assert ("begins again" in capsys.readouterr().out) == (how == "resume")
    assert same_run(run, whole)
    assert main(command) == 2


# --- signals ----------------------------------------------------------------------------------------------------------


class Send(BaseCallback):
    """Sends a signal in the middle of the second iteration."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def _on_step(self) -> bool:
        if self.num_timesteps == ITERATION + 8:
            os.kill(os.getpid(), self.number)
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("algo", ["sft_pg", "ppo"])
def test_a_signal_saves_the_iteration_and_says_how_to_go_on(
    number: signal.Signals,
    algo: str,
    whole: RunFolder,
    points_file: Path,
    denoiser_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = train.callbacks
    command = words(points_file, denoiser_file, tmp_path / "run", "--algo", algo, "--checkpoint-every", "100")
    with monkeypatch.context() as patch:
        patch.setattr(train, "callbacks", lambda *arguments: [*own(*arguments), Send(number)])
        assert main(command) == 128 + number
    said = " ".join(capsys.readouterr().err.split())
    assert f"{number.name}: saved at" in said
    assert f"Go on with: ddpm-shortcut train --resume {tmp_path / 'run'}" in said
    agent = load_agent(tmp_path / "run")
    assert agent.num_timesteps == 2 * agent.iteration_timesteps or algo == "ppo"
    assert agent.num_timesteps < 5 * ITERATION
    if algo == "sft_pg":
        assert main(["train", "--resume", str(tmp_path / "run")]) == 0
        assert lines(RunFolder(tmp_path / "run")) == lines(whole)


# --- two at once ------------------------------------------------------------------------------------------------------


def test_a_run_in_use_is_refused(whole: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy(whole, tmp_path / "run")
    with locked(run.path):
        assert main(["train", "--resume", str(run.path)]) == 2
    assert f"in use by process {os.getpid()}" in " ".join(capsys.readouterr().err.split())
    assert main(["train", "--resume", str(run.path)]) == 0


# --- what is not as it was --------------------------------------------------------------------------------------------


def edit(run: RunFolder, **options: Any) -> None:
    config = run.config
    for name, value in options.items():
        place = config["options"]["task"] if name in config["options"]["task"] else config["options"]
        place = config["options"]["algorithm"] if name in config["options"]["algorithm"] else place
        place[name] = value
    (run.path / "config.json").write_text(json.dumps(config))


def resumed(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["train", "--resume", str(run.path)])
    return code, " ".join(capsys.readouterr().err.split())


def test_nothing_is_said_where_all_is_as_it_was(
    whole: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resumed(copy(whole, tmp_path / "run"), capsys) == (0, "")


def test_other_versions_are_named(whole: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy(whole, tmp_path / "run")
    (run.path / "config.json").write_text(
        json.dumps(run.config | {"versions": {**run.config["versions"], "torch": "1.0"}})
    )
    code, said = resumed(run, capsys)
    assert code == 0 and "was begun with other versions: torch 1.0 (now" in said and "numpy" not in said


def test_other_points_are_named(denoiser_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = tmp_path / "points.npz"
    np.savez(points, x=np.random.default_rng(0).normal(size=(500, 2)))
    run = RunFolder(tmp_path / "run")
    assert main(words(points, denoiser_file, run.path)) == 0
    np.savez(points, x=np.random.default_rng(1).normal(size=(500, 2)))
    capsys.readouterr()
    code, said = resumed(run, capsys)
    assert code == 0 and "holds other points than when" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threads": 1.5}, "threads must be an integer"),
        ({"measure_every": float("nan")}, "measure_every must be an integer"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number"),
        ({"num_envs": "many"}, "num_envs must be an integer"),
        ({"set": 3}, "set must be a tuple"),
        ({"algo": "rwr"}, "holds 'sft_pg', but a 'rwr' was to be loaded"),
        ({"algo": "ppo"}, "holds 'sft_pg', but 'ppo' was to be loaded"),
    ],
)
def test_options_of_a_hand_are_refused(
    options: dict[str, Any], words: str, whole: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy(whole, tmp_path / "run")
    edit(run, **options)
    if "algo" in options:
        edit(run, algorithm={} if options["algo"] == "ppo" else run.config["options"]["algorithm"])
    code, said = resumed(run, capsys)
    assert code == 2 and words in said


def test_sensible_options_of_a_hand_are_named(
    whole: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy(whole, tmp_path / "run")
    edit(run, learning_rate=0.5, num_envs=8)
    code, said = resumed(run, capsys)
    assert code == 0 and "differ in ['num_envs', 'learning_rate']. The run goes on with the checkpoint's values" in said


@pytest.mark.parametrize("damage", [b"{\xff\xfe}\n", b'{"time/total_timesteps": \n'])
def test_damaged_metrics_do_not_end_a_resume(
    damage: bytes, whole: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy(whole, tmp_path / "run")
    kept = (run.path / "progress.json").read_bytes().splitlines(keepends=True)
    (run.path / "progress.json").write_bytes(b"".join([damage, *kept[1:]]))
    code, said = resumed(run, capsys)
    assert code == 0 and "1 line(s) of" in said and "are damaged" in said
    assert (run.path / DAMAGED).read_bytes() == damage
    assert lines(run) == lines(whole)[1:]


def test_steps_of_the_whole_run(whole: RunFolder) -> None:
    """What the comparisons above compare: a line per iteration, and one per measurement."""
    steps = [line[TIMESTEPS] for line in whole.metrics()]
    assert steps == [i * ITERATION for i in (0, 1, 2, 2, 3, 4, 4, 5, 5)]
