"""Scoring without a gradient: large batches in pieces, with the scores of one batch."""

import pytest
import torch
from torch import Tensor

from diffusion_env.critics import EnergyCritic
from diffusion_env.critics.trained import PIECE


@pytest.mark.parametrize("n", [0, 1, PIECE, PIECE + 1, 3 * PIECE + 5])
def test_pieces_give_the_scores_of_the_whole(n: int) -> None:
    critic, sizes = EnergyCritic((2, 3)), []
    critic.network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    x = torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(0))
    whole = critic(x)
    assert sizes == [n] and whole.requires_grad  # training takes a batch as it is
    with torch.no_grad():
        scores: Tensor = critic(x)
    assert sum(sizes[1:]) == n and max(sizes[1:]) <= PIECE
    assert scores.shape == (n,)
    torch.testing.assert_close(scores, whole.detach(), rtol=1e-5, atol=1e-6)


def test_other_batch_shapes() -> None:
    critic, x = EnergyCritic((2,)), torch.randn(2, PIECE + 1, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(critic(x), torch.stack([critic(x[0]), critic(x[1])]), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(critic(x[0, 0]), critic(x[0])[0], rtol=1e-5, atol=1e-6)
