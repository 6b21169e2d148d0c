"""The vector environment refuses what it cannot use, and names it."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from diffusion_env.critics import load_critic, make_critic
from diffusion_env.data.dataset import Dataset
from tests.support import make_vector


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"array_type": "jax"}, "'numpy' or 'torch'"),
            ({"array_type": ["numpy"]}, "'numpy' or 'torch'"),
            ({"autoreset_mode": ["SameStep"]}, "'NextStep', 'SameStep', 'Disabled'"),
            ({"device": "meta"}, "device 'meta' cannot be used here .*hold no numbers"),
            ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
            ({"autoreset_mode": "same_step"}, "'NextStep', 'SameStep', 'Disabled'"),
            ({"device": "tpu"}, "device 'tpu' cannot be used"),
            ({"render_mode": "human"}, "rgb_array"),
            ({"num_envs": 0}, "num_envs must be an integer >= 1"),
            ({"num_envs": -1}, "num_envs must be an integer >= 1"),
            ({"num_envs": 2.0}, "num_envs must be an integer >= 1"),
            ({"num_steps": 0}, "num_steps must be"),
        ],
    )
    def test_arguments(self, ring: Dataset, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            make_vector(ring, **arguments)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_envs": True}, "num_envs must be an integer >= 1; received True"),
            ({"num_envs": "3"}, "num_envs must be an integer >= 1; received '3'"),
            ({"num_envs": None}, "num_envs must be an integer >= 1; received None"),
            ({"device": None}, "device must be a string or device; received None"),
            ({"device": 1.5}, "device must be a string or device; received 1.5"),
        ],
    )
    def test_types_of_arguments(self, ring: Dataset, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(TypeError, match=message):
            make_vector(ring, **arguments)

    @pytest.mark.parametrize(
        ("array_type", "action", "error", "message"),
        [
            ("numpy", torch.zeros(3, 2), TypeError, "received a Tensor"),
            ("numpy", np.zeros((3, 2), complex), TypeError, "dtype complex128"),
            ("numpy", np.zeros((2, 2), np.float32), ValueError, r"\(3, 2\); received \(2, 2\)"),
            ("numpy", np.full((3, 2), np.nan, np.float32), ValueError, "NaN or infinity"),
            ("torch", np.zeros((3, 2), np.float32), TypeError, "received ndarray"),
            ("torch", torch.zeros(3, 2, dtype=torch.complex64), TypeError, r"torch\.complex64"),
            ("torch", [[0.0, 0.0]] * 3, TypeError, "received list"),
            ("torch", torch.zeros(3), ValueError, r"\(3, 2\)"),
            ("torch", torch.full((3, 2), torch.inf), ValueError, "NaN or infinity"),
            ("torch", torch.zeros(3, 2, device="meta"), ValueError, "tensor on meta"),
        ],
    )
    def test_actions(self, ring: Dataset, array_type: str, action: Any, error: type[Exception], message: str) -> None:
        envs = make_vector(ring, array_type=array_type)
        envs.reset(seed=0)
        with pytest.raises(error, match=message):
            envs.step(action)
        assert not envs.process.k.any()

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
    def test_tensors_of_any_real_type_are_taken(self, ring: Dataset, kind: torch.dtype) -> None:
        envs, states = make_vector(ring, array_type="torch"), []
        for dtype in (torch.float32, kind):
            envs.reset(seed=0)
            states.append(envs.step(torch.ones(3, 2, dtype=dtype))[0]["x"])
        assert torch.equal(*states) and states[0].dtype == torch.float32

    @pytest.mark.parametrize(
        ("mask", "error"),
        [
            ([True, False, False], TypeError),
            (np.array([1, 0, 0]), TypeError),
            (np.array([True, False]), ValueError),
            (np.zeros(3, bool), ValueError),
        ],
    )
    def test_reset_mask(self, ring: Dataset, mask: Any, error: type[Exception]) -> None:
        envs = make_vector(ring)
        envs.reset(seed=0)
        with pytest.raises(error, match="reset_mask"):
            envs.reset(options={"reset_mask": mask})

    def test_a_tensor_is_a_reset_mask_too(self, ring: Dataset) -> None:
        envs = make_vector(ring, num_steps=1, array_type="torch", autoreset_mode=AutoresetMode.DISABLED)
        envs.reset(seed=0)
        terminated = envs.step(torch.zeros(3, 2))[2]
        assert envs.reset(options={"reset_mask": terminated})[0]["step"].tolist() == [0, 0, 0]

    def test_a_foreign_critic_or_file(self, ring: Dataset, tmp_path: Any) -> None:
        path = make_critic("energy", (3,)).save(tmp_path / "three")
        with pytest.raises(ValueError, match=r"\(3,\)"):
            make_vector(ring, critic=load_critic(path))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            envs = make_vector(ring, critic=make_critic("energy", (2,)))
        assert envs.critic.shape == (2,)
