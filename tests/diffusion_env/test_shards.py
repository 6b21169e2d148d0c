"""Parts of a batch: together they are the whole, whatever it is cut into."""

import pytest
import torch

from diffusion_env.data.dataset import Dataset
from diffusion_env.shards import WHOLE, Shard
from tests.support import make_process, normal, seeded

SIZE = 3
SHARDS = [Shard(rank, SIZE) for rank in range(SIZE)]


def test_a_whole_is_given_back_as_it_is() -> None:
    values = normal(4, 2)
    assert WHOLE.own(values) is WHOLE.mean(values) is WHOLE.gather(values) is values
    assert torch.equal(WHOLE.normal((4, 2), seeded(0)), values)
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()
    WHOLE.reduce_gradients([weight])
    assert weight.grad is not None and weight.grad.tolist() == [1, 1]


@pytest.mark.parametrize("dim", [0, 1])
def test_the_parts_are_the_batch_that_one_process_draws(dim: int) -> None:
    shape = (6, 2, 5) if dim == 0 else (2, 6, 5)
    part = tuple(n // SIZE if i == dim else n for i, n in enumerate(shape))
    parts = [shard.normal(part, seeded(4), dim=dim) for shard in SHARDS]
    assert torch.equal(torch.stack(parts, dim + 1).flatten(dim, dim + 1), normal(*shape, seed=4))


def test_first_parts_of_parts_are_the_first_part_of_the_whole() -> None:
    whole = torch.arange(12)
    firsts = torch.cat([shard.own(whole)[:2] for shard in SHARDS])
    assert sorted(firsts.tolist()) == [0, 1, 2, 3, 4, 5]


def test_what_cannot_be_shared_out_equally_belongs_to_nobody() -> None:
    assert [shard.own(torch.arange(8)).tolist() for shard in SHARDS] == [[0, 3], [1, 4], [2, 5]]


def test_a_process_holds_its_part_of_starts_and_data() -> None:
    points = normal(40, 2)
    data = Dataset("points", points[:30], points[30:], torch.zeros(2), 1.0)
    whole = make_process(data, num_envs=6)
    expected = whole.reset(), whole.data_batch(), whole.data_batch(9), whole.generator.get_state()
    for shard in SHARDS:
        process = make_process(data, num_envs=2)
        process.shard = shard
        found = process.reset(), process.data_batch(), process.data_batch(9), process.generator.get_state()
        assert all(torch.equal(a, shard.own(b)) for a, b in zip(found[:3], expected[:3], strict=True))
        assert torch.equal(found[3], expected[3])


def test_mirrored_images_are_those_of_the_whole() -> None:
    images = torch.randint(256, (20, 1, 4, 4), generator=seeded(1), dtype=torch.uint8)
    data = Dataset.of_images("images", images[:16], images[16:], flips=True)
    whole = data.sample(9, seeded(2))
    assert all(torch.equal(data.sample(9, seeded(2), shard=shard), shard.own(whole)) for shard in SHARDS)
