"""Checkpoints: atomic files without pickle, one header for all saved things, and states put back with care."""

from diffusion_env.checkpoints.atomic import CheckpointError, write_atomically, write_json
from diffusion_env.checkpoints.format import (
    HEADER_ENTRY,
    SUFFIX,
    Header,
    checksum,
    load_checkpoint,
    load_object,
    save_checkpoint,
    save_object,
    with_suffix,
)
from diffusion_env.checkpoints.restoring import (
    differences,
    load_module,
    load_optimizer,
    numbers_in,
    refuse_larger,
)

__all__ = [
    "HEADER_ENTRY",
    "SUFFIX",
    "CheckpointError",
    "Header",
    "checksum",
    "differences",
    "load_checkpoint",
    "load_module",
    "load_object",
    "load_optimizer",
    "numbers_in",
    "refuse_larger",
    "save_checkpoint",
    "save_object",
    "with_suffix",
    "write_atomically",
    "write_json",
]
