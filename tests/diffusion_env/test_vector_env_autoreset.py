"""The vector environment in Gymnasium's three autoreset modes, step by step beside Gymnasium's own SyncVectorEnv."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from diffusion_env.data.dataset import Dataset
from tests.support import ENV_ID, Step, final_x, make_vector, vector_actions

SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


class TestAutoreset:
    OUT_OF_PHASE = np.array([False, True, False])

    def beside(
        self, data: Dataset, mode: AutoresetMode, num_steps: int, observation: str
    ) -> Iterator[tuple[Step, Step]]:
        """Pairs of equal calls' results; one environment is restarted early, so that they run out of phase."""
        kwargs: dict[str, Any] = {"num_steps": num_steps, "observation": observation}
        ours: gym.vector.VectorEnv[Any, Any, Any] = make_vector(data, autoreset_mode=mode, **kwargs)
        singles = [lambda: gym.make(ENV_ID, dataset=data, **kwargs)] * 3
        both = ours, SyncVectorEnv(singles, autoreset_mode=mode)
        ended = np.ones(3, bool)
        for envs in both:
            envs.reset(seed=0)
        for i, action in enumerate(vector_actions(10)):
            if i == 1 or (mode is DISABLED and ended.any()):
                mask = self.OUT_OF_PHASE if i == 1 and not ended.any() else ended
                resets = [envs.reset(options={"reset_mask": mask.copy()}) for envs in both]
                assert resets[0][1] == resets[1][1] == {}
                assert self.progress(resets[0][0], num_steps) == self.progress(resets[1][0], num_steps)
            left, right = (envs.step(action) for envs in both)
            ended = left[2]
            yield left, right

    def progress(self, obs: Any, num_steps: int) -> list[int]:
        """The steps done by each environment, from observations of either kind."""
        steps = obs["step"] if isinstance(obs, dict) else np.round(obs[:, -1] * num_steps)
        return [int(step) for step in steps]

    @pytest.mark.parametrize("observation", ["dict", "flat"])
    @pytest.mark.parametrize("num_steps", [1, 2, 3])
    @pytest.mark.parametrize("mode", list(AutoresetMode))
    def test_flags_counters_and_infos(
        self, ring: Dataset, mode: AutoresetMode, num_steps: int, observation: str
    ) -> None:
        phases = set()
        for left, right in self.beside(ring, mode, num_steps, observation):
            for ours, theirs in zip(left[1:4], right[1:4], strict=True):
                assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
            steps = self.progress(left[0], num_steps)
            assert steps == self.progress(right[0], num_steps)
            np.testing.assert_array_equal(left[1] != 0, right[1] != 0)  # rewards come at the same places
            np.testing.assert_array_equal(left[2], right[2])
            assert not left[3].any() and not right[3].any()
            self.compare_infos(left[4], right[4], observation == "flat")
            phases.add(len(set(steps)))
        assert num_steps == 1 or 2 in phases  # they did run out of phase

    def compare_infos(self, ours: dict[str, Any], theirs: dict[str, Any], flat: bool) -> None:
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            if key == "final_obs":
                assert ours[key].dtype == value.dtype == object and ours[key].shape == value.shape
                for one, other in zip(ours[key], value, strict=True):
                    assert type(one) is type(other)
                    if flat and one is not None:
                        assert one.dtype == other.dtype and one.shape == other.shape and one[-1] == other[-1]
                    elif one is not None:
                        assert {name: type(part) for name, part in one.items()} == {
                            name: type(part) for name, part in other.items()
                        }
                        assert one["step"] == other["step"] and one["x"].dtype == other["x"].dtype
                        assert one["x"].shape == other["x"].shape
            elif isinstance(value, dict):
                self.compare_infos(ours[key], value, flat)
            elif key.startswith("_"):
                np.testing.assert_array_equal(ours[key], value)
            else:
                assert ours[key].dtype == value.dtype
                np.testing.assert_array_equal(ours[key] != 0, value != 0)

    def test_next_step_ignores_the_action_of_the_reset(self, ring: Dataset) -> None:
        envs = make_vector(ring, num_steps=2, autoreset_mode=NEXT)
        envs.reset(seed=0)
        first, second, third = vector_actions(3)
        envs.step(first)
        envs.reset(options={"reset_mask": self.OUT_OF_PHASE})
        assert envs.step(second)[2].tolist() == [True, False, True]
        third[0] = np.nan
        obs, reward, terminated, _, infos = envs.step(third)
        assert obs["step"].tolist() == [0, 2, 0] and terminated.tolist() == [False, True, False]
        assert reward[0] == reward[2] == 0.0 != reward[1]
        assert infos["_critic_score"].tolist() == [False, True, False]

    def test_the_final_observation_is_the_one_without_autoreset(self, ring: Dataset) -> None:
        same, off = (make_vector(ring, autoreset_mode=mode) for mode in (SAME, DISABLED))
        for envs in (same, off):
            envs.reset(seed=4)
        for action in vector_actions(2):
            ours, theirs = same.step(action), off.step(action)
        np.testing.assert_array_equal(final_x(ours[4]), theirs[0]["x"])
        assert [obs["step"] for obs in ours[4]["final_obs"]] == [2, 2, 2] and ours[0]["step"].tolist() == [0, 0, 0]
        np.testing.assert_array_equal(ours[4]["final_info"]["critic_score"], theirs[4]["critic_score"])
        np.testing.assert_array_equal(ours[1], theirs[1])

    def test_masked_reset_leaves_the_others_alone(self, ring: Dataset) -> None:
        envs = make_vector(ring, num_steps=3, autoreset_mode=DISABLED)
        envs.reset(seed=0)
        before = envs.step(vector_actions(1)[0])[0]
        after, _ = envs.reset(options={"reset_mask": self.OUT_OF_PHASE})
        stays = ~self.OUT_OF_PHASE
        np.testing.assert_array_equal(after["x"][stays], before["x"][stays])
        assert (after["x"][1] != before["x"][1]).all() and after["step"].tolist() == [1, 0, 1]

    def test_a_step_needs_a_reset(self, ring: Dataset) -> None:
        for mode in AutoresetMode:
            envs = make_vector(ring, num_steps=1, autoreset_mode=mode)
            with pytest.raises(ResetNeeded, match="3 of 3"):
                envs.step(vector_actions(1)[0])
        envs = make_vector(ring, num_steps=1, autoreset_mode=DISABLED)
        envs.reset(seed=0)
        envs.step(vector_actions(1)[0])
        envs.reset(options={"reset_mask": self.OUT_OF_PHASE})
        with pytest.raises(ResetNeeded, match="2 of 3"):
            envs.step(vector_actions(1)[0])
