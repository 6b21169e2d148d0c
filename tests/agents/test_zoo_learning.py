"""Every agent raises a reward that stands still, and does not where its sign or its order is wrong.

Task: the sampler starts as the exact sampler of N(0, I); the reward is minus the distance to a point.
"""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from agents.algorithms.presets import AGENTS
from agents.core.config import AgentConfig
from diffusion_env.denoisers.mlp import EpsMLP
from tests.support import nearness

MakeAgent = Callable[..., Any]
SmallConfig = Callable[..., AgentConfig]
NUM_ENVS, NUM_STEPS, ITERATIONS = 64, 3, 50
RISES, STAYS, SIGMAS = 0.18, 0.15, 6.0  # of the mean distance to the point, about 1.5 untouched


@pytest.fixture
def learner(make_agent: MakeAgent, small_config: SmallConfig, standard_normal: EpsMLP) -> MakeAgent:
    def make(algo: str, critic: Callable[[Tensor], Tensor], **changes: Any) -> Any:
        sizes = {"n_critic": 1, "learning_rate": 3e-3, "ema_decay": 0.5, "value_width": 32}
        config = small_config(algo, **sizes | changes)
        return make_agent(config, NUM_STEPS, NUM_ENVS, 0, critic, algo=algo, denoiser=standard_normal)

    return make


def gain(agent: Any) -> tuple[float, float]:
    """How far training raises the mean nearness of samples of one seed, and the standard error of that."""
    before = nearness(agent.sample(2_000, seed=99))
    agent.learn(ITERATIONS * NUM_STEPS * NUM_ENVS)
    change = nearness(agent.sample(2_000, seed=99)) - before
    return float(change.mean()), float(change.std()) / len(change) ** 0.5


@pytest.mark.parametrize("algo", AGENTS)
def test_the_score_of_a_fixed_critic_rises_and_its_opposite_falls(learner: MakeAgent, algo: str) -> None:
    rise, error = gain(learner(algo, nearness))
    assert rise > RISES and rise > SIGMAS * error
    fall, error = gain(learner(algo, lambda x: -nearness(x)))
    assert fall < 0 and fall < -SIGMAS * error


@pytest.mark.parametrize("algo", [algo for algo in AGENTS if algo not in ("dxdp", "pathwise")])
def test_negative_control_scores_given_to_the_wrong_trajectories(learner: MakeAgent, algo: str) -> None:
    own: dict[str, Any] = {"baseline": "value"} if algo == "sft_pg" else {}  # "stein" follows the critic's slope too
    agent = learner(algo, nearness, **own)
    advantages = agent.advantages
    agent.advantages = lambda batch: advantages(batch).roll(NUM_ENVS // 2 + 1, dims=1)
    assert abs(gain(agent)[0]) < STAYS


def test_a_learned_std_shrinks_where_noise_costs(learner: MakeAgent) -> None:
    agent = learner("pathwise", nearness, std="learned", std_lr_scale=10.0)
    rise, _ = gain(agent)
    assert rise > RISES
    assert bool((agent.sampler.log_std_ratio < -0.1).all())
