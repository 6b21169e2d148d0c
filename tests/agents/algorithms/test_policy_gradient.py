"""The score-function family: its loss by hand, and every option beside every other."""

from collections.abc import Callable
from itertools import combinations, product
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from agents.algorithms.config import Baseline, Normalization, PolicyGradientConfig, StepWeight, Surrogate
from agents.core.config import AgentConfig, Std
from agents.core.rollout import Trajectories

MakeAgent = Callable[..., Any]
SmallConfig = Callable[..., AgentConfig]

# --- the loss by hand ------------------------------------------------------------------------------------------------


def distribution(agent: Any, net: Any, x: Tensor, std: Tensor) -> Independent:
    """The law of all steps at once, from the table's columns; x (K, n, 2), std (K,)."""
    t = agent.envs.table
    eps = torch.stack([net(x[k], t.time[k]) for k in range(len(x))])
    mean = t.x_coef.view(-1, 1, 1) * x + t.eps_coef.view(-1, 1, 1) * eps
    return Independent(Normal(mean, std.view(-1, 1, 1)), 1)


def moved_agent(make_agent: MakeAgent, config: AgentConfig) -> tuple[Any, Trajectories]:
    """An agent whose sampler, stds included, has moved since its rollout."""
    agent = make_agent(config, critic=lambda x: x[..., 0].sin()).learn(1)
    batch = agent.rollout()
    with torch.no_grad():
        for i, weight in enumerate(agent.policy.parameters()):
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(i))
    return agent, batch


SURROGATES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "score": lambda now, then, a: now * a,
    "clip": lambda now, then, a: torch.minimum((now - then).exp() * a, (now - then).exp().clamp(0.9, 1.1) * a),
    "regression": lambda now, then, a: now * a,
}


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("step_weight", ["uniform", "equal"])
def test_the_loss_is_the_formula_of_its_options(
    make_agent: MakeAgent, small_config: SmallConfig, surrogate: str, step_weight: str
) -> None:
    options = {"surrogate": surrogate, "step_weight": step_weight, "baseline": "group", "group_size": 4}
    config = small_config("sft_pg", **options, std="learned", kl_coef=0.3, clip_range=0.1, temperature=0.5)
    agent, batch = moved_agent(make_agent, config)
    score, table = batch.x0[:, 0].sin(), agent.envs.table
    a = (score.view(2, 4) - score.view(2, 4).mean(1, keepdim=True)).flatten().expand(3, 8)
    if surrogate == "regression":
        a = (2 * a).exp() / (2 * a).exp().mean()
    std = table.std * agent.policy.log_std_ratio.exp()
    w = std.detach() / table.eps_coef.abs() if step_weight == "equal" else torch.ones(3)
    law = distribution(agent, agent.policy.net, batch.xs[:-1], std)
    gain = SURROGATES[surrogate](law.log_prob(batch.xs[1:]), batch.scored, a * (w / w.mean()).unsqueeze(1))
    kl = kl_divergence(law, distribution(agent, agent.pretrained, batch.xs[:-1], table.std))
    expected = -gain.mean() + 0.3 * kl.mean()

    loss, metrics = agent.policy_loss(batch, agent.advantages(batch), False)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-3)
    assert float(metrics["kl_penalty"]) == pytest.approx(float(kl.mean().detach()), rel=1e-3)
    weights = list(agent.policy.parameters())
    for found, exact in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(expected, weights), strict=True):
        assert torch.allclose(found, exact, rtol=1e-2, atol=1e-3 * float(exact.abs().max()))


def test_without_a_baseline_the_advantage_is_the_environment_s_return(
    make_agent: MakeAgent, small_config: SmallConfig
) -> None:
    agent = make_agent(small_config("reinforce"), algo="reinforce", num_envs=2_000, critic=lambda x: x[..., 0]).learn(1)
    batch = agent.rollout()
    offset = batch.x0[:, 0] - agent.advantages(batch)
    assert offset.shape == (3, 2_000) and float(offset.std()) < 1e-6  # one number for all
    assert float(offset.mean()) == pytest.approx(1.0, abs=5 * 0.5 / 2_000**0.5)  # the data's mean


@pytest.mark.parametrize(("normalization", "groups"), [("batch", 1), ("group", 2)])
def test_advantages_are_normalised_over_what_is_asked(
    make_agent: MakeAgent, small_config: SmallConfig, normalization: str, groups: int
) -> None:
    config = small_config("sft_pg", advantage_normalization=normalization, group_size=4, advantage_std_floor=1e-9)
    agent = make_agent(config).learn(1)
    advantage = agent.advantages(agent.rollout())
    parts = advantage.reshape(1, -1) if groups == 1 else advantage.view(6, 4)
    assert torch.allclose(parts.mean(-1), torch.zeros(len(parts)), atol=1e-4)
    assert torch.allclose(parts.std(-1, correction=0), torch.ones(len(parts)), rtol=1e-3)


# --- every option beside every other ---------------------------------------------------------------------------------

OPTIONS: dict[str, tuple[Any, ...]] = {
    "baseline": get_args(Baseline),
    "surrogate": get_args(Surrogate),
    "kl_coef": (0.0, 0.1),
    "advantage_normalization": get_args(Normalization),
    "std": get_args(Std),
    "step_weight": get_args(StepWeight),
    "minibatch_size": (None, 7),
    "group_size": (None, 4),
}


def pairs(row: dict[str, Any]) -> set[Any]:
    return set(combinations(row.items(), 2))


def allowed(row: dict[str, Any]) -> bool:
    try:
        PolicyGradientConfig(**row)
    except ValueError:
        return False
    return True


def pairwise() -> list[dict[str, Any]]:
    """Few configurations in which every two values of two options meet, where the two are allowed together."""
    rows = [dict(zip(OPTIONS, values, strict=True)) for values in product(*OPTIONS.values())]
    rows = [row for row in rows if allowed(row)]
    met = [pairs(row) for row in rows]
    left, chosen = set.union(*met), list[dict[str, Any]]()
    while left:
        best = max(range(len(rows)), key=lambda i: len(met[i] & left))
        chosen.append(rows[best])
        left -= met[best]
    return chosen


GRID = pairwise()


def test_the_grid_is_small_and_misses_no_value() -> None:
    assert len(GRID) <= 20
    assert all({row[name] for row in GRID} == set(values) for name, values in OPTIONS.items())


@pytest.mark.parametrize("options", GRID, ids=lambda row: "-".join(map(str, row.values())))
def test_options_are_orthogonal(
    make_agent: MakeAgent, small_config: SmallConfig, record: Callable[..., Any], options: dict[str, Any]
) -> None:
    agent = make_agent(small_config("sft_pg", **options, n_generator=2), num_steps=2)
    lines, before = record(agent), agent.sample(9, seed=0)
    agent.learn(2 * 2 * 2 * 8, log_interval=1)
    assert len(lines) == 2 and all(np.isfinite(list(line.values())).all() for line in lines), lines
    assert [line["sanity/ratio"] + line["sanity/gradient"] for line in lines] == [0, 0]
    assert ("train/kl_penalty" in lines[0]) is (options["kl_coef"] > 0)
    assert ("train/clip_fraction" in lines[0]) is (options["surrogate"] == "clip")
    assert ("train/value_loss" in lines[0]) is (options["baseline"] in ("value", "stein"))
    assert not torch.equal(agent.sample(9, seed=0), before)
    assert (agent.policy.log_std_ratio is not None and bool(agent.policy.log_std_ratio.any())) is (
        options["std"] == "learned"
    )
