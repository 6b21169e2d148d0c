"""The single environment's arguments: every critic, sampler, table, data file and denoiser, and every refusal."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_env.critics import CRITICS, FrozenCritic, make_critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.samplers.named import SAMPLERS, make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.unseen_samples import CRITIC_BATCH
from diffusion_env.vector_env import DDPMShortcutVectorEnv
from tests.support import single_episode

TRAINABLE = [name for name in CRITICS if name != "frozen"]


class TestArguments:
    @pytest.mark.parametrize("critic", TRAINABLE)
    def test_every_critic_learns(self, ring: Dataset, critic: str) -> None:
        made = DDPMShortcutEnv(ring, num_steps=1, critic=critic)
        for i in range(CRITIC_BATCH):
            assert not made.process.critic_metrics
            total = single_episode(made, noise=i)[1]
        assert "ipm" in made.process.critic_metrics and np.isfinite(total)

    def test_saved_critic_and_reward_function(self, ring: Dataset, tmp_path: Path) -> None:
        saved = make_critic("energy", ring.shape, seed=3)
        path = saved.save(tmp_path / "critic")
        for critic in (str(path), path, f"frozen:{path}"):
            xs, _, info = single_episode(made := DDPMShortcutEnv(ring, num_steps=1, critic=critic), 0)
            assert isinstance(made.critic, FrozenCritic)
            with torch.no_grad():
                assert info["critic_score"] == pytest.approx(float(saved(torch.tensor(xs[-1]))), abs=1e-6)
        reward = FrozenCritic(lambda x: x[..., 0], ring.shape)
        xs, _, info = single_episode(DDPMShortcutEnv(ring, num_steps=1, critic=reward), 0)
        assert info["critic_score"] == float(xs[-1][0])

    @pytest.mark.parametrize("sampler", SAMPLERS)
    @pytest.mark.parametrize("num_steps", [1, 2])
    def test_samplers(self, ring: Dataset, oracle: MixtureDenoiser, sampler: str, num_steps: int) -> None:
        made = DDPMShortcutEnv(ring, num_steps, sampler, "residual", oracle)
        assert made.table.num_steps == num_steps and np.isfinite(single_episode(made, 0)[1])

    def test_a_table_is_used_as_it_is(self, ring: Dataset) -> None:
        table = make_table("ddim", make_schedule("linear"), 4)
        assert torch.equal(DDPMShortcutEnv(ring, 4, table).table.x_coef, table.x_coef)
        with pytest.raises(ValueError, match="4 rows but num_steps = 10"):
            DDPMShortcutEnv(ring, sampler=table)

    @pytest.mark.parametrize("shape", [(1, 8, 8), (3,), (1,)])
    def test_npz_of_any_shape_needs_no_network(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        np.savez(tmp_path / "points.npz", x=np.random.default_rng(0).normal(size=(50, *shape)))
        for data in (str(tmp_path / "points.npz"), load_dataset(tmp_path / "points.npz")):
            made = DDPMShortcutEnv(data, num_steps=2)
            xs, total, _ = single_episode(made, 0)
            assert made.denoiser is None and xs[-1].shape == shape and np.isfinite(total)
        denoiser = EpsMLP(shape, make_schedule("cosine"))
        path = denoiser.save(tmp_path / "denoiser")
        assert np.isfinite(single_episode(DDPMShortcutEnv(data, 2, action_mode="residual", denoiser=path), 0)[1])

    def test_a_file_with_a_known_name_is_not_that_set(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "swiss_roll.npz", x=np.random.default_rng(0).normal(size=(50, 2)))
        assert DDPMShortcutEnv(tmp_path / "swiss_roll.npz").denoiser is None
        assert DDPMShortcutEnv(load_dataset("swiss_roll")).denoiser is not None

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"dataset": "swiss"}, ValueError, "swiss_roll, moons"),
            ({"sampler": "ddmp"}, ValueError, "'ddim', 'ddpm'"),
            ({"critic": "energie"}, ValueError, "energy, frozen, gradient_penalty"),
            ({"action_mode": "noise"}, ValueError, "'step', 'residual'"),
            ({"render_mode": "human"}, ValueError, "rgb_array"),
            ({"denoiser": "nowhere"}, FileNotFoundError, "ddpm-shortcut pretrain"),
            ({"num_steps": 0}, ValueError, "num_steps must be .*received 0"),
            ({"num_steps": 1001}, ValueError, "between 1 and the 1000 levels"),
            ({"num_steps": 2.0}, ValueError, "num_steps must be an integer"),
        ],
    )
    def test_unknown_names_list_what_exists(
        self, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message) as caught:
            DDPMShortcutEnv(**{"dataset": "gaussians8", **arguments})
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("make", [DDPMShortcutEnv, DDPMShortcutVectorEnv])
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            *(
                ({"dataset": wrong}, TypeError, "dataset must be a string or a path or Dataset; received")
                for wrong in (None, ["swiss_roll"], b"swiss_roll", np.zeros((300, 2)), 3, torch.zeros(2))
            ),
            *(
                ({name: wrong}, ValueError, f"{name} is an empty string. Give a name or a path")
                for name in ("dataset", "sampler", "denoiser", "critic")
                for wrong in ("", "  ")
            ),
            ({"dataset": Dataset}, TypeError, "dataset must be"),
            ({"sampler": ["ddpm"]}, TypeError, r"sampler must be a string or StepTable; received \['ddpm'\]"),
            ({"sampler": None}, TypeError, "sampler must be a string or StepTable; received None"),
            ({"action_mode": ["step"]}, TypeError, r"action_mode must be one of \['step', 'residual'\]"),
            ({"denoiser": 3}, TypeError, "denoiser must be None or a string or a path or Callable; received 3"),
            ({"denoiser": EpsMLP}, TypeError, "denoiser must be an object, not a class; received the class EpsMLP"),
            ({"denoiser": torch.tanh}, TypeError, "attributes .shape"),
            ({"critic": 3}, TypeError, "critic must be a string or a path or Critic or Callable; received 3"),
            ({"critic": None}, TypeError, "critic must be a string"),
            ({"critic": FrozenCritic}, TypeError, "critic must be an object, not a class"),
            ({"critic_kwargs": ["gamma"]}, TypeError, "critic_kwargs must be None or Mapping"),
            ({"train_critic": "no"}, TypeError, "train_critic must be True or False; received 'no'"),
            ({"train_critic": 1}, TypeError, "train_critic must be True or False"),
            ({"observation": None}, TypeError, "observation must be one of"),
            ({"num_steps": True}, TypeError, "num_steps must be an integer"),
            ({"num_steps": "5"}, TypeError, "num_steps must be an integer"),
            ({"num_steps": 5.0}, ValueError, "num_steps must be an integer .*received 5.0"),
            ({"num_steps": np.array(5)}, TypeError, "num_steps must be an integer"),
            ({"num_steps": 10**9, "sampler": "published_toy"}, ValueError, "num_steps must be an integer"),
            ({"render_mode": ["rgb_array"]}, ValueError, "Unknown render_mode"),
        ],
    )
    def test_wrong_types(self, make: Any, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message) as caught:
            make(**{"dataset": "gaussians8", **arguments})
        assert "\n" not in str(caught.value)

    def test_numbers_of_numpy(self, ring: Dataset) -> None:
        count: Any = np.int64(3)  # no int for a type checker
        env, envs = DDPMShortcutEnv(ring, count), DDPMShortcutVectorEnv(count, ring, count)
        assert env.table.num_steps == envs.table.num_steps == envs.num_envs == 3 and type(envs.num_envs) is int
        makers: list[Any] = [env, envs]
        for made in makers:
            np.testing.assert_array_equal(made.reset(seed=count)[0]["x"], made.reset(seed=3)[0]["x"])

    @pytest.mark.parametrize("num_envs", [10**9, 10**12, np.int64(2**62), 2**80])
    def test_more_environments_than_memory(self, ring: Dataset, num_envs: Any) -> None:
        with pytest.raises(ValueError, match=f"num_envs = {num_envs} .* GiB, but cpu has"):
            DDPMShortcutVectorEnv(num_envs, ring)

    def test_a_step_that_does_nothing_is_named(self, ring: Dataset) -> None:
        table = make_table("ddpm", make_schedule("linear"), 4)
        eps_coef, std = table.eps_coef.clone(), table.std.clone()
        eps_coef[2] = std[2] = 0.0
        with pytest.raises(ValueError, match=r"'ddpm' has eps_coef = 0 and std = 0 at the steps \[2\]"):
            DDPMShortcutEnv(ring, 4, replace(table, eps_coef=eps_coef, std=std))
        for sound in (replace(table, eps_coef=eps_coef), replace(table, std=std)):
            assert np.isfinite(single_episode(DDPMShortcutEnv(ring, 4, sound), 0)[1])

    def test_other_shapes_are_refused(self, ring: Dataset) -> None:
        three = EpsMLP((3,), make_schedule("cosine"))
        with pytest.raises(ValueError, match=r"\(3,\)"):
            DDPMShortcutEnv(ring, action_mode="residual", denoiser=three)
        with pytest.raises(ValueError, match=r"\(3,\)"):
            DDPMShortcutEnv(ring, critic=make_critic("energy", (3,)))
        with pytest.raises(ValueError, match="Pass denoiser=PATH"):
            DDPMShortcutEnv(replace(ring, name="mine"), action_mode="residual")
