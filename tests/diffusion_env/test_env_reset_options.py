"""`reset(options=...)`: start at given states, in both shells, alone and together with a mask or a seed."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from diffusion_env.data.dataset import Dataset
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.vector_env import DDPMShortcutVectorEnv

ARRAY_TYPES = ["numpy", "torch"]
Float32 = NDArray[np.float32]


def normal(*shape: int, seed: int = 0) -> Float32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def as_type(array: Float32, array_type: str) -> Any:
    return torch.from_numpy(array) if array_type == "torch" else array


def vector(data: Dataset, array_type: str = "numpy", **kwargs: Any) -> DDPMShortcutVectorEnv:
    return DDPMShortcutVectorEnv(3, data, 2, array_type=array_type, **kwargs)  # type: ignore[arg-type]  # a literal


def test_the_single_environment_starts_there_and_replays(ring: Dataset) -> None:
    env = DDPMShortcutEnv(ring, num_steps=2, render_mode="rgb_array")
    env.reset(seed=0)
    samples = []
    for start in (normal(2), normal(2), normal(2, seed=1)):
        before = env.process.generator.get_state()
        obs, info = env.reset(options={"x": start})
        assert torch.equal(env.process.generator.get_state(), before)  # nothing was drawn
        np.testing.assert_array_equal(obs["x"], start)
        assert obs["step"] == 0 and info == {} and torch.equal(env.process.path[0], torch.from_numpy(start))
        for action in normal(2, 2):
            obs = env.step(action)[0]
        samples.append(obs["x"])
    np.testing.assert_array_equal(samples[0], samples[1])
    assert not np.array_equal(samples[0], samples[2])


@pytest.mark.parametrize("array_type", ARRAY_TYPES)
def test_a_group_shares_its_start(ring: Dataset, array_type: str) -> None:
    envs = vector(ring, array_type)
    envs.reset(seed=0)
    before = envs.process.generator.get_state()
    start = np.repeat(normal(1, 2), 3, axis=0)
    obs, infos = envs.reset(options={"x": as_type(start, array_type)})
    assert torch.equal(envs.process.generator.get_state(), before)
    np.testing.assert_array_equal(np.asarray(obs["x"]), start)
    assert np.asarray(obs["step"]).tolist() == [0, 0, 0] and infos == {}
    x = envs.step(as_type(np.repeat(normal(1, 2), 3, axis=0), array_type))[0]["x"]
    assert bool((x == x[0]).all())  # one start and one action: one state


@pytest.mark.parametrize("array_type", ARRAY_TYPES)
def test_with_a_mask_only_its_rows_are_used(ring: Dataset, array_type: str) -> None:
    envs = vector(ring, array_type, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    moved = np.asarray(envs.step(as_type(normal(3, 2), array_type))[0]["x"]).copy()
    start, mask = normal(3, 2, seed=1), np.array([True, False, True])
    start[1] = np.nan  # not looked at
    obs, _ = envs.reset(options={"x": as_type(start, array_type), "reset_mask": mask})
    np.testing.assert_array_equal(np.asarray(obs["x"]), np.where(mask[:, None], start, moved))
    assert np.asarray(obs["step"]).tolist() == [0, 1, 0]


def test_a_seed_given_with_it_fixes_what_follows(ring: Dataset) -> None:
    start = normal(3, 2)
    for env, x in ((vector(ring), start), (DDPMShortcutEnv(ring), start[0])):
        following = []
        for seed in (5, 5, 6):
            np.testing.assert_array_equal(env.reset(seed=seed, options={"x": x})[0]["x"], x)
            following.append(env.reset()[0]["x"])
        np.testing.assert_array_equal(following[0], following[1])
        assert not np.array_equal(following[0], following[2])


@pytest.mark.parametrize("array_type", ARRAY_TYPES)
def test_the_start_is_copied(ring: Dataset, array_type: str) -> None:
    envs, given = vector(ring, array_type), as_type(normal(3, 2), array_type)
    obs, _ = envs.reset(seed=0, options={"x": given})
    given[:] = 9
    obs["x"][:] = 9
    np.testing.assert_array_equal(envs.process.x.numpy(), normal(3, 2))
    env, one = DDPMShortcutEnv(ring), normal(2)
    env.reset(seed=0, options={"x": one})
    one[:] = 9
    np.testing.assert_array_equal(env.process.x[0].numpy(), normal(2))


def test_no_graph_comes_in_with_it(ring: Dataset) -> None:
    obs, _ = vector(ring, "torch").reset(options={"x": torch.zeros(3, 2, requires_grad=True)})
    assert not obs["x"].requires_grad


@pytest.mark.parametrize(
    ("array_type", "options", "error", "message"),
    [
        ("numpy", {"x": torch.zeros(3, 2)}, TypeError, r"options\['x'\] must be a numpy array.*Tensor"),
        ("numpy", {"x": np.zeros((3, 2), complex)}, TypeError, "dtype complex128"),
        ("numpy", {"x": None}, TypeError, "received NoneType"),
        ("numpy", {"x": normal(2)}, ValueError, r"\(3, 2\); received \(2,\)"),
        ("numpy", {"x": np.full((3, 2), np.nan, np.float32)}, ValueError, "NaN or infinity"),
        ("torch", {"x": normal(3, 2)}, TypeError, r"options\['x'\] must be a tensor.*ndarray"),
        ("torch", {"x": torch.zeros(3, 2, dtype=torch.complex64)}, TypeError, r"options\['x'\].*torch\.complex64"),
        ("torch", {"x": torch.zeros(2, 2)}, ValueError, r"\(3, 2\).*received \(2, 2\)"),
        ("torch", {"x": torch.full((3, 2), torch.inf)}, ValueError, "NaN or infinity"),
        ("torch", {"x": torch.zeros(3, 2, device="meta")}, ValueError, r"options\['x'\] must be on cpu"),
        ("numpy", {"start": normal(3, 2)}, ValueError, r"\['start'\], but it knows \['reset_mask', 'x'\]"),
    ],
)
def test_unusable_options_change_nothing(
    ring: Dataset, array_type: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    envs = vector(ring, array_type)
    envs.reset(seed=0)
    envs.step(as_type(normal(3, 2), array_type))
    x, state = envs.process.x.clone(), envs.process.generator.get_state()
    with pytest.raises(error, match=message) as caught:
        envs.reset(seed=1, options=options)
    assert "\n" not in str(caught.value)
    assert torch.equal(envs.process.x, x) and envs.process.k.tolist() == [1, 1, 1]
    assert torch.equal(envs.process.generator.get_state(), state)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"x": normal(1, 2)}, ValueError, r"options\['x'\] must have shape \(2,\); received \(1, 2\)"),
        ({"x": ["a", "b"]}, TypeError, "received list"),
        ({"x": np.array([0.0, np.inf], np.float32)}, ValueError, "NaN or infinity"),
        ({"reset_mask": np.ones(1, bool)}, ValueError, r"\['reset_mask'\], but it knows \['x'\]"),
    ],
)
def test_the_single_environment_refuses(
    ring: Dataset, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    env = DDPMShortcutEnv(ring)
    start = env.reset(seed=0)[0]["x"]
    with pytest.raises(error, match=message):
        env.reset(seed=1, options=options)
    np.testing.assert_array_equal(env.process.x[0].numpy(), start)
