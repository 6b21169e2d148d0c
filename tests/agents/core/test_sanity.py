"""The checks that a run makes on itself: each limit breaks and is kept, and a breach is said once."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.algorithms.policy_gradient import SFTPG
from agents.cli import main
from agents.core.config import AgentConfig
from agents.core.sanity import LIMITS, Limit, SanityChecks
from diffusion_env.critics import Critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mlp import EpsMLP
from tests.support import measured_only

MakeAgent = Callable[..., Any]
SmallConfig = Callable[..., AgentConfig]
Record = Callable[..., list[dict[str, float]]]
LATE = 1_000  # an iteration by which everything must have been learned


def warned(checks: SanityChecks, *lines: dict[str, float], iteration: int = LATE) -> tuple[list[dict[str, float]], int]:
    """What the checks found on each line, and how many warnings they gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [checks(line, iteration) for line in lines]
    return found, len(caught)


def outside(limit: Limit) -> list[float]:
    beyond = [limit.lowest - 1, limit.highest + 1]
    return [value for value in beyond if math.isfinite(value)] + [math.nan]


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_breaks_outside_and_is_kept_on_its_ends(name: str) -> None:
    limit = LIMITS[name]
    for value in outside(limit):
        assert warned(SanityChecks(), {limit.metric: value}) == ([{f"sanity/{name}": 1.0}], 1)
    ends = [value for value in (limit.lowest, limit.highest) if math.isfinite(value)]
    assert ends
    for value in ends:
        assert warned(SanityChecks(), {limit.metric: value}) == ([{f"sanity/{name}": 0.0}], 0)


@pytest.mark.parametrize("name", LIMITS)
def test_the_warning_names_metric_value_limit_and_what_to_do(name: str) -> None:
    limit = LIMITS[name]
    with pytest.warns(UserWarning) as caught:
        SanityChecks()({limit.metric: outside(limit)[0]}, LATE)
    message = str(caught[0].message)
    assert f"{limit.metric} is {outside(limit)[0]:.3g} in iteration {LATE}" in message
    assert limit.meaning in message and f"{limit.highest:g}" in message


def test_a_breach_is_said_once_until_it_is_mended() -> None:
    metric = LIMITS["ratio"].metric
    bad, good = {metric: 1.0}, {metric: 0.0}
    found, count = warned(SanityChecks(), bad, bad, good, bad, bad)
    assert [line["sanity/ratio"] for line in found] == [1, 1, 0, 1, 1]
    assert count == 2


def test_breaches_are_told_apart() -> None:
    ratio, gradient = LIMITS["ratio"].metric, LIMITS["gradient"].metric
    found, count = warned(SanityChecks(), {ratio: 1.0, gradient: 0.0}, {ratio: 1.0, gradient: 3.0})
    assert found == [{"sanity/ratio": 1, "sanity/gradient": 0}, {"sanity/ratio": 1, "sanity/gradient": 1}]
    assert count == 2


def test_a_limit_waits_for_what_must_be_learned() -> None:
    limit = LIMITS["value"]
    assert limit.after > 0
    bad = {limit.metric: limit.lowest - 1}
    assert warned(SanityChecks(), bad, iteration=limit.after - 1) == ([{}], 0)
    assert warned(SanityChecks(), bad, iteration=limit.after) == ([{"sanity/value": 1.0}], 1)


def test_a_metric_that_is_not_there_is_not_checked() -> None:
    assert warned(SanityChecks(), {"train/loss": 1e9}) == ([{}], 0)
    own = SanityChecks({"mine": Limit("train/loss", 0, 1, "too much")})
    assert warned(own, {"train/loss": 1e9}) == ([{"sanity/mine": 1.0}], 1)


# --- in a run --------------------------------------------------------------------------------------------------------


def test_a_healthy_run_keeps_every_limit(
    make_agent: MakeAgent, small_config: SmallConfig, record: Record, standard_normal: EpsMLP
) -> None:
    config = small_config("sft_pg", value_width=32, learning_rate=6e-4)
    agent = make_agent(config, num_envs=64, denoiser=standard_normal)
    lines = record(agent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.learn(60 * 2 * 3 * 64, log_interval=10)
    assert len(lines) == 6
    checked = {key: value for line in lines for key, value in line.items() if key.startswith("sanity/")}
    assert checked == dict.fromkeys(("sanity/ratio", "sanity/gradient", "sanity/critic", "sanity/value"), 0.0)


def test_a_weight_that_is_cut_off_is_reported(make_agent: MakeAgent, record: Record, denoiser: EpsMLP) -> None:
    denoiser.idle = torch.nn.Parameter(torch.ones(3))
    agent = make_agent(denoiser=denoiser)
    lines = record(agent)
    with pytest.warns(UserWarning, match="weights_without_gradient is 1 .* cut off from the loss"):
        agent.learn(1, log_interval=1)
    assert lines[0]["train/weights_without_gradient"] == lines[0]["sanity/gradient"] == 1


def test_steps_that_are_too_large_are_reported(
    make_agent: MakeAgent, small_config: SmallConfig, record: Record
) -> None:
    agent = make_agent(small_config("ddpo", learning_rate=0.3), algo="ddpo")
    lines = record(agent)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        agent.learn(1, log_interval=1)
    assert any("approx_kl is" in str(w.message) and "(allowed: -inf to 0.5)" in str(w.message) for w in caught)
    assert lines[0]["sanity/step_size"] == 1
    assert lines[0]["sanity/gradient"] == 0  # the clip ended every gain, and cut nothing off


class Memory(Critic):
    """Likes what lies among a few training points, and no other."""

    name = "memory"

    def __init__(self, seen: torch.Tensor) -> None:
        super().__init__((2,))
        self.seen = seen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-50 * (x.unsqueeze(-2) - self.seen).square().sum(-1)).amax(-1)

    update = measured_only


@pytest.mark.parametrize("memorises", [True, False])
def test_a_critic_that_memorises_is_reported(make_agent: MakeAgent, record: Record, memorises: bool) -> None:
    points = 0.5 * torch.randn(600, 2, generator=torch.Generator().manual_seed(0))
    data = Dataset("few", points[:100], points[100:], torch.zeros(2), 1.0)
    critic = Memory(points[:100] if memorises else points[::6])
    lines = record(agent := make_agent(dataset=data, critic=critic))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        agent.learn(1, log_interval=1)
    assert lines[0]["sanity/critic"] == memorises


def test_few_held_out_points_are_no_evidence_of_memory(make_agent: MakeAgent) -> None:
    """A critic that knows nothing of the data: its scores of two small sets differ by chance alone."""
    found = []
    for seed in range(12):
        points = torch.randn(60, 2, generator=torch.Generator().manual_seed(seed))
        data = Dataset("few", points[:30], points[30:], torch.zeros(2), 1.0)
        agent = make_agent(dataset=data, critic=lambda x: x[..., 0]).learn(1)
        found.append(agent.diagnostics()["critic/overfit_z"])
    assert max(map(abs, found)) < LIMITS["critic"].highest
    assert torch.tensor(found).std() < 2.5


def test_samples_that_are_not_finite_are_handed_out_with_a_warning(
    small_kwargs: dict[str, object], tmp_path: Path
) -> None:
    agent = SFTPG(num_envs=4, env_kwargs=small_kwargs, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.sample(3, seed=0)
    for weight in agent.sampler.net.parameters():
        torch.nn.init.constant_(weight, torch.nan)
    with pytest.warns(RuntimeWarning, match="3 of 3 samples are NaN or infinite"):
        agent.sample(3, seed=0)
    path = agent.save(tmp_path / "agent")
    words = ["sample", "--checkpoint", str(path), "--trust-paths", "--output", str(tmp_path / "x"), "--n", "3"]
    with pytest.warns(RuntimeWarning):
        assert main(words) == 2
    assert not (tmp_path / "x.npz").exists()
