"""The batched process: the step's formula, the reward, who trains the critic when, resuming, bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from torch import Tensor

from diffusion_env.checkpoints import load_checkpoint, save_checkpoint
from diffusion_env.critics import Critic, FrozenCritic, make_critic
from diffusion_env.critics.base import Penalty
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.process import CRITIC_BATCH, REWARD_BATCH, ActionMode, DenoisingProcess, Outcome
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.walk import walk


def make_process(
    data: Dataset, num_envs: int = 4, num_steps: int = 3, critic: str | Critic = "energy", seed: int = 0, **kwargs: Any
) -> DenoisingProcess:
    table = make_table(kwargs.pop("sampler", "ddpm"), make_schedule("cosine"), num_steps)
    process = DenoisingProcess(data, table, make_critic(critic, data.shape), num_envs, **kwargs)
    process.seed(seed)
    return process


def noise(process: DenoisingProcess, seed: int) -> Tensor:
    return torch.randn(process.x.shape, generator=torch.Generator().manual_seed(seed))


def run_episode(process: DenoisingProcess, seed: int = 0) -> Outcome:
    process.reset()
    for k in range(process.table.num_steps):
        outcome = process.step(noise(process, 100 * seed + k))
    return outcome


def flat_state(critic: Critic) -> list[Tensor]:
    return [value.clone() for value in critic.state_dict().values() if isinstance(value, Tensor)]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


class RecordingCritic(Critic):
    """Scores 0 and remembers what it was trained on."""

    name = "recording"

    def __init__(self, shape: tuple[int, ...], wants_trajectory: bool) -> None:
        super().__init__(shape)
        self.wants = wants_trajectory
        self.real: list[Tensor] = []
        self.fake: list[Tensor] = []
        self.trajectories: list[Tensor] = []

    @property
    def wants_trajectory(self) -> bool:  # type: ignore[override]  # a constant of the class elsewhere
        return self.wants

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x.flatten(1).sum(1)

    def update(self, real: Tensor, fake: Tensor, penalty: Penalty | None = None) -> dict[str, float]:
        self.real.append(real)
        self.fake.append(fake)
        return {"ipm": 0.0}

    def trajectory_penalty(self, xs: Tensor) -> None:
        self.trajectories.append(xs)


class TestStep:
    def test_step_mode_is_the_contract_s_formula(self, ring: Dataset) -> None:
        process = make_process(ring)
        for k in range(3):
            x, action = (process.reset() if k == 0 else process.x), noise(process, k)
            t = process.table
            expected = t.x_coef[k] * x + torch.sqrt(t.eps_coef[k] ** 2 + t.std[k] ** 2) * action
            torch.testing.assert_close(process.step(action).x, expected, rtol=1e-6, atol=1e-6)

    def test_residual_without_noise_is_the_pretrained_mean(self, ring: Dataset, oracle: MixtureDenoiser) -> None:
        process = make_process(ring, action_mode="residual", denoiser=oracle)
        x = process.reset()
        for k in range(3):
            mean = process.table.law(k, x, oracle(x, process.table.time[k]), 1).mean
            x = process.step(torch.zeros_like(x)).x
            assert torch.equal(x, mean)

    @pytest.mark.parametrize("num_steps", [1, 2, 5])
    @pytest.mark.parametrize("mode", ["residual", "step"])
    def test_the_sampler_s_own_actions_walk_its_table(
        self, ring: Dataset, oracle: MixtureDenoiser, num_steps: int, mode: ActionMode
    ) -> None:
        process = make_process(ring, 64, num_steps, action_mode=mode, denoiser=oracle)
        start, generator = process.reset(), torch.Generator().manual_seed(5)
        states = list(walk(process.table, oracle, start, torch.Generator().manual_seed(5)))
        for k in range(num_steps):
            action = torch.randn(start.shape, generator=generator)
            if mode == "step":
                row = process.table.rows(k, 1)
                eps = oracle(process.x, process.table.time[k])
                action = (row.eps_coef * eps + row.std * action) / row.action_scale
            process.step(action)
            torch.testing.assert_close(process.x, states[k + 1], rtol=1e-4, atol=1e-4)
        assert (states[-1] - states[0]).abs().mean() > 0.1  # the walk went somewhere

    def test_out_of_phase_particles_take_their_own_rows(self, ring: Dataset, oracle: MixtureDenoiser) -> None:
        mixed = make_process(ring, 2, action_mode="residual", denoiser=oracle)
        alone = make_process(ring, 2, action_mode="residual", denoiser=oracle)
        mixed.reset()
        mixed.step(noise(mixed, 0))
        mixed.reset(np.array([True, False]))
        assert mixed.k.tolist() == [0, 1]
        x = mixed.x
        for k in (0, 1):
            alone.x, alone.k = x.clone(), np.array([k, k])
            expected = alone.step(noise(alone, 1)).x[k]
            if k == 0:
                mixed.step(noise(mixed, 1))
            torch.testing.assert_close(mixed.x[k], expected, rtol=1e-6, atol=1e-6)

    def test_inactive_particles_stay(self, ring: Dataset) -> None:
        process = make_process(ring, 2, num_steps=1)
        process.reset()
        process.step(noise(process, 0))
        process.reset(np.array([False, True]))
        before = process.x
        action = torch.stack([torch.full((2,), torch.nan), torch.ones(2)])  # what an inactive one does is ignored
        outcome = process.step(action, active=np.array([False, True]))
        assert torch.equal(outcome.x[0], before[0]) and not torch.equal(outcome.x[1], before[1])
        assert (
            outcome.finished is not None
            and outcome.finished.tolist() == [False, True]
            and float(outcome.reward[0]) == 0.0
        )

    def test_nothing_is_drawn_before_the_last_step(self, ring: Dataset) -> None:
        process = make_process(ring)
        process.reset()
        states = []
        for k in range(3):
            states.append(process.generator.get_state())
            process.step(noise(process, k))
        assert torch.equal(states[0], states[2])
        assert not torch.equal(states[2], process.generator.get_state())  # the data batch of the reward

    def test_path_of_a_single_particle(self, ring: Dataset) -> None:
        process = make_process(ring, 1)
        states = [process.reset()]
        for k in range(3):
            states.append(process.step(noise(process, k)).x)
            assert torch.equal(process.path, torch.cat(states))
        process.reset()
        assert torch.equal(process.path, process.x)


class TestReward:
    @pytest.mark.parametrize("num_envs", [1, 200, 600])
    def test_mean_return_is_minus_the_critic_s_ipm(self, ring: Dataset, num_envs: int) -> None:
        process = make_process(ring, num_envs, num_steps=1, train_critic=False)
        process.reset()
        again = torch.Generator()
        again.set_state(process.generator.get_state())
        outcome = process.step(noise(process, 0))
        data = ring.sample(max(CRITIC_BATCH, num_envs), again)
        ipm = process.critic.distance(data[:REWARD_BATCH], outcome.x)
        assert float(outcome.reward.mean()) == pytest.approx(-ipm, abs=1e-6)
        assert abs(ipm) > 1e-3 and abs(ipm - process.critic.distance(data[:100], outcome.x)) > 1e-5

    def test_reward_is_the_newest_critic_s_opinion(self, ring: Dataset) -> None:
        process = make_process(ring, CRITIC_BATCH, num_steps=1)
        process.reset()
        old = make_critic("energy", ring.shape)
        old.load_state_dict(process.critic.state_dict())
        outcome = process.step(noise(process, 0))
        with torch.no_grad():
            assert torch.equal(outcome.critic_score, process.critic(outcome.x))
            assert not torch.allclose(outcome.critic_score, old(outcome.x), atol=1e-3)
        assert torch.equal(outcome.reward, outcome.critic_score - outcome.data_score)

    def test_no_reward_before_the_end(self, ring: Dataset) -> None:
        process = make_process(ring)
        process.reset()
        for k in range(2):
            outcome = process.step(noise(process, k))
            assert outcome.finished is None and not outcome.reward.any() and not outcome.critic_score.any()


class TestCriticTraining:
    def test_trained_on_its_own_episodes_only_if_asked(self, ring: Dataset) -> None:
        for train in (True, False):
            process = make_process(ring, CRITIC_BATCH, 1, train_critic=train)
            before = flat_state(process.critic)
            run_episode(process)
            assert same(before, flat_state(process.critic)) is not train
            assert bool(process.critic_metrics) is train

    def test_frozen_critic_stays(self, ring: Dataset) -> None:
        critic = FrozenCritic(make_critic("energy", ring.shape))
        before = flat_state(critic)
        process = make_process(ring, CRITIC_BATCH, 1, critic)
        run_episode(process)
        assert same(before, flat_state(critic)) and "ipm" in process.critic_metrics

    def test_small_environments_collect_a_batch(self, ring: Dataset) -> None:
        critic = RecordingCritic(ring.shape, wants_trajectory=False)
        process = make_process(ring, 50, 2, critic)
        samples = [run_episode(process, seed).x for seed in range(5)]
        assert [len(fake) for fake in critic.fake] == [150]
        assert torch.equal(critic.fake[0], torch.cat(samples[:3]))
        assert [len(real) for real in critic.real] == [CRITIC_BATCH]
        process.seed(1)  # forgets the 100 that wait
        run_episode(process)
        assert len(critic.fake) == 1

    def test_trajectories_of_particles_out_of_phase(self, ring: Dataset) -> None:
        critic = RecordingCritic(ring.shape, wants_trajectory=True)
        process = make_process(ring, CRITIC_BATCH, 2, critic)
        late = np.arange(CRITIC_BATCH) >= 100
        states = [process.reset().clone(), process.step(noise(process, 0)).x.clone()]
        start = process.reset(late)[late].clone()
        states.append(process.step(noise(process, 1)).x.clone())  # 100 finish, 28 are at step 1
        assert not critic.fake
        process.reset(~late)
        finish = process.step(noise(process, 2)).x
        early, last = critic.trajectories[0][:, :100], critic.trajectories[0][:, 100:]
        assert torch.equal(early, torch.stack([state[:100] for state in states]))
        assert torch.equal(last, torch.stack([start, states[2][late], finish[late]]))
        assert torch.equal(critic.fake[0], critic.trajectories[0][-1])

    def test_a_seed_restarts_only_a_critic_of_its_own(self, ring: Dataset) -> None:
        for owns in (True, False):
            process = make_process(ring, CRITIC_BATCH, 1, owns_critic=owns)
            before = flat_state(process.critic)
            run_episode(process)
            trained = flat_state(process.critic)
            process.seed(0)
            assert same(flat_state(process.critic), before if owns else trained)
            assert not same(before, trained)


class TestResume:
    def run(self, process: DenoisingProcess, start: int, stop: int) -> list[Tensor]:
        seen = []
        for i in range(start, stop):
            if process.done.any():
                process.reset(process.done)
            outcome = process.step(noise(process, i))
            seen += [outcome.x.clone(), outcome.reward.clone()]
        return seen

    @pytest.mark.parametrize("critic", ["baseline", "gradient_penalty"])
    def test_bit_for_bit_through_a_file(self, ring: Dataset, tmp_path: Path, critic: str) -> None:
        process = make_process(ring, 60, 2, critic)
        self.run(process, 0, 7)
        state = {"process": process.state_dict(), "critic": process.critic.state_dict()}
        path = save_checkpoint(tmp_path / "run", state, {})
        expected = self.run(process, 7, 14)

        loaded, _ = load_checkpoint(path)
        resumed, control = make_process(ring, 60, 2, critic, seed=9), make_process(ring, 60, 2, critic, seed=9)
        for other in (resumed, control):
            other.load_state_dict(loaded["process"])
        resumed.critic.load_state_dict(loaded["critic"])
        assert same(self.run(resumed, 7, 14), expected)
        assert not same(self.run(control, 7, 14), expected)  # an untrained critic gives itself away

    def test_the_state_is_a_copy(self, ring: Dataset) -> None:
        process = make_process(ring, 1)
        process.reset()
        state = process.state_dict()
        kept = state["states"].clone()
        self.run(process, 0, 2)
        assert torch.equal(state["states"], kept)
        process.load_state_dict(state)
        self.run(process, 0, 2)
        assert torch.equal(state["states"], kept) and int(state["k"]) == 0

    def test_other_sizes_are_refused(self, ring: Dataset) -> None:
        state = make_process(ring, 4, 3).state_dict()
        for other in (make_process(ring, 5, 3), make_process(ring, 4, 2), make_process(ring, 4, 3, "baseline")):
            with pytest.raises(ValueError, match="arguments of the saved run"):
                other.load_state_dict(state)


class TestBadInput:
    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_a_non_finite_action_changes_nothing(self, ring: Dataset, bad: float) -> None:
        process = make_process(ring)
        x = process.reset()
        action = noise(process, 0)
        action[1, 1] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            process.step(action)
        assert process.x is x and not process.k.any()
        process.step(noise(process, 0))

    def test_shape_and_dtype_of_actions(self, ring: Dataset) -> None:
        process = make_process(ring)
        process.reset()
        with pytest.raises(ValueError, match=r"shape \(4, 2\).*received \(4, 3\)"):
            process.step(torch.zeros(4, 3))
        with pytest.raises(TypeError, match=r"float32; received torch\.float64"):
            process.step(torch.zeros(4, 2, dtype=torch.float64))

    def test_steps_need_a_start(self, ring: Dataset) -> None:
        process = make_process(ring, num_steps=1)
        with pytest.raises(ResetNeeded, match="4 of 4"):
            process.step(noise(process, 0))
        run_episode(process)
        process.reset(np.array([True, True, False, True]))
        with pytest.raises(ResetNeeded, match="1 of 4"):
            process.step(noise(process, 0))

    @pytest.mark.parametrize("num_envs", [0, -1, 2.0, True])
    def test_num_envs(self, ring: Dataset, num_envs: Any) -> None:
        with pytest.raises(ValueError, match="num_envs must be an integer >= 1"):
            make_process(ring, num_envs)

    def test_action_mode(self, ring: Dataset) -> None:
        with pytest.raises(ValueError, match="'step', 'residual'"):
            make_process(ring, action_mode="mean")
        with pytest.raises(ValueError, match="Pass denoiser=PATH"):
            make_process(ring, action_mode="residual")
