"""Flat observations: x and step / K in one array, in both environments, of points and of images."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from diffusion_env import FLAT_ENV_ID
from diffusion_env.data.dataset import Dataset
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.vector_env import DDPMShortcutVectorEnv
from tests.support import ENV_ID, make_vector, single_actions, vector_actions


def images() -> Dataset:
    points = torch.randn(400, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Dataset("images", points[:300], points[300:], torch.zeros(1, 4, 4), 1.0)


@pytest.fixture(params=["points", "images"])
def data(request: pytest.FixtureRequest, ring: Dataset) -> Dataset:
    return ring if request.param == "points" else images()


def flattened(obs: Any, num_steps: int) -> Any:
    """What the flat observation of ``obs``, of one or of n environments, is to be."""
    steps = np.asarray(obs["step"], np.float32)
    x = np.asarray(obs["x"]).reshape(*steps.shape, -1)
    return np.concatenate([x, (steps / np.float32(num_steps))[..., None]], axis=-1)


@pytest.mark.parametrize("num_steps", [1, 3])
def test_checkers(num_steps: int) -> None:
    from gymnasium.utils.env_checker import check_env
    from stable_baselines3.common.env_checker import check_env as check_sb3

    for dataset in ("gaussians8", images()):
        made = gym.make(FLAT_ENV_ID, dataset=dataset, num_steps=num_steps)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*(Box action|Box observation|unconventional shape)")
            check_env(made.unwrapped, skip_render_check=True)
            check_sb3(made.unwrapped, skip_render_check=True)


def test_the_single_environment(data: Dataset) -> None:
    flat, plain = (DDPMShortcutEnv(data, num_steps=3, observation=kind) for kind in ("flat", "dict"))
    size = int(np.prod(data.shape))
    assert isinstance(flat.observation_space, gym.spaces.Box) and flat.observation_space.shape == (size + 1,)
    assert flat.observation_space.high[-1] == 1 and flat.observation_space.low[-1] == 0
    pairs = [(flat.reset(seed=0)[0], plain.reset(seed=0)[0])]
    for action in single_actions(flat, 3):
        ours, theirs = flat.step(action), plain.step(action)
        assert ours[1:] == theirs[1:]
        pairs.append((ours[0], theirs[0]))
    for ours, theirs in pairs:
        assert flat.observation_space.contains(ours)
        np.testing.assert_array_equal(ours, flattened(theirs, 3))


@pytest.mark.parametrize("array_type", ["numpy", "torch"])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_vector_environment_in_every_mode(data: Dataset, mode: AutoresetMode, array_type: str) -> None:
    flat, plain = (
        make_vector(data, observation=kind, array_type=array_type, autoreset_mode=mode) for kind in ("flat", "dict")
    )
    assert flat.observation_space.shape == (3, int(np.prod(data.shape)) + 1)
    plan = np.random.default_rng(0).standard_normal((5, 3, *data.shape)).astype(np.float32)
    pairs, finals = [(flat.reset(seed=0)[0], plain.reset(seed=0)[0])], 0
    mask = {"options": {"reset_mask": np.array([False, True, False])}}
    for i, action in enumerate(torch.from_numpy(plan) if array_type == "torch" else plan):
        if i == 1:
            pairs.append((flat.reset(**mask)[0], plain.reset(**mask)[0]))  # type: ignore[arg-type]
        if mode is AutoresetMode.DISABLED and i in (2, 3, 4):
            done = {"options": {"reset_mask": plain.process.done}}
            if done["options"]["reset_mask"].any():
                pairs.append((flat.reset(**done)[0], plain.reset(**done)[0]))  # type: ignore[arg-type]
        ours, theirs = flat.step(action), plain.step(action)
        pairs.append((ours[0], theirs[0]))
        assert set(ours[4]) == set(theirs[4])
        if "final_obs" in theirs[4]:
            finals += 1
            for j in np.flatnonzero(np.asarray(theirs[4]["_final_obs"])):
                one = theirs[4]["final_obs"]
                one = one[j] if array_type == "numpy" else {key: values[j] for key, values in one.items()}
                np.testing.assert_array_equal(np.asarray(ours[4]["final_obs"][j]), flattened(one, 2))
    assert bool(finals) is (mode is AutoresetMode.SAME_STEP)
    for ours, theirs in pairs:
        assert isinstance(ours, np.ndarray if array_type == "numpy" else torch.Tensor)
        assert flat.observation_space.contains(np.asarray(ours))
        np.testing.assert_array_equal(np.asarray(ours), flattened(theirs, 2))


def test_a_start_has_the_shape_of_a_point(data: Dataset) -> None:
    start = np.random.default_rng(0).standard_normal((3, *data.shape))
    flat = DDPMShortcutEnv(data, observation="flat")
    obs, _ = flat.reset(options={"x": start[0]})
    np.testing.assert_array_equal(obs, np.append(start[0].astype(np.float32), np.float32(0)))
    batch, _ = make_vector(data, observation="flat").reset(options={"x": start})
    np.testing.assert_array_equal(batch[0], obs)
    with pytest.raises(ValueError, match="must have shape"):
        flat.reset(options={"x": obs})


def test_what_is_returned_is_the_user_s(ring: Dataset) -> None:
    made = [make_vector(ring, observation="flat") for _ in range(2)]
    seen = [[envs.reset(seed=0)[0].copy()] for envs in made]
    made[0].reset(seed=0)[0][:] = 9
    for action in vector_actions(4):
        for envs, steps in zip(made, seen, strict=True):
            obs = envs.step(action)[0]
            steps.append(obs.copy())
            if envs is made[0]:
                obs[:] = 9
    np.testing.assert_array_equal(seen[0], seen[1])


def test_the_ids() -> None:
    assert gym.make(FLAT_ENV_ID, num_steps=2).observation_space.shape == (3,)
    envs = gym.make_vec(FLAT_ENV_ID, 4, num_steps=2)
    assert isinstance(envs, DDPMShortcutVectorEnv) and envs.reset(seed=0)[0].shape == (4, 3)
    assert isinstance(gym.make(FLAT_ENV_ID, observation="dict").observation_space, gym.spaces.Dict)
    with pytest.raises(ValueError, match=r"observation must be one of \['dict', 'flat'\]; received 'box'"):
        gym.make(ENV_ID, observation="box")
