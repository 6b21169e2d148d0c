"""An algorithm that is not ours: a subclass of the agent in one file, with ``policy_loss`` and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from agents import DDPO, SFTPG, IPMAgent, Pathwise, PathwiseConfig, PolicyGradientConfig
from agents.core.config import AgentConfig
from agents.core.learning import prepare
from agents.core.losses import Loss
from agents.core.policy import DenoisingPolicy
from agents.core.rollout import Trajectories, collect
from diffusion_env.checkpoints import CheckpointError

Task = dict[str, object]
CONFIG = AgentConfig(n_critic=2, value_width=16, value_depth=1, ema_decay=0.5)
ITERATION = 2 * 2 * 8


class MyPG(IPMAgent):
    """REINFORCE with the value baseline."""

    def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
        law = self.policy(batch.xs[:-1], self.steps)
        loss = -(advantage * law.log_prob(batch.xs[1:])).mean()
        return loss, {"policy_gradient_loss": loss.detach()}


def new(task: Task, cls: type[IPMAgent] = MyPG, config: Any = CONFIG) -> IPMAgent:
    return cls(config=config, num_envs=8, env_kwargs=task, seed=0)


class SaveAfterTheFirst(BaseCallback):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def _on_rollout_end(self) -> None:
        if self.num_timesteps == ITERATION:
            self.model.save(self.path)

    def _on_step(self) -> bool:
        return True


def test_it_has_a_name_a_configuration_and_a_loss(
    small_kwargs: Task, everything: Callable[..., Any], differences: Callable[..., list[str]], tmp_path: Path
) -> None:
    assert MyPG.name == "MyPG" and MyPG.config_class is AgentConfig and MyPG.default_config() == AgentConfig()
    agent = new(small_kwargs)
    before = agent.sample(9, seed=0)
    assert agent.learn(2 * ITERATION, SaveAfterTheFirst(tmp_path / "first"), log_interval=1) is agent
    assert agent.iteration == 2 and agent.num_timesteps == 2 * ITERATION
    assert not torch.equal(agent.sample(9, seed=0), before)
    loaded = MyPG.load(tmp_path / "first", trust_paths=True)
    assert loaded.iteration == 1 and loaded.config == CONFIG
    whole = everything(agent)
    assert len(differences(everything(loaded), whole)) > 15  # negative control: there is an iteration left
    assert differences(everything(MyPG.load(tmp_path / "first", trust_paths=True).resume()), whole) == []


def test_the_default_advantage_is_the_score_less_its_value(small_kwargs: Task) -> None:
    agent = new(small_kwargs).learn(1)
    batch = agent.rollout()
    with torch.no_grad():
        expected = agent.critic(batch.x0) - agent.value(batch.xs[:-1], agent.steps)
    found = agent.advantages(batch)
    assert found is not None and torch.equal(found, expected) and not found.requires_grad


def test_it_learns_what_a_fixed_reward_asks(small_kwargs: Task) -> None:
    task = {**small_kwargs, "critic": lambda x: x[..., 0], "train_critic": False}
    config = AgentConfig(n_critic=1, learning_rate=3e-3, ema_decay=0.0)

    def moved(cls: type[IPMAgent]) -> float:
        agent = cls(config=config, num_envs=64, env_kwargs=task, seed=0)
        before = agent.sample(500, seed=1)
        agent.learn(40 * 2 * 64)
        return float((agent.sample(500, seed=1) - before)[:, 0].mean())

    class Upside(MyPG):
        def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
            loss, metrics = super().policy_loss(batch, advantage, first)
            return -loss, metrics

    assert moved(MyPG) > 0.1 and moved(Upside) < -0.1  # negative control: the other sign


def test_an_agent_without_a_loss_says_what_to_write(small_kwargs: Task) -> None:
    class Empty(IPMAgent):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty has no loss on theta. Write policy_loss\(self, batch"):
        new(small_kwargs, Empty)


@dataclass(frozen=True)
class Smaller:
    n_critic: int = 5


def test_another_order_altogether_is_an_iterate(small_kwargs: Task) -> None:
    class Watch(IPMAgent):
        needs_density = False

        def iterate(self) -> dict[str, float | Tensor]:
            self.newest = self.rollout()
            return {**self.update_critic(self.newest)}

    agent = new(small_kwargs, Watch).learn(2 * 2 * 8)
    assert agent.iteration == 2 and agent.num_timesteps == 32
    assert torch.equal(agent.sample(5, seed=0), new(small_kwargs, Watch).sample(5, seed=0))  # theta was left alone


def test_another_class_is_not_loaded_into_it(small_kwargs: Task, tmp_path: Path) -> None:
    path = new(small_kwargs).save(tmp_path / "mine")
    with pytest.raises(CheckpointError, match="holds 'MyPG', but a 'sft_pg' was to be loaded"):
        SFTPG.load(path)

    class Namesake(IPMAgent):
        name, config_class = "MyPG", PathwiseConfig
        policy_loss = MyPG.policy_loss

    changed = MyPG(config=AgentConfig(), num_envs=8, env_kwargs=small_kwargs, seed=0).save(tmp_path / "changed")
    assert Namesake.load(changed, trust_paths=True).config == PathwiseConfig()  # the fields it knows

    Namesake.config_class = Smaller  # type: ignore[assignment]
    with pytest.raises(CheckpointError, match=r"configuration in .* does not hold the fields of Smaller"):
        Namesake.load(changed, trust_paths=True)


@pytest.mark.parametrize(
    ("cls", "config", "message"),
    [
        (SFTPG, PathwiseConfig(), "SFTPG takes a PolicyGradientConfig; received a PathwiseConfig"),
        (DDPO, AgentConfig(), "DDPO takes a PolicyGradientConfig; received a AgentConfig"),
        (Pathwise, PolicyGradientConfig(), "Pathwise takes a PathwiseConfig; received a PolicyGradientConfig"),
        (MyPG, PolicyGradientConfig(), "MyPG takes a AgentConfig; received a PolicyGradientConfig"),
        (MyPG, {"n_critic": 2}, r"MyPG takes a AgentConfig; received a dict.*write AgentConfig\(\*\*config\)"),
    ],
)
def test_another_algorithm_s_configuration_is_refused(
    small_kwargs: Task, cls: type[IPMAgent], config: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        new(small_kwargs, cls, config)


# --- the other joints ------------------------------------------------------------------------------------------------


class FromTheAverage(MyPG):
    """Its rollouts come from the averaged policy, and it saves a count of its own."""

    class Counter:
        def __init__(self) -> None:
            self.steps = 0

        def state_dict(self) -> dict[str, int]:
            return {"steps": self.steps}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.steps = state["steps"]

    def build(self, generator: torch.Generator) -> None:
        super().build(generator)
        self.counter = self.Counter()

    @property
    def behaviour(self) -> DenoisingPolicy:
        return self.sampler

    def value_target(self, newest: Trajectories, score: Tensor) -> Tensor:
        return 2 * super().value_target(newest, score)

    def after_step(self) -> None:
        super().after_step()
        self.counter.steps += 1

    @property
    def parts(self) -> dict[str, Any]:
        return {**super().parts, "counter": self.counter}


def test_every_joint_can_be_replaced(small_kwargs: Task, tmp_path: Path) -> None:
    agent = new(small_kwargs, FromTheAverage).learn(2 * ITERATION)
    assert isinstance(agent, FromTheAverage) and agent.counter.steps == 2
    loaded = FromTheAverage.load(agent.save(tmp_path / "agent"), trust_paths=True)
    assert loaded.counter.steps == 2
    prepare(agent, 1)
    start, state = agent.start().clone(), agent.generator.get_state()
    newest = agent.rollout()
    for policy, expected in ((agent.sampler, True), (agent.policy, False)):
        replay = torch.Generator()
        replay.set_state(state)
        agent.envs.reset(options={"x": start})
        found, _ = collect(agent.envs, policy, start, replay, lambda ended, reward: True)
        assert found is not None and torch.equal(found.xs, newest.xs) is expected
    score = agent.score(newest)
    assert torch.equal(agent.value_target(newest, score), 2 * score.expand(2, -1))


def test_the_environments_critic_and_data_are_the_agent_s(make_agent: Callable[..., IPMAgent]) -> None:
    agent = make_agent()
    assert agent.critic is agent.envs.critic and agent.dataset is agent.envs.dataset
    with pytest.raises(AttributeError):
        agent.critic = None  # type: ignore[misc, assignment]
