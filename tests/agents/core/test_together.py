"""What ranks must have alike; `test_ranks.py` shows the refusals in two processes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from agents.core.ipm_agent import IPMAgent
from agents.core.ranks import ALONE, Ranks
from agents.core.together import beginning, check_parts, check_resumable, weights_digest
from diffusion_env.critics import make_critic
from diffusion_env.data.dataset import Dataset
from tests.support import normal, small_network


def test_parts_are_equal() -> None:
    check_parts(ALONE, 5, None)
    check_parts(Ranks(1, 4), 8, 0)
    with pytest.raises(ValueError, match="must be a multiple of the 4 ranks; received 6"):
        check_parts(Ranks(0, 4), 6, 0)
    with pytest.raises(ValueError, match="There are 4 ranks, which must start from the same weights: give a seed"):
        check_parts(Ranks(0, 4), 8, None)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("the data", {"dataset": Dataset("gaussian", normal(60, 2), normal(20, 2), torch.zeros(2), 1.0)}),
        ("the options", {"num_envs": 16}),
        ("the pretrained network", {"denoiser": small_network(seed=1)}),
        ("the critic", {"critic": make_critic("energy", (2,), seed=1, kwargs={"width": 16})}),
    ],
)
def test_whatever_differs_is_named(make_agent: Callable[..., IPMAgent], name: str, changes: dict[str, Any]) -> None:
    def critic() -> Any:
        return make_critic("energy", (2,), kwargs={"width": 16})

    one, again = (beginning(make_agent(critic=critic())) for _ in range(2))
    other = beginning(make_agent(**{"critic": critic(), **changes}))
    assert one == again
    assert [key for key in one if one[key] != other[key]] == [name]


def test_the_value_functions_weights_count(make_agent: Callable[..., IPMAgent]) -> None:
    agent = make_agent()
    before = beginning(agent)["the value function"]
    next(agent.value.parameters()).data.view(-1)[0] += 1
    assert beginning(agent)["the value function"] != before


def test_any_type_of_weight_has_a_digest() -> None:
    network = small_network().to(torch.bfloat16)
    assert weights_digest(network) != weights_digest(small_network())


def test_a_run_is_resumed_by_as_many_ranks() -> None:
    check_resumable(2, 2)
    with pytest.raises(ValueError, match=r"saved by 2 rank\(s\), and now there are 3.*torchrun --nproc_per_node=2 -m"):
        check_resumable(2, 3)
    with pytest.raises(ValueError, match=r"with as many as before: ddpm-shortcut train --resume FOLDER"):
        check_resumable(1, 2)
