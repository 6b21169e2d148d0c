"""The check of shapes: what fits, what does not, and what the error says."""

import pytest
import torch

from agents.core.shapes import check_shapes

MATRIX, VECTOR = torch.zeros(3, 5), torch.zeros(5)


def test_a_letter_is_one_size() -> None:
    check_shapes(value=(MATRIX, "K n"), score=(VECTOR, "n"), other=(MATRIX, "K n"))
    check_shapes(square=(torch.zeros(2, 2), "n n"), number=(torch.tensor(1.0), ""))
    check_shapes(a=(MATRIX, "..."), b=(MATRIX, "..."), c=(VECTOR, "n"))


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ({"value": (MATRIX, "K n"), "score": (torch.zeros(4), "n")}, "score"),
        ({"value": (MATRIX, "K n"), "score": (torch.zeros(3, 1), "K n")}, "score"),  # would broadcast
        ({"value": (VECTOR, "K n")}, "value"),
        ({"value": (MATRIX, "n")}, "value"),
        ({"value": (VECTOR, "")}, "value"),
        ({"square": (MATRIX, "n n")}, "square"),
        ({"a": (MATRIX, "..."), "b": (VECTOR, "...")}, "b"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, tuple[torch.Tensor, str]], culprit: str) -> None:
    with pytest.raises(ValueError, match=f"The shape of {culprit} does not fit.*Nothing is broadcast"):
        check_shapes(**arguments)


def test_the_error_says_what_was_received_and_what_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"Received value \(3, 5\), score \(4,\); allowed are value \(K, n\), score"):
        check_shapes(value=(MATRIX, "K n"), score=(torch.zeros(4), "n"))
