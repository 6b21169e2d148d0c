"""Many seeds at once end where runs of their own end, name the one that fails, and refuse what they cannot do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.algorithms.policy_gradient import SFTPG
from agents.algorithms.presets import EVERY_K, PRESETS
from agents.core.ipm_agent import IPMAgent
from agents.core.many import ManySeeds
from diffusion_env.critics import EnergyCritic

MakeAgent = Callable[..., IPMAgent]
SmallConfig = Callable[..., Any]
Everything = Callable[[IPMAgent], dict[str, Any]]
SEEDS = (3, 5, 8)
ITERATION = 2 * 3 * 8  # environment steps of make_agent's defaults


@pytest.fixture
def agents(make_agent: MakeAgent, small_config: SmallConfig) -> Callable[..., list[IPMAgent]]:
    """``agents(algo, num_steps, num_envs, **changes)``: an agent for each of SEEDS."""

    def make(algo: str = "sft_pg", num_steps: int = 3, num_envs: int = 8, **changes: Any) -> list[IPMAgent]:
        config = small_config(algo, **changes)
        return [make_agent(config, num_steps, num_envs, seed, algo=PRESETS[algo].agent) for seed in SEEDS]

    return make


def unlike(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """The share of the weights that differ by more than 1e-5 between two snapshots.

    It need not be 0: where rounding turns the sign of a gradient that is almost 0, Adam moves the weight the other way.
    Other numbers must be equal, or near; the critic's metrics that the environment keeps are left out.
    """
    far = total = 0
    for name, other in theirs.items():
        one, weights = ours.get(name), "optimizer" not in name and "samples" not in name
        if isinstance(one, Tensor) and one.is_floating_point() and weights:
            far += int((one - other).abs().gt(1e-5).sum())
            total += one.numel()
        elif isinstance(one, Tensor) and one.is_floating_point():
            torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3, msg=name)
        elif "critic_metrics" not in name:
            assert torch.equal(one, other) if isinstance(one, Tensor) else one == other, name
    return far / total


ROUNDING = 1e-3
"""The share of weights that may differ."""

WITH_K = {name: EVERY_K[name] for name in ("n_critic_exponent", "learning_rate_exponent")}
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "value baseline": ("sft_pg", {"baseline": "value"}),
    "learned std": ("sft_pg", {"std": "learned", "deployed_std": "mean", "min_std": 0.1}),
    "derivative as reward": ("sft_pg", {"baseline": "stein", "reward": "derivative"}),
    "grpo": ("grpo", {}),
    "pathwise": ("pathwise", {"max_grad_norm": 0.01}),
    "dxdp": ("dxdp", {"n_generator": 2}),
    "policy gradient, K = 1": ("sft_pg", {**WITH_K, "num_steps": 1}),
    "policy gradient, K = 3, parts of a rollout": ("sft_pg", {**WITH_K, "num_envs": 200}),
    "pathwise, K = 1, parts of a rollout": ("pathwise", {**WITH_K, "num_steps": 1, "num_envs": 200}),
    "pathwise, K = 3": ("pathwise", WITH_K),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_every_seed_ends_where_a_run_of_its_own_ends(
    agents: Callable[..., list[IPMAgent]], everything: Everything, case: str
) -> None:
    algo, changes = OPTIONS[case]
    alone, together = agents(algo, **changes), agents(algo, **changes)
    budget = 3 * alone[0].iteration_timesteps
    many = ManySeeds(together).learn(budget)
    found = []
    for agent in alone:
        agent.learn(budget)
        found.append(everything(agent))
    ours = [everything(agent) for agent in together]
    assert max(unlike(a, b) for a, b in zip(ours, found, strict=True)) < ROUNDING
    value = [{name: tensor for name, tensor in one.items() if "/value/" in name} for one in ours]
    assert min(unlike(value[0], other) for other in value[1:]) > 0.9  # negative control: seeds differ
    loss = many.metrics["train/loss"]
    assert isinstance(loss, Tensor)
    alone_loss = [agent.metrics["train/loss"] for agent in alone if agent.metrics is not None]
    torch.testing.assert_close(loss, torch.tensor(alone_loss), rtol=1e-3, atol=1e-5)


def test_between_calls_the_agents_are_ordinary_ones(
    agents: Callable[..., list[IPMAgent]], everything: Everything, tmp_path: Path
) -> None:
    together, alone = agents(), agents()
    ManySeeds(together).learn(ITERATION)
    ManySeeds(together).learn(ITERATION, reset_num_timesteps=False)
    path = together[1].save(tmp_path / "one")
    loaded = SFTPG.load(path, env_kwargs=together[1].env_kwargs | {"critic": EnergyCritic((2,), width=16)})
    for agent in (loaded, together[1]):
        agent.learn(ITERATION, reset_num_timesteps=False)
    for _ in range(3):
        alone[1].learn(ITERATION, reset_num_timesteps=False)
    ours = everything(together[1])
    assert max(unlike(ours, everything(loaded)), unlike(ours, everything(alone[1]))) < ROUNDING


@pytest.mark.parametrize(("part", "message"), [("value", "value_loss of seed 5"), ("policy", "critic_loss of seed 5")])
def test_the_seed_that_fails_is_named_and_the_others_go_on(
    agents: Callable[..., list[IPMAgent]], part: str, message: str
) -> None:
    together = agents()
    many = ManySeeds(together).learn(ITERATION)
    with torch.no_grad():
        for weight in getattr(together[1], part).parameters():
            weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=rf"{message} became nan in iteration 1\..*keep the state"):
        many.learn(ITERATION, reset_num_timesteps=False)
    others = [agent for agent in many.agents if agent.seed != 5]
    assert all(weight.isfinite().all() for agent in others for weight in agent.policy.parameters())
    ManySeeds(others).learn(ITERATION, reset_num_timesteps=False)
    assert all(agent.sample(8).isfinite().all() for agent in others)
