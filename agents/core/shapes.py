"""The check of pure functions: every argument has the one shape that the docstring names, and nothing is broadcast."""

from __future__ import annotations

from torch import Tensor


def check_shapes(**arguments: tuple[Tensor, str]) -> None:
    """ValueError unless each tensor has its shape: ``check_shapes(value=(value, "K n"), score=(score, "n"))``.

    A letter stands for one size wherever it occurs; ``"..."`` is any shape, the same wherever it occurs.
    """
    sizes: dict[str, object] = {}
    for name, (tensor, letters) in arguments.items():
        names, shape = letters.split(), tuple(tensor.shape)
        found = [("...", shape)] if names == ["..."] else list(zip(names, shape, strict=False))
        if (names != ["..."] and len(names) != tensor.ndim) or any(sizes.setdefault(n, s) != s for n, s in found):
            received = ", ".join(f"{other} {tuple(t.shape)}" for other, (t, _) in arguments.items())
            allowed = ", ".join(f"{other} ({', '.join(text.split())})" for other, (_, text) in arguments.items())
            raise ValueError(
                f"The shape of {name} does not fit. Received {received}; allowed are {allowed}, where one letter is "
                "one size everywhere. Nothing is broadcast here: expand or flatten the tensors first."
            )
