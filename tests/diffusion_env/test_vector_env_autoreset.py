"""The vector environment in Gymnasium's three autoreset modes, step by step beside Gymnasium's own SyncVectorEnv."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from diffusion_env.data.dataset import Dataset
from tests.support import ENV_ID, Step, make_vector, vector_actions

SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


class TestAutoreset:
    OUT_OF_PHASE = np.array([False, True, False])

    def beside(self, data: Dataset, mode: AutoresetMode, num_steps: int) -> Iterator[tuple[Step, Step]]:
        """Pairs of equal calls' results; one environment is restarted early, so that they run out of phase."""
        ours: gym.vector.VectorEnv[Any, Any, Any] = make_vector(data, num_steps=num_steps, autoreset_mode=mode)
        singles = [lambda: gym.make(ENV_ID, dataset=data, num_steps=num_steps)] * 3
        both = ours, SyncVectorEnv(singles, autoreset_mode=mode)
        ended = np.ones(3, bool)
        for envs in both:
            envs.reset(seed=0)
        for i, action in enumerate(vector_actions(10)):
            if i == 1 or (mode is DISABLED and ended.any()):
                mask = self.OUT_OF_PHASE if i == 1 and not ended.any() else ended
                resets = [envs.reset(options={"reset_mask": mask.copy()}) for envs in both]
                assert resets[0][1] == resets[1][1] == {}
                np.testing.assert_array_equal(resets[0][0]["step"], resets[1][0]["step"])
            left, right = (envs.step(action) for envs in both)
            ended = left[2]
            yield left, right

    @pytest.mark.parametrize("num_steps", [1, 2, 3])
    @pytest.mark.parametrize("mode", list(AutoresetMode))
    def test_flags_counters_and_infos(self, ring: Dataset, mode: AutoresetMode, num_steps: int) -> None:
        phases = set()
        for left, right in self.beside(ring, mode, num_steps):
            for ours, theirs in zip(left[1:4], right[1:4], strict=True):
                assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
            np.testing.assert_array_equal(left[0]["step"], right[0]["step"])
            np.testing.assert_array_equal(left[1] != 0, right[1] != 0)  # rewards come at the same places
            np.testing.assert_array_equal(left[2], right[2])
            assert not left[3].any() and not right[3].any()
            self.compare_infos(left[4], right[4])
            phases.add(len(set(left[0]["step"].tolist())))
        assert num_steps == 1 or 2 in phases  # they did run out of phase

    def compare_infos(self, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            if key == "final_obs":  # Gymnasium keeps an object array of dicts; ours is one dict of arrays
                ended = theirs["_final_obs"]
                np.testing.assert_array_equal(ours[key]["step"][ended], [obs["step"] for obs in value[ended]])
                assert ours[key]["x"].shape == (3, 2) and set(ours[key]) == {"x", "step"}
            elif isinstance(value, dict):
                self.compare_infos(ours[key], value)
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
        np.testing.assert_array_equal(ours[4]["final_obs"]["x"], theirs[0]["x"])
        assert ours[4]["final_obs"]["step"].tolist() == [2, 2, 2] and ours[0]["step"].tolist() == [0, 0, 0]
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
