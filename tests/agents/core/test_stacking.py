"""Which agents can be stacked, and the sentence that refuses the others; optimizers go into a stack and come back."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.algorithms.policy_gradient import SFTPG
from agents.core.ipm_agent import IPMAgent
from agents.core.losses import Loss
from agents.core.many import ManySeeds
from agents.core.rollout import Trajectories
from agents.core.stacking import stacked_adam, unstack_adam
from diffusion_env.critics import EnergyCritic
from tests.support import normal

MakeAgent = Callable[..., IPMAgent]
SmallConfig = Callable[..., Any]


class OwnStep(SFTPG):
    def after_step(self) -> None:
        """Leave the average as it is."""


class Draws(SFTPG):
    """Draws in its loss, by its own generator."""

    def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
        loss = torch.randn((), generator=self.generator) * self.policy(batch.xs[:-1], self.steps).mean.mean()
        return loss, {}


class ReadsNoise(Draws):
    """The same from a method that can be asked once for each seed."""

    def noise(self, batch: Trajectories) -> Tensor:
        """One number for all, ()."""
        return torch.randn((), generator=self.generator)

    def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
        return self.noise(batch) * self.policy(batch.xs[:-1], self.steps).mean.mean(), {}


def test_random_numbers_come_from_the_method_noise(small_kwargs: dict[str, object]) -> None:
    def made(kind: type[IPMAgent]) -> list[IPMAgent]:
        return [kind(num_envs=4, env_kwargs=small_kwargs, seed=seed) for seed in range(2)]

    with pytest.raises(ValueError, match=r"draws random numbers .* Give its class a method noise\(batch\)"):
        ManySeeds(made(Draws)).learn(1)
    many, alone = ManySeeds(made(ReadsNoise)).learn(1), made(ReadsNoise)
    for agent, other in zip(many.agents, alone, strict=True):
        other.learn(1)
        torch.testing.assert_close(agent.sample(8, seed=0), other.sample(8, seed=0), rtol=1e-4, atol=1e-5)


REFUSED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "minibatch": (r"minibatch_size is 4, not None", "sft_pg", {"minibatch_size": 4}),
    "no value baseline": (r"baseline is 'none', not 'value' or 'stein' or 'group'", "sft_pg", {"baseline": "none"}),
    "compiled": (r"compile is True, not False", "sft_pg", {"compile": True}),
    "checkpointing": (r"gradient_checkpointing is True", "pathwise", {"gradient_checkpointing": True}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_configurations_that_cannot_be_stacked(
    make_agent: MakeAgent, small_config: SmallConfig, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    message, algo, changes = REFUSED[case]
    monkeypatch.setattr(torch, "compile", lambda call: call)  # its first call takes seconds
    with pytest.raises(ValueError, match=rf"{message}.*Supported are SFTPG"):
        ManySeeds([make_agent(small_config(algo, **changes), algo=algo)])


@pytest.mark.parametrize("critic", ["gradient_penalty", "spectral_norm", "weight_clipping", "baseline", "mmd"])
def test_critics_that_cannot_be_stacked(make_agent: MakeAgent, critic: str) -> None:
    with pytest.raises(ValueError, match=rf"its critic '{critic}' is not trained by its loss alone"):
        ManySeeds([make_agent(critic=critic)])


def test_agents_that_cannot_be_stacked(make_agent: MakeAgent, small_kwargs: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="received no agent"):
        ManySeeds([])
    with pytest.raises(ValueError, match="OwnStep cannot be trained for many seeds at once: it has its own after_step"):
        ManySeeds([OwnStep(env_kwargs=small_kwargs, num_envs=4, seed=0)])
    with pytest.raises(ValueError, match="is not trained by its loss alone"):
        ManySeeds([make_agent(train_critic=False)])
    critic = EnergyCritic((2,), width=16)
    with pytest.raises(ValueError, match="share one critic"):
        ManySeeds([make_agent(seed=seed, critic=critic) for seed in range(2)])


@pytest.mark.parametrize(
    ("name", "change"),
    [("class", {"algo": "dpok"}), ("num_envs", {"num_envs": 4}), ("env_kwargs", {"num_steps": 2}), ("config", {})],
)
def test_agents_that_differ_in_more_than_the_seed(
    make_agent: MakeAgent, small_config: SmallConfig, name: str, change: dict[str, Any]
) -> None:
    config = small_config("sft_pg")
    other = config if change else replace(config, n_critic=1)
    with pytest.raises(ValueError, match=f"received {name} = "):
        ManySeeds([make_agent(config), make_agent(other, **change)])


def test_agents_that_were_not_trained_equally_long(make_agent: MakeAgent) -> None:
    together = [make_agent(seed=seed) for seed in range(2)]
    together[0].learn(48)
    with pytest.raises(ValueError, match="received num_timesteps = 48 and 0"):
        ManySeeds(together)


def test_a_stacked_optimizer_makes_the_steps_of_single_ones() -> None:
    def made() -> tuple[list[nn.Parameter], list[torch.optim.Adam]]:
        weights = [nn.Parameter(normal(4, 2, seed=seed)) for seed in (0, 1)]
        return weights, [torch.optim.Adam([weight], lr=0.1, betas=(0.5, 0.9), fused=True) for weight in weights]

    def step(weight: nn.Parameter, adam: torch.optim.Adam) -> None:
        adam.zero_grad()
        (weight**4).sum().backward()
        adam.step()

    (alone, theirs), (weights, ours) = made(), made()
    for weight, adam in [*zip(alone, theirs, strict=True), *zip(weights, ours, strict=True)]:
        step(weight, adam)
    stacked = nn.Parameter(torch.stack([weight.detach() for weight in weights]))
    together = stacked_adam(ours, {weights[0]: stacked})
    step(stacked, together)
    for s, (weight, adam) in enumerate(zip(alone, theirs, strict=True)):
        step(weight, adam)
        assert torch.equal(stacked[s], weight)
        unstack_adam(together, ours[s], s)
        found, wanted = ours[s].state[weights[s]], adam.state[weight]
        assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert not torch.equal(stacked[0], stacked[1])
