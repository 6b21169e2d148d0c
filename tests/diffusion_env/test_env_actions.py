"""Actions of the single environment: unusable ones are refused, sound ones are never clipped, the box is wide."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_env.assembly import ACTION_BOUND
from diffusion_env.denoisers.loading import load_denoiser
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.walk import walk
from tests.support import single_actions, single_episode


class TestActions:
    @pytest.mark.parametrize(
        ("action", "error", "message"),
        [
            (np.array([0.0, np.nan], np.float32), ValueError, "NaN or infinity"),
            (np.array([0.0, np.inf], np.float32), ValueError, "NaN or infinity"),
            (np.zeros(3, np.float32), ValueError, r"shape \(2,\); received \(3,\)"),
            (np.zeros((1, 2), np.float32), ValueError, r"shape \(2,\); received \(1, 2\)"),
            ([0.0, 1e39], ValueError, "NaN or infinity"),
            ([0.0, None], TypeError, "received list"),
            ("00", TypeError, "received str"),
            (torch.zeros(2), TypeError, "received a Tensor"),
        ],
    )
    def test_unusable_ones_are_refused_and_nothing_is_lost(
        self, env: DDPMShortcutEnv, action: Any, error: type[Exception], message: str
    ) -> None:
        expected = single_episode(env, 0)
        env.reset(seed=0)
        with pytest.raises(error, match=message):
            env.step(action)
        for good in single_actions(env, 3):
            obs, reward, *_ = env.step(good)
        np.testing.assert_array_equal(obs["x"], expected[0][-1])
        assert reward == expected[1]

    @pytest.mark.parametrize("kind", [np.float16, np.float64, np.int64, list, tuple])
    def test_numbers_of_any_type_are_taken(self, env: DDPMShortcutEnv, kind: Any) -> None:
        states = []
        for action in (np.array([1.0, -2.0], np.float32), kind([1, -2]) if kind in (list, tuple) else None):
            env.reset(seed=0)
            given = np.array([1, -2], kind) if action is None else action
            states.append(env.step(given)[0]["x"])
        np.testing.assert_array_equal(*states)

    def test_not_clipped(self, env: DDPMShortcutEnv) -> None:
        start = env.reset(seed=0)[0]["x"]
        inside = env.step(np.full(2, ACTION_BOUND, np.float32))[0]["x"]
        env.reset(seed=0)
        outside = env.step(np.full(2, 2 * ACTION_BOUND, np.float32))[0]["x"]
        std = float(env.table.std[0])
        np.testing.assert_allclose(outside - inside, ACTION_BOUND * std, rtol=1e-3)
        assert np.isfinite(start).all()

    def test_read_only_and_strided_arrays(self, env: DDPMShortcutEnv) -> None:
        env.reset(seed=0)
        plain = env.step(np.array([1.0, 2.0], np.float32))[0]["x"]
        frozen = np.array([2.0, 9.0, 1.0], np.float32)[::-2]
        frozen.setflags(write=False)
        env.reset(seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(env.step(frozen)[0]["x"], plain)

    @pytest.mark.parametrize(("sampler", "reached"), [("ddpm", 6), ("ddim", 4)])
    def test_the_pretrained_sampler_stays_in_the_box(self, sampler: str, reached: float) -> None:
        denoiser = load_denoiser(None, "swiss_roll", (2,))
        table = make_table(sampler, denoiser.schedule, 10)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            states = list(walk(table, denoiser, torch.randn(20_000, 2, generator=generator), generator))
        rows = [table.rows(k, 1) for k in range(10)]
        taken = torch.stack([(states[k + 1] - r.x_coef * states[k]) / r.action_scale for k, r in enumerate(rows)])
        assert float(taken.abs().max()) < ACTION_BOUND
        assert float(taken.abs().max()) > reached  # a much smaller box would be left
        assert 0.2 < float(taken.var((1, 2)).min()) < float(taken.var((1, 2)).max()) < 1.1


def test_the_stated_probability_of_leaving_the_box() -> None:
    assert math.erfc(ACTION_BOUND / math.sqrt(2)) == pytest.approx(1.5e-23, rel=0.02, abs=0)
