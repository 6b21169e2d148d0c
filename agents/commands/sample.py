"""``ddpm-shortcut sample``."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from agents.commands.evaluate import loaded
from agents.commands.options import Sample
from diffusion_env.checkpoints import write_atomically


def run(options: Sample, command: str) -> None:
    """Draw and write the samples; the file can be given as a --dataset again."""
    del command  # a .npz has no header to keep it in
    torch.set_num_threads(options.threads)
    algorithm = loaded(options.checkpoint, options.device, options.algo, options.trust_paths)
    samples = algorithm.sample(options.n, options.seed).numpy(force=True)
    bad = int((~np.isfinite(samples.reshape(len(samples), -1)).all(1)).sum())
    if bad:
        raise FloatingPointError(
            f"{bad} of {len(samples)} samples are NaN or infinite, so nothing was written: the sampler has diverged. "
            "Take an earlier checkpoint, or train with smaller step sizes."
        )
    print(f"Wrote {_write(options.output, samples)}: x, {samples.dtype} {samples.shape}, data units")


def _write(path: Path, samples: np.ndarray) -> Path:
    """One array x, compressed; an older file is replaced only by a whole one."""
    target = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    content = io.BytesIO()
    np.savez_compressed(content, x=samples)
    return write_atomically(target, content.getvalue())
