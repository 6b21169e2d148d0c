"""torch.compile of the networks of an agent, in place: names of weights and checkpoints stay as they are."""

from __future__ import annotations

from torch import nn


def compile_forward(*networks: nn.Module, wanted: bool = True) -> None:
    """Where ``wanted``, compile the forward pass of ``networks``, and so the backward pass.

    It is done at the first call with each kind of shape.

    A network with an attribute ``compiled_part`` has that module compiled in its place; with None there, nothing.
    Results are equal up to rounding, not to the bit.
    """
    for network in networks:
        part = getattr(network, "compiled_part", network)
        if wanted and part is not None:
            part.compile()
