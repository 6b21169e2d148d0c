"""Standard deviations of the policy, learned or raised, and the count of its network evaluations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.algorithms.policy_gradient import DPOK
from agents.algorithms.presets import AGENTS, PRESETS
from agents.core.config import AgentConfig
from agents.core.policy import DenoisingPolicy, all_steps
from agents.core.rollout import collect
from agents.zoo import load_agent
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.tables import StepTable
from diffusion_env.samplers.walk import walk
from tests.support import normal

MakeAgent = Callable[..., Any]
SmallConfig = Callable[..., AgentConfig]
SCHEDULE = make_schedule("cosine", 100)
RATIOS = torch.tensor([0.3, -0.2, 0.0, 0.5])  # logarithms, of K = 4 steps


def network(shape: tuple[int, ...] = (2,)) -> EpsMLP:
    return EpsMLP(shape, SCHEDULE, 16, 1, torch.Generator().manual_seed(0))


def learned(sampler: str = "ddpm", min_std: float = 0.0, shape: tuple[int, ...] = (2,)) -> DenoisingPolicy:
    """A policy whose stds have moved away from the table's."""
    policy = DenoisingPolicy(network(shape), make_table(sampler, SCHEDULE, 4), min_std, learn_std=True)
    assert policy.log_std_ratio is not None
    with torch.no_grad():
        policy.log_std_ratio.copy_(RATIOS)
    return policy


def differs(one: StepTable, other: StepTable) -> set[str]:
    """The columns in which two tables differ."""
    return {name for name in ("x_coef", "eps_coef", "std", "time") if getattr(one, name).ne(getattr(other, name)).any()}


# --- learned ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_a_learned_std_multiplies_the_table_s(shape: tuple[int, ...]) -> None:
    policy = learned(shape=shape)
    x = normal(4, 5, *shape)
    law = policy(x, all_steps(4, x.device))
    wanted = (policy.table.std * RATIOS.exp()).reshape(4, 1, *[1] * len(shape))
    assert torch.allclose(law.std, wanted, rtol=1e-6)
    fixed = DenoisingPolicy(policy.net, policy.table)(x, all_steps(4, x.device))
    assert torch.equal(law.mean, fixed.mean)  # the mean stays
    assert torch.allclose(policy(x[2], 2).std, wanted[2, 0], rtol=1e-6)
    mixed = policy(x[0, :3], torch.tensor([3, 0, 1]))
    assert torch.allclose(mixed.std.flatten(), wanted.flatten()[[3, 0, 1]], rtol=1e-6)
    assert law.log_prob(x).shape == law.entropy().shape == (4, 5)


def test_it_starts_as_the_table() -> None:
    table = make_table("ddpm", SCHEDULE, 4)
    policy = DenoisingPolicy(network(), table, learn_std=True)
    assert differs(policy.sampling_table, table) == set()
    assert DenoisingPolicy(network(), table).log_std_ratio is None


def test_log_prob_carries_the_exact_gradient_to_the_ratio() -> None:
    policy, x, x_next = learned(), normal(7, 2), normal(7, 2, seed=1)
    law = policy(x, 1)
    law.log_prob(x_next).sum().backward()
    assert policy.log_std_ratio is not None and policy.log_std_ratio.grad is not None
    with torch.no_grad():
        z = (x_next - law.mean) / law.std
        exact = (z.square() - 1).sum()  # d log N / d log std
    assert torch.allclose(policy.log_std_ratio.grad, torch.tensor([0.0, float(exact), 0.0, 0.0]), rtol=1e-4)


# --- raised ----------------------------------------------------------------------------------------------------------


def test_min_std_raises_only_what_is_smaller() -> None:
    table = make_table("ddpm", SCHEDULE, 4)
    limit = float(table.std.sort().values[1:3].mean())
    raised = DenoisingPolicy(network(), table, min_std=limit).sampling_table
    assert differs(raised, table) == {"std"}
    assert raised.std.tolist() == pytest.approx([max(std, limit) for std in table.std.tolist()])
    assert 0 < int((raised.std != table.std).sum()) < 4
    assert DenoisingPolicy(network(), table, min_std=0.0).widened is table


def test_min_std_makes_a_noiseless_sampler_trainable(make_agent: MakeAgent, small_config: SmallConfig) -> None:
    agent = make_agent(small_config("sft_pg", min_std=0.05), sampler="ddim")
    assert not any(agent.envs.table.noisy_rows) and all(agent.policy.sampling_table.noisy_rows)
    before = agent.sample(9, seed=0)
    agent.learn(48, log_interval=1)
    assert not torch.equal(agent.sample(9, seed=0), before)
    with pytest.raises(ValueError, match=r"sampler 'ddim' has std 0 at step\(s\) \[0, 1, 2\].*min_std > 0.*eta > 0"):
        make_agent(sampler="ddim")  # negative control


# --- one law in training and evaluation ------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "min_std"), [("ddpm", 0.0), ("ddpm", 0.2), ("ddim", 0.1)])
def test_the_sampling_table_walked_is_the_policy(sampler: str, min_std: float) -> None:
    policy, start = learned(sampler, min_std), normal(50, 2)
    with torch.no_grad():
        states = list(walk(policy.sampling_table, policy.net, start, torch.Generator().manual_seed(5)))
        generator, x = torch.Generator().manual_seed(5), start
        for k in range(4):
            x = policy(x, k).sample(generator)
            assert torch.allclose(x, states[k + 1], rtol=1e-4, atol=1e-5)
        plain = list(walk(policy.table, policy.net, start, torch.Generator().manual_seed(5)))
    assert not torch.allclose(plain[-1], x, atol=1e-2)  # negative control: the environment's own table


def test_training_walks_as_evaluation_does(make_agent: MakeAgent, small_config: SmallConfig) -> None:
    agent = make_agent(small_config("sft_pg", std="learned", min_std=0.1), num_steps=4)
    with torch.no_grad():
        agent.policy.log_std_ratio.copy_(RATIOS)
    start = agent.envs.reset(seed=0)[0]["x"]
    trajectories, _ = collect(
        agent.envs, agent.policy, start, torch.Generator().manual_seed(5), lambda ended, reward: True
    )
    assert trajectories is not None
    with torch.no_grad():
        states = list(walk(agent.policy.sampling_table, agent.policy.net, start, torch.Generator().manual_seed(5)))
        plain = list(walk(agent.envs.table, agent.policy.net, start, torch.Generator().manual_seed(5)))
    assert torch.allclose(trajectories.xs, torch.stack(states), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(trajectories.x0, plain[-1], atol=1e-2)  # negative control: the environment's own table


def test_the_sampler_has_the_averaged_std(make_agent: MakeAgent, small_config: SmallConfig) -> None:
    config = small_config("sft_pg", std="learned", learning_rate=1e-2, lr_schedule="constant", ema_decay=0.5)
    agent = make_agent(config).learn(4 * 48)
    own, averaged = agent.policy.log_std_ratio, agent.sampler.log_std_ratio
    assert bool(own.any()) and bool((own != averaged).any())
    assert torch.equal(agent.sampler.sampling_table.std, agent.envs.table.std * averaged.detach().exp())
    drawn, _ = agent.predict(
        {"x": torch.zeros(20_000, 2).numpy(), "step": torch.ones(20_000, dtype=torch.int64).numpy()}
    )
    row = agent.envs.table.rows(1, 1)
    wanted = float(agent.sampler.sampling_table.std[1] / row.action_scale)
    assert drawn.std(0).tolist() == pytest.approx([wanted] * 2, rel=0.03)
    assert wanted != pytest.approx(float(row.std / row.action_scale), rel=0.05)  # negative control: the table's


# --- the count -------------------------------------------------------------------------------------------------------

ROLLOUTS = 2 * 3 * 8  # n_critic * K * B states, each seen once by the policy that acts, and again in each step on theta
COUNTED = {algo: ROLLOUTS * (1 + PRESETS[algo].config.n_generator) for algo in AGENTS}


@pytest.mark.parametrize("algo", AGENTS)
def test_an_iteration_counts_every_state_the_network_sees(
    make_agent: MakeAgent, small_config: SmallConfig, algo: str
) -> None:
    plain = make_agent(small_config(algo, kl_coef=0.0), algo=algo).learn(1)
    assert plain.network_evaluations == COUNTED[algo]
    with_kl = make_agent(small_config(algo, kl_coef=0.1), algo=algo).learn(1)
    extra = COUNTED[algo] - ROLLOUTS  # the pretrained sampler at every state of a step on theta
    assert with_kl.network_evaluations == COUNTED[algo] + extra * (2 if algo == "pathwise" else 1)


def test_a_minibatch_counts_what_it_takes(make_agent: MakeAgent, small_config: SmallConfig) -> None:
    agent = make_agent(small_config("sft_pg", minibatch_size=5, n_generator=3, kl_coef=0.1)).learn(1)
    assert agent.network_evaluations == ROLLOUTS + 3 * 2 * 5


def test_looking_does_not_count(make_agent: MakeAgent) -> None:
    agent = make_agent().learn(1)
    before = agent.network_evaluations
    agent.diagnostics(), agent.sample(100)
    agent.predict({"x": torch.zeros(4, 2).numpy(), "step": torch.zeros(4, dtype=torch.int64).numpy()})
    assert agent.network_evaluations == before == agent.diagnostics()["time/network_evaluations"]


def test_a_resumed_run_goes_on_counting(
    small_kwargs: dict[str, object], small_config: SmallConfig, tmp_path: Path
) -> None:
    agent = DPOK(config=small_config("dpok"), num_envs=8, env_kwargs=small_kwargs, seed=0).learn(1)
    loaded = load_agent(agent.save(tmp_path / "agent"), trust_paths=True)
    assert loaded.network_evaluations == agent.network_evaluations == 3 * 2 * 2 * 8
    loaded.learn(1, reset_num_timesteps=False)
    assert loaded.network_evaluations == 2 * agent.network_evaluations


# --- what explores is not what is handed out -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deployed", "learn", "wanted"),
    [
        (None, False, "table"),
        (None, True, "training"),
        ("table", True, "table"),
        ("training", False, "training"),
        ("mean", False, "mean"),
    ],
)
def test_the_deployed_std(deployed: Any, learn: bool, wanted: str) -> None:
    table = make_table("ddpm", SCHEDULE, 4)
    policy = DenoisingPolicy(network(), table, min_std=0.3, learn_std=learn, deployed_std=deployed)
    stds = {
        "table": table.std,
        "training": policy.sampling_table.std,
        "mean": torch.cat([table.std[:-1], torch.zeros(1)]),
    }
    assert torch.equal(policy.deployed_table.std, stds[wanted])
    assert differs(policy.deployed_table, table) == (set() if wanted == "table" else {"std"})
    x = normal(5, 2)
    with torch.no_grad():
        law = policy.deployed(x, 3)
        assert torch.equal(law.mean, policy(x, 3).mean)
        assert torch.equal(law.std.flatten(), stds[wanted][3:])
        assert not torch.equal(stds["training"][3], stds["table"][3])


def test_an_agent_samples_and_acts_with_the_deployed_std(make_agent: MakeAgent, small_config: SmallConfig) -> None:
    def spread(**changes: Any) -> float:
        agent = make_agent(small_config("sft_pg", min_std=0.5, **changes))
        observation = {"x": np.zeros((200, 2), np.float32), "step": np.full(200, agent.policy.table.num_steps - 1)}
        actions, _ = agent.predict(observation)
        return float(actions.std())

    assert spread(deployed_std="training") > 3 * spread() > 3 * spread(deployed_std="mean")
