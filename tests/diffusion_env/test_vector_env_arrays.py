"""The vector environment's arrays: numpy and torch, spaces, who may write to them, the accelerator."""

import pickle
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from tests.support import Step, assert_same_steps, leaves, make_vector, vector_actions


class TestArrays:
    @pytest.mark.parametrize("mode", list(AutoresetMode))
    def test_numpy_and_torch_give_equal_numbers(self, ring: Dataset, mode: AutoresetMode) -> None:
        results: dict[str, list[Step]] = {}
        for array_type in ("numpy", "torch"):
            envs = make_vector(ring, 130, array_type=array_type, autoreset_mode=mode)  # 130: the critic is trained
            envs.reset(seed=0)
            results[array_type] = []
            for i, action in enumerate(vector_actions(6, 130)):
                if mode is AutoresetMode.DISABLED and i % 2 == 0:
                    envs.reset()
                step = envs.step(torch.from_numpy(action) if array_type == "torch" else action)
                results[array_type].append(step)
        kinds = {
            key: {type(leaf) for step in steps for leaf in leaves(dict(enumerate(step)))}
            for key, steps in results.items()
        }
        assert kinds == {"numpy": {np.ndarray}, "torch": {torch.Tensor}}
        assert_same_steps(results["numpy"], results["torch"])

    @pytest.mark.parametrize("array_type", ["numpy", "torch"])
    def test_in_the_spaces(self, ring: Dataset, array_type: str) -> None:
        envs = make_vector(ring, array_type=array_type)
        assert isinstance(envs.observation_space, gym.spaces.Dict)
        assert envs.observation_space["step"] == gym.spaces.MultiDiscrete([3, 3, 3])
        assert envs.action_space.shape == (3, 2) and envs.single_action_space.shape == (2,)
        obs, _ = envs.reset(seed=0)
        assert envs.observation_space.contains({key: np.asarray(value) for key, value in obs.items()})

    @pytest.mark.parametrize("array_type", ["numpy", "torch"])
    def test_what_is_returned_is_never_written_again(self, ring: Dataset, array_type: str) -> None:
        envs, control = (make_vector(ring, array_type=array_type) for _ in range(2))
        plan = torch.from_numpy(vector_actions(8)) if array_type == "torch" else vector_actions(8)
        starts = [made.reset(seed=0)[0] for made in (envs, control)]
        kept = [(leaf, pickle.dumps(leaf)) for leaf in leaves(starts[1])]
        for leaf in leaves(starts[0]):
            leaf[:] = 1
        for action in plan:
            steps = [made.step(action + 0) for made in (envs, control)]
            assert_same_steps([steps[0]], [steps[1]])
            kept += [(leaf, pickle.dumps(leaf)) for leaf in leaves(dict(enumerate(steps[1])))]
            for ended in [steps[0][4]["final_obs"]] if "final_obs" in steps[0][4] and array_type == "numpy" else []:
                ended[0]["x"][:] = 1
            for leaf in leaves(dict(enumerate(steps[0]))):
                leaf[:] = 1  # what a user does to them must not reach the environment
        assert all(pickle.dumps(leaf) == before for leaf, before in kept)

    def test_no_autograd_graph(self, ring: Dataset, oracle: MixtureDenoiser) -> None:
        envs = make_vector(ring, action_mode="residual", denoiser=oracle, array_type="torch")
        envs.reset(seed=0)
        for action in torch.from_numpy(vector_actions(2)):
            step = envs.step(action.requires_grad_())
        assert not any(leaf.requires_grad for leaf in leaves(dict(enumerate(step))))

    @pytest.mark.gpu
    def test_cuda_follows_the_cpu(self, ring: Dataset, oracle: MixtureDenoiser) -> None:
        results = []
        for device in ("cpu", "cuda"):
            network = deepcopy(oracle)  # the environment moves it to its device
            arguments: dict[str, Any] = {"action_mode": "residual", "denoiser": network, "array_type": "torch"}
            envs = make_vector(ring, 130, device=device, **arguments)
            envs.reset(seed=0)
            envs.process.x = torch.from_numpy(vector_actions(1, 130)[0]).to(device)
            for action in torch.from_numpy(vector_actions(2, 130)).to(device):
                step = envs.step(action)
            assert {leaf.device.type for leaf in leaves(dict(enumerate(step)))} == {device}
            results.append(step[4]["final_obs"]["x"].cpu())
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
        bad = torch.full((130, 2), torch.nan, device="cuda")
        envs.step(bad)  # found when the episode ends
        with pytest.raises(ValueError, match="NaN or infinity"):
            envs.step(torch.zeros_like(bad))
        with pytest.raises(ResetNeeded):
            envs.step(torch.zeros_like(bad))
