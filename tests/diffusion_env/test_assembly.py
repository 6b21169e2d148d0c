"""From keywords to a process: devices, spaces, render modes, the reference denoiser, and who owns the critic."""

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from diffusion_env.assembly import (
    action_space,
    checked_render_mode,
    observation_space,
    reference_denoiser,
    usable_device,
)
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.process import REWARD_BATCH
from diffusion_env.vector_env import DDPMShortcutVectorEnv
from tests.support import make_process, make_vector, normal, small_network


def test_devices() -> None:
    assert usable_device("cpu") == torch.device("cpu")
    for unusable in ("tpu", "cuda:99"):
        with pytest.raises(ValueError, match=f"device '{unusable}' cannot be used here .*Choose 'cpu'") as caught:
            usable_device(unusable)
        assert "\n" not in str(caught.value)


def test_spaces_follow_shape_and_number_of_steps(ring: Dataset) -> None:
    process = make_process(ring, num_steps=7)
    space = observation_space(process)
    assert isinstance(space, gym.spaces.Dict)
    assert space["step"] == gym.spaces.Discrete(8)
    assert space["x"] == gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    assert action_space(process) == gym.spaces.Box(-10.0, 10.0, (2,), np.float32)


def test_render_modes() -> None:
    assert checked_render_mode(None) is None and checked_render_mode("rgb_array") == "rgb_array"
    with pytest.raises(ValueError, match="Unknown render_mode 'human'"):
        checked_render_mode("human")


def test_shipped_weights_are_only_for_the_set_they_were_trained_on(ring: Dataset, oracle: MixtureDenoiser) -> None:
    assert reference_denoiser(None, ring) is not None
    assert reference_denoiser(None, replace(ring, name="mine")) is None
    assert reference_denoiser(None, replace(ring, named=False)) is None  # a file that is called gaussians8.npz
    assert reference_denoiser(oracle, ring) is oracle


def test_weights_shipped_for_a_named_image_set_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_dataset("digits")
    path = small_network((1, 8, 8)).save(tmp_path / "digits")
    monkeypatch.setattr("diffusion_env.assembly.shipped_weights", lambda name: path.with_stem(name))
    found = reference_denoiser(None, digits)
    assert found is not None and found.shape == (1, 8, 8)
    assert reference_denoiser(None, replace(digits, named=False)) is None
    assert reference_denoiser(None, replace(digits, name="other")) is None


def test_an_environment_is_seeded_once_if_the_user_gives_no_seed(ring: Dataset) -> None:
    envs = DDPMShortcutVectorEnv(2, ring)
    rng = np.random.default_rng(0)
    envs.seed_process(None, rng)
    first = envs.process.generator.get_state()
    envs.seed_process(None, rng)
    assert torch.equal(envs.process.generator.get_state(), first)
    envs.seed_process(5, rng)
    assert not torch.equal(envs.process.generator.get_state(), first)


@pytest.mark.parametrize("num_envs", [2, REWARD_BATCH + 1])
def test_an_episode_walked_elsewhere_leaves_the_draws_as_they_are(ring: Dataset, num_envs: int) -> None:
    made = [make_vector(ring, num_envs, 1, array_type="torch", train_critic=False, critic="mmd") for _ in range(3)]
    walked, skipped, reset = made
    for envs in made:
        envs.reset(seed=0)
    start = walked.step(normal(num_envs, 2))[0]["x"]
    assert torch.equal(start, skipped.skip_episode())
    assert torch.equal(walked.data_batch(), skipped.data_batch())
    reset.reset()  # negative control: without the data of the reward
    assert not torch.equal(skipped.data_batch(), reset.data_batch())
