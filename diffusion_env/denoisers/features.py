"""How a network of ours sees the training level."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NUM_FREQUENCIES = 16


class LevelFeatures(nn.Module):
    """Sines and cosines of a log-SNR: (*batch,) -> (*batch, dim). It adds nothing to a state dict.

    Log-SNR spans about [-20, 10]: sines of periods 60 to 2 tell neighbouring levels apart.
    """

    dim = 2 * NUM_FREQUENCIES
    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(-1, 0.5, NUM_FREQUENCIES), persistent=False)

    def forward(self, log_snr: Tensor) -> Tensor:
        """The features; see the class."""
        phases = log_snr.unsqueeze(-1) * self.frequencies
        return torch.cat([phases.sin(), phases.cos()], -1)
