"""What a run logs, and that logging leaves the run alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.policy_gradient import SFTPG

MakeAgent = Callable[..., SFTPG]
SMALL = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1)
ITERATION = 2 * 3 * 8  # environment steps of make_agent's defaults


LOGGED = {
    "rollout/ep_len_mean",
    "rollout/ep_rew_mean",
    "time/time_elapsed",
    "train/entropy_loss",
    "train/loss",
    "train/n_updates",
    "train/std",
    "time/fps",
    "time/iterations",
    "time/total_timesteps",
    "train/advantage_std",
    "train/explained_variance",
    "train/grad_norm",
    "train/kl_to_pretrained",
    "train/learning_rate",
    "train/policy_gradient_loss",
    "train/ratio_error",
    "train/value_grad_norm",
    "train/value_loss",
    "train/weights_without_gradient",
    "critic/overfit_z",
    "sanity/critic",
    "sanity/gradient",
    "sanity/ratio",
    "time/network_evaluations",
    "critic/critic_loss",
    "critic/gap_held_out",
    "critic/grad_norm",
    "critic/ipm",
    "critic/lipschitz",
    "critic/regulariser",
    "kl_to_pretrained/step_0000",
    "kl_to_pretrained/step_0001",
    "kl_to_pretrained/step_0002",
}


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "progress.json").read_text().splitlines()]


def test_the_logger_writes_json_and_tensorboard(make_agent: MakeAgent, tmp_path: Path) -> None:
    agent = make_agent(tensorboard_log=tmp_path / "runs")
    agent.learn(6 * ITERATION, log_interval=2)
    folder = tmp_path / "runs" / "SFTPG_1"
    logged = rows(folder)
    assert [row["time/total_timesteps"] for row in logged] == [2 * ITERATION, 4 * ITERATION, 6 * ITERATION]
    assert all(row.keys() == LOGGED and np.isfinite(list(row.values())).all() for row in logged)
    assert logged[0]["rollout/ep_rew_mean"] == pytest.approx(-logged[0]["critic/ipm"])
    assert list(folder.glob("events.out.tfevents.*"))
    assert agent.logger.dir == str(folder)
    make_agent(tensorboard_log=tmp_path / "runs").learn(ITERATION)
    assert (tmp_path / "runs" / "SFTPG_2").is_dir()
    make_agent(tensorboard_log=tmp_path / "runs").learn(ITERATION, tb_log_name="mine")
    assert (tmp_path / "runs" / "mine_1").is_dir()


def test_kl_to_pretrained_starts_at_zero_and_grows(make_agent: MakeAgent, tmp_path: Path) -> None:
    agent = make_agent(replace(SMALL, learning_rate=0), tensorboard_log=tmp_path / "still")
    agent.learn(ITERATION, log_interval=1)
    assert rows(tmp_path / "still" / "SFTPG_1")[0]["train/kl_to_pretrained"] == 0
    agent = make_agent(replace(SMALL, learning_rate=1e-2, lr_schedule="constant"), tensorboard_log=tmp_path / "moving")
    agent.learn(10 * ITERATION, log_interval=1)
    kl = [row["train/kl_to_pretrained"] for row in rows(tmp_path / "moving" / "SFTPG_1")]
    assert 0 < kl[0] < kl[-1]


def test_logging_does_not_change_the_run(make_agent: MakeAgent, tmp_path: Path) -> None:
    quiet = make_agent().learn(3 * ITERATION, log_interval=100)
    loud = make_agent(tensorboard_log=tmp_path).learn(3 * ITERATION, log_interval=1)
    assert torch.equal(quiet.sample(10), loud.sample(10))


def test_there_is_no_logger_before_learning(make_agent: MakeAgent) -> None:
    with pytest.raises(RuntimeError, match=r"call learn\(\) or set_logger\(\) first"):
        _ = make_agent().logger
