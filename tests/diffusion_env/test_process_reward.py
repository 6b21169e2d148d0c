"""The reward of the batched process, and when and on what it trains the critic."""

import numpy as np
import pytest
import torch

from diffusion_env.critics import FrozenCritic, make_critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.process import REWARD_BATCH
from diffusion_env.unseen_samples import CRITIC_BATCH
from tests.support import RecordingCritic, flat_state, make_process, noise, run_episode, same


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
