"""What a user of stable-baselines3 does with a model, done with an agent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
)
from stable_baselines3.common.logger import HParam, configure
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from agents.algorithms.policy_gradient import DDPO, SFTPG
from agents.core.algorithm import AlgorithmCallback

MakeAgent = Callable[..., SFTPG]
ITERATION = 2 * 3 * 8  # environment steps of make_agent's defaults
Lines = list[dict[str, Any]]


class Keep(BaseCallback):
    """Keeps copies of ``locals`` after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        self.seen.append(dict(self.locals))
        return True


# --- callback= --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: [f], lambda f: (f, Keep())])
def test_a_plain_function_is_a_callback(make_agent: MakeAgent, wrap: Callable[[Any], Any]) -> None:
    calls: list[int] = []

    def callback(locals_: dict[str, Any], globals_: dict[str, Any]) -> bool:
        calls.append(locals_["self"].num_timesteps)
        return len(calls) < 4

    agent = make_agent().learn(10 * ITERATION, wrap(callback))
    assert calls == [8, 16, 24, 32] and agent.num_timesteps == 32


def test_callbacks_that_watch_an_algorithm_are_found_beside_functions(make_agent: MakeAgent) -> None:
    class Watch(AlgorithmCallback):
        pass

    watch, agent = Watch(), make_agent()
    agent.learn(ITERATION, [lambda a, b: True, CallbackList([watch])])
    assert watch.algorithm is agent


def test_locals_hold_what_callbacks_look_for(make_agent: MakeAgent) -> None:
    keep, agent = Keep(), make_agent()
    agent.learn(ITERATION, EveryNTimesteps(1, keep))
    assert len(keep.seen) == 6
    for step, seen in enumerate(keep.seen):
        ended = step % 3 == 2
        assert seen["dones"].tolist() == [ended] * 8 and seen["rewards"].shape == (8,) and len(seen["infos"]) == 8
        assert bool(seen["rewards"].any()) == ended
        assert ["episode" in info for info in seen["infos"]] == [ended] * 8
    episodes = [info["episode"] for info in keep.seen[2]["infos"]]
    np.testing.assert_allclose([one["r"] for one in episodes], keep.seen[2]["rewards"])
    assert {one["l"] for one in episodes} == {3}


def test_rewards_in_locals_are_the_environment_s(make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, agent = Keep(), make_agent()
    given, step = [], agent.envs.step

    def spy(actions: Any) -> Any:
        result = step(actions)
        given.append(result[1].clone())
        return result

    monkeypatch.setattr(agent.envs, "step", spy)
    agent.learn(ITERATION, keep)
    assert torch.equal(torch.stack(given), torch.tensor(np.stack([seen["rewards"] for seen in keep.seen])))


# --- logging ----------------------------------------------------------------------------------------------------------


def test_log_every_n_timesteps(make_agent: MakeAgent, record: Callable[..., Lines]) -> None:
    agent = make_agent()
    lines = record(agent)
    agent.learn(3 * ITERATION, LogEveryNTimesteps(32), log_interval=None)
    assert [line["time/total_timesteps"] for line in lines] == [32, 64, 96, 128]
    assert "train/loss" not in lines[0] and all("train/loss" in line for line in lines[1:])


class HParamCallback(BaseCallback):
    """As in stable-baselines3's documentation."""

    def _on_training_start(self) -> None:
        hparam_dict = {
            "algorithm": self.model.__class__.__name__,
            "learning rate": self.model.learning_rate,
            "gamma": self.model.gamma,  # type: ignore[attr-defined]
        }
        metric_dict: dict[str, float] = {"rollout/ep_len_mean": 0, "train/value_loss": 0.0}
        exclude = ("stdout", "log", "json", "csv")
        self.logger.record("hparams", HParam(hparam_dict, metric_dict), exclude=exclude)

    def _on_step(self) -> bool:
        return True


def test_hyper_parameters_for_tensorboard(make_agent: MakeAgent, tmp_path: Path) -> None:
    make_agent(tensorboard_log=tmp_path).learn(ITERATION, HParamCallback(), log_interval=1)
    (path,) = (tmp_path / "SFTPG_1").glob("events.*")
    tags = {value.tag for event in EventFileLoader(str(path)).Load() for value in event.summary.value}
    assert {"_hparams_/experiment", "_hparams_/session_start_info", "rollout/ep_len_mean", "train/value_loss"} <= tags


def test_hyper_parameters_are_attributes(make_agent: MakeAgent) -> None:
    agent: Any = make_agent()
    assert (agent.learning_rate, agent.gamma, agent.clip_range) == (agent.config.learning_rate, 1.0, 0.2)
    with pytest.raises(AttributeError, match="SFTPG has no attribute 'ent_coef', and its config no such field"):
        _ = agent.ent_coef
    assert not hasattr(agent, "replay_buffer")


def test_tags_that_users_of_stable_baselines3_look_for(make_agent: MakeAgent, record: Callable[..., Lines]) -> None:
    agent = make_agent(algo="ddpo")
    lines = record(agent)
    agent.learn(2 * ITERATION, log_interval=1)
    last, std = lines[-1], agent.envs.table.std
    assert last["train/clip_range"] == DDPO.default_config().clip_range  # type: ignore[attr-defined]
    assert last["rollout/ep_len_mean"] == 3 and last["train/n_updates"] == 2 * agent.config.n_generator
    assert last["train/std"] == pytest.approx(float(std.mean()))
    entropy = torch.distributions.Normal(torch.zeros(3, 2), std[:, None]).entropy().sum(-1).mean()
    assert last["train/entropy_loss"] == pytest.approx(-float(entropy), rel=1e-5)
    assert last["train/loss"] == pytest.approx(last["train/policy_gradient_loss"])
    assert last["time/time_elapsed"] >= 0
    lines = record(other := make_agent())
    other.learn(ITERATION, log_interval=1)
    assert "train/clip_range" not in lines[0]  # sft_pg clips nothing


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["time/total_timesteps"] for line in (folder / "progress.json").read_text().splitlines()]


def test_each_learn_is_a_run_of_its_own(make_agent: MakeAgent, tmp_path: Path) -> None:
    agent = make_agent(tensorboard_log=tmp_path)
    agent.learn(ITERATION, log_interval=1)
    agent.learn(ITERATION, log_interval=1)
    agent.learn(ITERATION, log_interval=1, reset_num_timesteps=False)  # goes on where the last one ended
    agent.learn(ITERATION, log_interval=1, tb_log_name="mine")
    agent.learn(ITERATION, log_interval=1, tb_log_name="yours", reset_num_timesteps=False)
    agent.learn(ITERATION, log_interval=1, tb_log_name="mine")
    found = {path.name: steps(path) for path in tmp_path.iterdir()}
    assert found == {
        "SFTPG_1": [ITERATION],
        "SFTPG_2": [ITERATION, 2 * ITERATION],
        "mine_1": [ITERATION],
        "yours_1": [2 * ITERATION],
        "mine_2": [ITERATION],
    }


def test_a_logger_of_the_user_stays(make_agent: MakeAgent, tmp_path: Path) -> None:
    agent = make_agent(tensorboard_log=tmp_path / "unused")
    agent.set_logger(configure(str(tmp_path / "own"), ["json"]))
    for _ in range(2):
        agent.learn(ITERATION, log_interval=1, tb_log_name="mine")
    assert steps(tmp_path / "own") == [ITERATION, ITERATION] and not (tmp_path / "unused").exists()


# --- load with changes ------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(make_agent: MakeAgent, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """An agent's file, and the objects that it must be given again."""
    agent = make_agent()
    agent.learn(2 * ITERATION)
    return agent.save(tmp_path / "agent"), dict(agent.env_kwargs)


def test_hyper_parameters_change_at_load(saved: tuple[Path, dict[str, Any]], record: Callable[..., Lines]) -> None:
    path, objects = saved
    changes: dict[str, Any] = {
        "learning_rate": 1e-5,
        "adam_beta1": 0.9,
        "n_critic": 3,
        "lr_schedule": "constant",
        "min_std": 0.3,
    }
    agent = SFTPG.load(path, objects, **changes)
    assert {name: getattr(agent.config, name) for name in changes} == changes
    assert agent.num_timesteps == 2 * ITERATION
    assert agent.policy_optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    assert agent.policy_optimizer.state  # the moments are those of the file
    lines = record(agent)
    agent.learn(1, log_interval=1)
    assert lines[0]["train/learning_rate"] == 1e-5 and lines[0]["train/std"] >= 0.3
    assert SFTPG.load(path, objects).config.adam_beta1 == 0.5  # negative control


def test_another_number_of_environments_begins_new_episodes(saved: tuple[Path, dict[str, Any]]) -> None:
    path, objects = saved
    with pytest.warns(UserWarning, match="saved with num_envs=8: with 4 the episodes begin anew"):
        agent = SFTPG.load(path, objects, num_envs=4)
    assert torch.equal(agent.sample(5, seed=1), SFTPG.load(path, objects).sample(5, seed=1))
    agent.learn(1, reset_num_timesteps=False)
    assert agent.num_timesteps == 2 * ITERATION + ITERATION // 2


def test_names_that_are_no_fields_are_refused(saved: tuple[Path, dict[str, Any]]) -> None:
    path, objects = saved
    with pytest.raises(
        ValueError, match=r"load cannot change \['learning_rat', 'n_epochs'\]\. Beside .* num_envs .*'learning_rate'"
    ):
        SFTPG.load(path, objects, learning_rat=1e-5, n_epochs=3)
    with pytest.raises(ValueError, match="learning_rate must be a finite number"):
        SFTPG.load(path, objects, learning_rate=float("nan"))


def test_the_size_of_a_network_does_not_change_at_load(saved: tuple[Path, dict[str, Any]]) -> None:
    path, objects = saved
    with pytest.raises(RuntimeError, match=r"value in .* does not fit this ValueNet"):
        SFTPG.load(path, objects, value_width=32)


def test_a_run_folder_is_loaded_by_class_and_by_name(small_kwargs: dict[str, object], tmp_path: Path) -> None:
    from agents.runs.callbacks import Checkpoint
    from agents.zoo import load_agent

    agent = SFTPG(num_envs=4, env_kwargs=small_kwargs, seed=0).learn(40, Checkpoint(tmp_path))
    given: dict[str, Any] = {"trust_paths": True}  # no command line is beside it
    for loaded in (SFTPG.load(tmp_path, **given), load_agent(tmp_path, **given), load_agent(str(tmp_path), **given)):
        assert torch.equal(loaded.sample(5, seed=1), agent.sample(5, seed=1))


def test_best_models_of_callbacks_are_named_plainly(make_agent: MakeAgent, tmp_path: Path) -> None:
    make_agent().learn(ITERATION, CheckpointCallback(6, str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["rl_model_48_steps.safetensors"]
