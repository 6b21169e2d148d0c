"""``ddpm-shortcut sample``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from agents.commands.evaluate import loaded
from agents.commands.options import Sample


def run(options: Sample, command: str) -> None:
    """Draw and write the samples; the file can be given as a --dataset again."""
    del command  # a .npz has no header to keep it in
    torch.set_num_threads(options.threads)
    if options.n < 1:
        raise ValueError(f"--n is the number of samples, at least 1; received {options.n}.")
    algorithm = loaded(options.checkpoint, options.device, options.algo)
    samples = algorithm.sample(options.n, options.seed).numpy(force=True)
    print(f"Wrote {_write(options.output, samples)}: x, {samples.dtype} {samples.shape}, data units")


def _write(path: Path, samples: np.ndarray) -> Path:
    """One array x, compressed; an older file is replaced only by a whole one."""
    target = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp.npz")
    try:
        np.savez_compressed(temporary, x=samples)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
