"""``ddpm-shortcut pretrain``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor
from tqdm import tqdm

from agents.commands.options import Pretrain
from diffusion_env.assembly import usable_device
from diffusion_env.checkpoints import with_suffix
from diffusion_env.config import PretrainConfig
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.base import NetworkDenoiser
from diffusion_env.denoisers.pretraining import pretrain

SHOWN_EVERY = 100


def run(options: Pretrain, command: str) -> None:
    """Pretrain and write the network, with the data set's name, the configuration and ``command`` in its header."""
    torch.set_num_threads(options.threads)
    usable_device(options.config.device)
    data = load_dataset(options.dataset)
    target = with_suffix(options.output)
    _refuse_unwritable(target.parent)
    network = _pretrain(data, options.config, options.progress_bar)
    metadata: dict[str, object] = {"dataset": data.name, "pretrain": asdict(options.config), "command": command}
    print(f"Wrote {network.save(target, metadata)}")


def _pretrain(data: Dataset, config: PretrainConfig, progress_bar: bool) -> NetworkDenoiser:
    with tqdm(total=config.num_updates, unit="updates", disable=not progress_bar) as bar:
        return pretrain(data, config, _shown_on(bar))


def _shown_on(bar: tqdm) -> Callable[[int, Tensor], None]:
    def on_update(i: int, loss: Tensor) -> None:
        bar.update()
        if i % SHOWN_EVERY == 0:  # reading the loss waits for the device
            bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)

    return on_update


def _refuse_unwritable(folder: os.PathLike[str]) -> None:
    """Before the minutes of work rather than after them."""
    os.makedirs(folder, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"The folder {folder} is not writable. Choose another --output.")
