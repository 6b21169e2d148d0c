"""Which of Gymnasium's vector wrappers work on the native batch, held against the table of RECIPES.md.

``python tests/recipes/test_vector_wrappers.py`` writes the table anew.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers import TransformAction, TransformObservation, TransformReward, vector

import diffusion_env
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset

PAGE = Path(diffusion_env.__file__).parent / "RECIPES.md"
TABLE = re.compile(r"(<!-- wrappers: .*? -->\n).*?(<!-- end of wrappers -->)", flags=re.DOTALL)
NUM_ENVS, NUM_STEPS = 3, 2
X = Box(-np.inf, np.inf, (2,), np.float32)
BOUNDED = Box(-10, 10, (2,), np.float32)

pytestmark = pytest.mark.filterwarnings("ignore:.*precision lowered by casting", "ignore:__array_wrap__")

Envs = VectorEnv[Any, Any, Any]
Wrapper = Callable[[Envs], Envs]


def only_x(envs: Envs) -> Envs:
    return vector.TransformObservation(envs, lambda obs: obs["x"], single_observation_space=X)


def bounded_x(envs: Envs) -> Envs:
    return vector.TransformObservation(envs, lambda obs: obs["x"].clip(-10, 10), single_observation_space=BOUNDED)


def vectorized_x(envs: Envs) -> Envs:
    return vector.VectorizeTransformObservation(
        envs, TransformObservation, func=lambda obs: obs["x"], observation_space=X
    )


def vectorized_half_action(envs: Envs) -> Envs:
    return vector.VectorizeTransformAction(envs, TransformAction, func=lambda a: a / 2, action_space=BOUNDED)


WRAPPERS: dict[str, Wrapper] = {
    "RecordEpisodeStatistics": vector.RecordEpisodeStatistics,
    "DictInfoToList": vector.DictInfoToList,
    "FlattenObservation": vector.FlattenObservation,
    "FilterObservation": lambda envs: vector.FilterObservation(envs, ["x"]),
    "TransformObservation": only_x,
    "VectorizeTransformObservation": vectorized_x,
    "DtypeObservation": lambda envs: vector.DtypeObservation(only_x(envs), np.float64),
    "ReshapeObservation": lambda envs: vector.ReshapeObservation(only_x(envs), (2, 1)),
    "RescaleObservation": lambda envs: vector.RescaleObservation(bounded_x(envs), -1, 1),
    "NormalizeObservation": lambda envs: vector.NormalizeObservation(vector.FlattenObservation(envs)),
    "TransformAction": lambda envs: vector.TransformAction(envs, lambda action: action / 2),
    "VectorizeTransformAction": vectorized_half_action,
    "ClipAction": vector.ClipAction,
    "RescaleAction": lambda envs: vector.RescaleAction(envs, -1.0, 1.0),
    "TransformReward": lambda envs: vector.TransformReward(envs, lambda reward: 2 * reward),
    "VectorizeTransformReward": lambda envs: vector.VectorizeTransformReward(
        envs, TransformReward, func=lambda reward: 2 * reward
    ),
    "ClipReward": lambda envs: vector.ClipReward(envs, -1, 1),
    "NormalizeReward": vector.NormalizeReward,
}

# The part of an error that names its cause, and its letter under the table; the last one is for torch batches only.
CAUSES = (
    (r"Expected autoreset_mode to be NEXT_STEP or DISABLED", "a"),
    (r"to be AutoresetMode.NEXT_STEP", "b"),
    (r"", "c"),
)


def make_envs(data: Dataset, array_type: str, mode: AutoresetMode, sync: bool = False) -> Envs:
    arguments: dict[str, Any] = {"dataset": data, "num_steps": NUM_STEPS, "critic": lambda x: x.sum(-1)}
    if sync:
        arguments |= {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}
    else:
        arguments |= {"array_type": array_type, "autoreset_mode": mode}
    return gym.make_vec("DDPMShortcut-v0", NUM_ENVS, **arguments)


def run_episodes(envs: Envs, array_type: str) -> list[Any]:
    """Step until each environment has ended twice; returns the observations and rewards."""
    envs.action_space.seed(0)
    seen, ends = [envs.reset(seed=0)[0]], 0
    while ends < 2:
        action = envs.action_space.sample()
        obs, reward, terminated, *_ = envs.step(torch.as_tensor(action) if array_type == "torch" else action)
        seen += [obs, reward]
        ends += bool(terminated.all())
        if envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED and terminated.any():
            envs.reset(options={"reset_mask": np.asarray(terminated)})
    envs.close()
    return seen


def arrays(seen: list[Any]) -> list[Any]:
    return [array for part in seen for array in (part.values() if isinstance(part, dict) else [part])]


def verdict(data: Dataset, name: str, array_type: str, mode: AutoresetMode, sync: bool = False) -> str:
    """One cell of the table."""
    try:
        envs = WRAPPERS[name](make_envs(data, array_type, mode, sync))
        seen = run_episodes(envs, array_type)
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        letter = next(letter for cause, letter in CAUSES if re.search(cause, str(error)))
        if letter == "c" and array_type == "numpy":
            raise
        return f"no ({letter})"
    kind = np.ndarray if array_type == "numpy" else torch.Tensor
    return "yes" if all(isinstance(array, kind) for array in arrays(seen)) else "numpy"


def row(data: Dataset, name: str) -> str:
    cells = [verdict(data, name, array_type, mode) for array_type in ("numpy", "torch") for mode in AutoresetMode]
    return f"| `{name}` | {' | '.join(cells)} |"


def header() -> str:
    columns = [f"{array_type}, {mode.name}" for array_type in ("numpy", "torch") for mode in AutoresetMode]
    return f"| wrapper | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}"


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("gaussians8")


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_table_says_what_works(name: str, data: Dataset) -> None:
    assert row(data, name) in PAGE.read_text().splitlines(), f"Write it anew: python {Path(__file__).name}"


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_numpy_batch_is_wrapped_like_gymnasium_s_own(name: str, mode: AutoresetMode, data: Dataset) -> None:
    assert verdict(data, name, "numpy", mode) == verdict(data, name, "numpy", mode, sync=True)


def test_the_table_has_every_wrapper() -> None:
    found = TABLE.search(PAGE.read_text())
    assert found and found.group(0).count("\n") == len(WRAPPERS) + 3
    left_out = {"GrayscaleObservation", "ResizeObservation"}  # of images
    left_out |= {"HumanRendering", "RecordVideo"}  # the first needs a screen, test_rendering.py has the second
    converters = {"ArrayConversion", "JaxToNumpy", "JaxToTorch", "NumpyToTorch"}
    assert set(vector.__all__) == set(WRAPPERS) | left_out | converters


def test_numpy_to_torch(data: Dataset) -> None:
    pytest.importorskip("array_api_compat", reason="gymnasium's NumpyToTorch needs array-api-compat")
    for mode in AutoresetMode:
        for sync in (False, True):
            envs = vector.NumpyToTorch(make_envs(data, "numpy", mode, sync))
            if mode is AutoresetMode.SAME_STEP:  # gymnasium 1.4 cannot convert the final_obs of its own environments
                with pytest.raises(BufferError, match="DLPack"):
                    run_episodes(envs, "torch")
            else:
                assert all(isinstance(array, torch.Tensor) for array in arrays(run_episodes(envs, "torch")))


if __name__ == "__main__":
    ring = load_dataset("gaussians8")
    table = "\n".join([header(), *(row(ring, name) for name in WRAPPERS)])
    PAGE.write_text(TABLE.sub(lambda found: f"{found[1]}{table}\n{found[2]}", PAGE.read_text()))
