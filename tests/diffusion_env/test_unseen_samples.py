"""Samples that the critic has not seen: collected until they fill a batch, given away once, saved and loaded."""

import pytest
import torch
from torch import Tensor

from diffusion_env.unseen_samples import CRITIC_BATCH, UnseenSamples, num_updates

CPU = torch.device("cpu")


def states(count: int, kept: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(kept, count, 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kept", [1, 4])
def test_a_batch_is_given_once_it_is_full_and_in_order(kept: int) -> None:
    unseen = UnseenSamples()
    parts = [states(count, kept, seed=count) for count in (50, 77, 1)]
    for part in parts[:2]:
        unseen.add(part)
        assert unseen.take_batch() is None
    assert len(unseen) == CRITIC_BATCH - 1
    unseen.add(parts[2])
    batch = unseen.take_batch()
    assert batch is not None and torch.equal(batch, torch.cat(parts, dim=1))
    assert len(unseen) == 0 and unseen.take_batch() is None


def test_more_than_a_batch_is_given_whole() -> None:
    unseen = UnseenSamples()
    unseen.add(states(3 * CRITIC_BATCH + 1))
    batch = unseen.take_batch()
    assert batch is not None and batch.shape == (1, 3 * CRITIC_BATCH + 1, 2)


def test_clear() -> None:
    unseen = UnseenSamples()
    unseen.add(states(CRITIC_BATCH))
    unseen.clear()
    assert len(unseen) == 0 and unseen.take_batch() is None


def test_state_and_load_copy() -> None:
    unseen, resumed = UnseenSamples(), UnseenSamples()
    first, second = states(100), states(28, seed=1)
    unseen.add(first)
    saved = unseen.state()
    resumed.load(saved, CPU, (2,))
    saved[0][:] = 0  # must change neither object
    for each in (unseen, resumed):
        each.add(second)
        batch = each.take_batch()
        assert batch is not None and torch.equal(batch, torch.cat([first, second], dim=1))


@pytest.mark.parametrize(
    "saved", [[states(5)[..., :1]], [states(5), states(5, kept=2)], [states(5)[0]]], ids=["event", "kept", "rank"]
)
def test_saved_samples_of_another_shape_are_refused(saved: list[Tensor]) -> None:
    with pytest.raises(ValueError, match=r"must be \(n, M, 2\) with one n"):
        UnseenSamples().load(saved, CPU, (2,))


@pytest.mark.parametrize("other", [torch.zeros(2, 5, 2), torch.zeros(1, 5, 3), torch.zeros(1, 5)])
def test_mixed_shapes_are_a_fault(other: Tensor) -> None:
    unseen = UnseenSamples()
    unseen.add(states(5))
    with pytest.raises(AssertionError):
        unseen.add(other)


@pytest.mark.parametrize("num_envs", [16, 128, 1024])
def test_updates_for_all_samples_do_not_depend_on_how_many_finish_at_once(num_envs: int) -> None:
    unseen, updates = UnseenSamples(), 0
    for _ in range(8 * 1024 // num_envs):
        unseen.add(states(num_envs))
        batch = unseen.take_batch()
        updates += 0 if batch is None else num_updates(batch.shape[1])
    assert updates == 8 * 1024 // CRITIC_BATCH
    assert [num_updates(n) for n in (1, 127, 129, 200, 383, 385)] == [1, 1, 1, 2, 3, 3]
