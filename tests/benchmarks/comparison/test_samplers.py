"""Trained samplers as files: a restored one samples as it did, and what does not fit is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.core.algorithm import Algorithm
from agents.core.task import Task
from agents.zoo import find
from benchmarks.comparison.grid import Entry, Run
from benchmarks.comparison.samplers import network_of, restore_sampler, sampler_path, save_sampler, step_table
from diffusion_env.checkpoints import CheckpointError

TASK = Task("gaussians8", num_steps=2, num_envs=4)
SMALL: dict[str, dict[str, Any]] = {"ddpo": {"n_critic": 1, "min_std": 0.1}, "ppo": {"episodes": 1, "n_epochs": 1}}
SETTINGS = {"seed": 0, "total_timesteps": 16}


def made(algo: str, seed: int = 0, **changes: Any) -> Algorithm:
    return find(algo).make(TASK, seed, SMALL[algo] | changes)


@pytest.mark.parametrize("algo", SMALL)
def test_a_restored_sampler_samples_as_it_did(algo: str, tmp_path: Path) -> None:
    trained = made(algo)
    trained.learn(16)
    path = save_sampler(tmp_path / "new" / "sampler.safetensors", trained, SETTINGS)
    assert path is not None and path.is_file()
    fresh = made(algo, seed=1)
    assert not torch.equal(fresh.sample(20, 3), trained.sample(20, 3))
    restore_sampler(path, fresh, SETTINGS)
    assert torch.equal(fresh.sample(20, 3), trained.sample(20, 3))
    assert fresh.critic is not None and trained.critic is not None
    x = torch.ones(3, 2)
    assert torch.equal(fresh.critic(x), trained.critic(x))


def test_the_step_table_is_the_one_that_is_walked() -> None:
    table = step_table(made("ddpo"))
    assert set(table) == {"x_coef", "eps_coef", "std", "time"} and table["std"].shape == (2,)
    wider = step_table(made("ddpo", min_std=0.9, deployed_std="training"))
    assert float(wider["std"].min()) > float(table["std"].min())


def test_an_algorithm_without_a_network_is_not_saved(tmp_path: Path) -> None:
    untouched = find("untouched").make(TASK, 0)
    assert network_of(untouched) is None and step_table(untouched) == {}
    assert save_sampler(tmp_path / "sampler", untouched, SETTINGS) is None and not list(tmp_path.iterdir())


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = save_sampler(tmp_path / "sampler", made("ddpo"), SETTINGS)
    assert path is not None
    with pytest.raises(CheckpointError, match=r"was trained with .*'seed': 0.* and the run has .*'seed': 1"):
        restore_sampler(path, made("ddpo"), {**SETTINGS, "seed": 1})
    with pytest.raises(CheckpointError, match="walks another step table"):
        restore_sampler(path, made("ddpo", min_std=0.9, deployed_std="training"), SETTINGS)
    with pytest.raises(CheckpointError, match="is no sampler of untouched"):
        restore_sampler(path, find("untouched").make(TASK, 0), SETTINGS)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        restore_sampler(tmp_path / "none", made("ddpo"), SETTINGS)


def test_runs_have_paths_of_their_own(tmp_path: Path) -> None:
    run = Run(Entry("mine", "ddpo"), TASK, 0)
    others = [
        replace(run, seed=1),
        replace(run, task=replace(TASK, num_steps=3)),
        replace(run, entry=Entry("b", "ddpo")),
    ]
    paths = [sampler_path(tmp_path, one) for one in (run, *others)]
    assert len(set(paths)) == len(paths) and all(path.is_relative_to(tmp_path / "samplers") for path in paths)
    assert paths[0] == tmp_path / "samplers" / "mine" / "gaussians8_k2_seed0.safetensors"
