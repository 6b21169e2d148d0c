"""Spectral norm: every layer divided by its norm as a linear operator, so that a network is 1-Lipschitz.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018. For a convolution they take the
largest singular value of its kernel, reshaped to a matrix: that is not the norm of the convolution, which may be larger
by up to the square root of the kernel's number of pixels. Here the power iteration runs on the convolution itself, with
its stride and padding on its grid, as in Farnia et al., "Generalizable Adversarial Training via Spectral
Normalization", ICLR 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization

from diffusion_env.networks.layers import Convolution

FIRST_ITERATIONS = 50
ITERATIONS = 3
"""Power iterations of a convolution at first, and per update. Its largest singular values lie closer to each other than
those of a trained matrix, for which one per update is enough."""


class ConvolutionNorm(nn.Module):
    """Parametrisation of a kernel (out_channels, in_channels, 4, 4): divided by the operator norm of its convolution.

    In training mode each read of the kernel iterates first; otherwise it is a pure function.
    """

    right: Tensor  # (1, in_channels, H, W): the right singular vector so far

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        self.stride, self.padding = layer.stride, layer.padding
        start = torch.randn(1, layer.in_channels, *layer.grid, device=layer.weight.device)
        self.register_buffer("right", start / start.norm())
        self.iterate(layer.weight, FIRST_ITERATIONS)

    def forward(self, kernel: Tensor) -> Tensor:
        """The kernel, same shape, of norm 1 up to the error of the power iteration."""
        if self.training:
            self.iterate(kernel, ITERATIONS)
        # Cloned, because a later iteration must not change what a backward pass needs.
        return kernel / self._convolve(self.right.clone(), kernel).norm()

    @torch.no_grad()
    def iterate(self, kernel: Tensor, times: int) -> None:
        """``times`` power iterations on the convolution followed by its transpose."""
        for _ in range(times):
            left = self._convolve(self.right, kernel)
            right = conv2d_input(self.right.shape, kernel, left, self.stride, self.padding)
            self.right.copy_(right / right.norm().clamp_min(torch.finfo(right.dtype).tiny))

    def _convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        return nn.functional.conv2d(x, kernel, None, self.stride, self.padding)


def bound_slope(network: nn.Module, seed: int) -> None:
    """Parametrise every layer of ``network`` by its norm; ``seed`` starts the power iterations. Leaves eval mode.

    Raises TypeError for a layer with weights whose norm is not known here.
    """
    layers = [layer for layer in network.modules() if list(layer.parameters(recurse=False))]
    for layer in layers:
        if not isinstance(layer, nn.Linear | Convolution):
            raise TypeError(
                f"The slope of a {type(layer).__name__} cannot be bounded: only Linear and Convolution layers can. "
                "Choose a body made of these, or another critic, such as 'gradient_penalty'."
            )
    # torch draws the start of the power iteration from the global generator: lend it a seed, then put it back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for layer in layers:
            if isinstance(layer, Convolution):
                register_parametrization(layer, "weight", ConvolutionNorm(layer))
            else:
                spectral_norm(layer)
    network.eval()


@torch.no_grad()
def iterate_norms(network: nn.Module) -> None:
    """Power iterations in every layer of a network that `bound_slope` changed, on its weights of now."""
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.Linear | Convolution):
            _ = layer.weight  # in training mode, reading a parametrised weight iterates
    network.eval()
