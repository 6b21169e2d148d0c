"""The batched process: the step's formula, particles out of phase, and unusable input."""

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded

from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.process import ActionMode
from diffusion_env.samplers.walk import walk
from tests.support import make_process, noise, run_episode


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

    def test_particles_out_of_phase_take_their_own_steps(self, ring: Dataset, oracle: MixtureDenoiser) -> None:
        mixed = make_process(ring, 2, action_mode="residual", denoiser=oracle)
        alone = make_process(ring, 2, action_mode="residual", denoiser=oracle)
        mixed.reset()
        mixed.step(noise(mixed, 0))
        mixed.reset(np.array([True, False]))
        assert mixed.k.tolist() == [0, 1]
        x = mixed.x
        for k in (0, 1):
            alone.x, alone.counts.k = x.clone(), np.array([k, k])
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
        action = torch.stack([torch.full((2,), torch.nan), torch.ones(2)])  # the first is not read
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

    def test_particles_out_of_phase_finish_one_by_one(self, ring: Dataset) -> None:
        process = make_process(ring, 2, num_steps=2)
        first, second = np.array([True, False]), np.array([False, True])
        process.reset()
        zero = torch.zeros(2, 2)
        assert process.step(zero, active=first).finished is None
        assert process.k.tolist() == [1, 0]
        finished = process.step(zero).finished
        assert finished is not None and finished.tolist() == process.done.tolist() == [True, False]
        with pytest.raises(ResetNeeded, match="1 of 2"):
            process.step(zero)
        finished = process.step(zero, active=second).finished  # the first is done, but not active
        assert finished is not None and finished.tolist() == [False, True] and process.done.all()

    def test_move_changes_nothing(self, ring: Dataset) -> None:
        process = make_process(ring)
        x = process.reset()
        moved = process.move(noise(process, 0))
        assert process.x is x and not process.k.any()
        assert torch.equal(process.step(noise(process, 0)).x, moved)

    def test_path_of_a_single_particle(self, ring: Dataset) -> None:
        process = make_process(ring, 1)
        states = [process.reset()]
        for k in range(3):
            states.append(process.step(noise(process, k)).x)
            assert torch.equal(process.path, torch.cat(states))
        process.reset()
        assert torch.equal(process.path, process.x)


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

    def test_a_start_has_the_shape_of_x(self, ring: Dataset) -> None:
        with pytest.raises(AssertionError):
            make_process(ring).reset(start=torch.zeros(4, 3))

    def test_steps_need_a_start(self, ring: Dataset) -> None:
        process = make_process(ring, num_steps=1)
        with pytest.raises(ResetNeeded, match="4 of 4"):
            process.step(noise(process, 0))
        run_episode(process)
        process.reset(np.array([True, True, False, True]))
        with pytest.raises(ResetNeeded, match="1 of 4"):
            process.step(noise(process, 0))

    def test_action_mode(self, ring: Dataset) -> None:
        with pytest.raises(ValueError, match="'step', 'residual'"):
            make_process(ring, action_mode="mean")
        with pytest.raises(ValueError, match="Pass denoiser=PATH"):
            make_process(ring, action_mode="residual")
