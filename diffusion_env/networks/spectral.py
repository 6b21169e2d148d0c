"""Spectral norm: every layer divided by its norm as a linear operator, so that a network is 1-Lipschitz.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018. For a convolution they take the
largest singular value of its kernel, reshaped to a matrix: that is not the norm of the convolution, which may be larger
by up to the square root of the kernel's number of pixels. Here the power iteration runs on the convolution itself, with
its stride and padding on its grid, as in Farnia et al., "Generalizable Adversarial Training via Spectral
Normalization", ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization

from diffusion_env.networks.layers import Convolution, MaxMin

FIRST_ITERATIONS = 100
ITERATIONS = 10
"""Power iterations of an `OperatorNorm` at first, and per update."""


class OperatorNorm(nn.Module):
    """Parametrisation of a weight (any shape): divided by the norm of the linear operator that it defines.

    In training mode each read of the weight iterates first; otherwise it is a pure function. The power iteration
    approaches the norm from below and starts at the last result.
    """

    right: Tensor  # (*shape of an input): the right singular vector so far

    def __init__(self, weight: Tensor, operator: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> None:
        """``operator(x, weight)`` is linear in x of ``shape``; the start is drawn by the global generator."""
        super().__init__()
        self.operator = operator
        self.register_buffer("right", nn.functional.normalize(torch.randn(shape).flatten(), dim=0).view(shape))
        self.iterate(weight, FIRST_ITERATIONS)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, same shape, of an operator whose norm is 1 up to the error of the power iteration."""
        if self.training:
            self.iterate(weight, ITERATIONS)
        # Cloned, because a later iteration must not change what a backward pass needs.
        return weight / self.operator(self.right.clone(), weight).norm()

    def iterate(self, weight: Tensor, times: int) -> None:
        """``times`` power iterations, right <- A^T A right / |A^T A right|, on a weight of any shape.

        A^T A x is the gradient of |A x|^2 / 2.
        """
        with torch.enable_grad():
            for _ in range(times):
                x = self.right.clone().requires_grad_()
                (right,) = torch.autograd.grad(self.operator(x, weight.detach()).square().sum() / 2, x)
                self.right.copy_(right / right.norm())


def bound_slope(network: nn.Module, seed: int) -> None:
    """Divide every layer of ``network`` by its norm; ``seed`` starts the power iterations. Leaves it in eval mode.

    A network of linear layers alone keeps torch's own `spectral_norm`, one power iteration per update. Behind
    convolutions linear layers are large, one update moves their norm by more than one iteration can follow, and they
    are treated as the convolutions are.

    Raises TypeError for a module that may have a slope above 1.
    """
    leaves = [layer for layer in network.modules() if not list(layer.children())]
    for layer in leaves:
        if not isinstance(layer, nn.Linear | Convolution | MaxMin | nn.Flatten):
            raise TypeError(
                f"The slope of a {type(layer).__name__} cannot be bounded: only networks of Linear, Convolution, "
                "MaxMin and Flatten can. Choose a body made of these, or another critic, such as 'gradient_penalty'."
            )
    layers = [layer for layer in leaves if isinstance(layer, nn.Linear | Convolution)]
    # The starts of the power iterations come from the global generator: lend it a seed, then put it back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for layer in layers:
            if all(isinstance(other, nn.Linear) for other in layers):
                spectral_norm(layer)
            else:
                register_parametrization(layer, "weight", _norm_of(layer))
    network.eval()


def _norm_of(layer: nn.Linear | Convolution) -> OperatorNorm:
    if isinstance(layer, Convolution):
        convolve = partial(nn.functional.conv2d, bias=None, stride=layer.stride, padding=layer.padding)
        return OperatorNorm(layer.weight, convolve, (1, layer.in_channels, *layer.grid))
    return OperatorNorm(layer.weight, nn.functional.linear, (layer.in_features,))


@torch.no_grad()
def iterate_norms(network: nn.Module) -> None:
    """Power iterations in every layer of a network that `bound_slope` changed, on its weights of now."""
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.Linear | Convolution):
            _ = layer.weight  # in training mode, reading a parametrised weight iterates
    network.eval()
