"""Streams of random numbers: fixed by seed and name, and shared by nothing else."""

import pytest
import torch

from diffusion_env.seeds import STREAMS, stream, stream_seed


def test_no_two_streams_of_any_seed_are_one() -> None:
    found = {stream_seed(seed, name) for seed in range(2_000) for name in STREAMS}
    assert len(found) == 2_000 * len(STREAMS)
    assert all(0 <= seed < 2**63 for seed in found)
    assert not found & set(range(100_000))  # nor is one a seed that a user would type


def test_numbers_of_branches_differ() -> None:
    assert len(set(STREAMS.values())) == len(STREAMS)


def test_neighbouring_seeds_share_no_numbers() -> None:
    drawn = [
        torch.randn(10_000, generator=stream(seed, name)) for seed in (0, 1, 2) for name in ("rollout", "sampling")
    ]
    assert len(torch.cat(drawn).unique()) > 0.99 * 60_000
    correlation = torch.corrcoef(torch.stack(drawn)) - torch.eye(6)
    assert correlation.abs().max() < 0.05


def test_a_stream_is_fixed_by_seed_and_name() -> None:
    assert torch.equal(*(torch.randn(5, generator=stream(7, "weights")) for _ in range(2)))
    assert stream_seed(0, "weights") != stream_seed(1, "weights") != stream_seed(1, "rollout")
    assert len({stream_seed(0, "logging", index) for index in range(1_000)}) == 1_000


@pytest.mark.parametrize("seed", [2**40, 2**63 - 1])
def test_large_seeds_are_seeds(seed: int) -> None:
    assert stream_seed(seed, "rollout") != stream_seed(seed - 1, "rollout")


def test_an_unknown_name_is_an_error_of_the_program() -> None:
    with pytest.raises(KeyError, match="noise"):
        stream_seed(0, "noise")
