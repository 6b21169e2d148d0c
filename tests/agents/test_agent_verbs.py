"""The six verbs, stable-baselines3's callbacks and logger, and what happens when a number is not finite."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.monitor import Monitor
from torch import Tensor, nn

from agents.config import PolicyGradientConfig
from agents.sft_pg import SFTPG
from diffusion_env.critics import EnergyCritic, FrozenCritic
from diffusion_env.datasets import Dataset, load_dataset
from diffusion_env.denoisers import EpsMLP
from diffusion_env.evaluation import EvaluationConfig
from diffusion_env.pretrain import PretrainConfig, pretrain

MakeAgent = Callable[..., SFTPG]
SMALL = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1)
ITERATION = 2 * 3 * 8  # environment steps of make_agent's defaults


# --- learn and its callbacks -----------------------------------------------------------------------------------------


class Counter(BaseCallback):
    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.stop_at, self.events = stop_at, list[str]()

    def _on_training_start(self) -> None:
        self.events.append("start")

    def _on_rollout_start(self) -> None:
        self.events.append("[")

    def _on_step(self) -> bool:
        self.events.append(str(self.num_timesteps))
        return self.n_calls != self.stop_at

    def _on_rollout_end(self) -> None:
        self.events.append("]")

    def _on_training_end(self) -> None:
        self.events.append("end")


def test_callbacks_are_called_in_stable_baselines3_s_order(make_agent: MakeAgent) -> None:
    counter = Counter()
    agent = make_agent()
    assert agent.learn(ITERATION + 1, counter) is agent
    steps = [str(8 * (i + 1)) for i in range(12)]
    assert counter.events == ["start", "[", *steps[:6], "]", "[", *steps[6:], "]", "end"]
    assert counter.model is agent and counter.training_env is agent.get_env() is agent.envs
    assert agent.num_timesteps == 2 * ITERATION and agent.iteration == 2


def test_a_callback_that_says_no_stops_at_that_step(make_agent: MakeAgent) -> None:
    agent, counter = make_agent(), Counter(stop_at=8)
    agent.learn(10 * ITERATION, [counter])
    assert counter.events[-2:] == ["64", "end"]
    assert agent.num_timesteps == 64 and agent.iteration == 1
    agent.learn(ITERATION, reset_num_timesteps=False, log_interval=1)  # episodes start anew, from noise
    assert agent.num_timesteps == 64 + ITERATION
    assert agent.diagnostics()["train/ratio_error"] < 1e-3


def test_a_second_learn_keeps_the_critic(make_agent: MakeAgent) -> None:
    agent = make_agent(critic="energy")
    agent.learn(2 * ITERATION, Counter(stop_at=8))
    weights = [w.clone() for w in agent.envs.critic.parameters()]
    agent._set_up(1, None, None, True, False)
    assert agent.num_timesteps == 0
    assert all(torch.equal(w, old) for w, old in zip(agent.envs.critic.parameters(), weights, strict=True))


def test_max_episodes_counts_finished_samples(make_agent: MakeAgent) -> None:
    agent = make_agent()
    agent.learn(100 * ITERATION, StopTrainingOnMaxEpisodes(max_episodes=5))  # 5 per environment
    assert agent.num_timesteps == 5 * 3 * 8


def test_stable_baselines3_evaluates_and_keeps_the_best(make_agent: MakeAgent, tmp_path: Path) -> None:
    agent = make_agent()
    kwargs = {key: agent.env_kwargs[key] for key in ("dataset", "denoiser", "critic", "num_steps")}
    environment = Monitor(gym.make("DDPMShortcut-v0", train_critic=False, **kwargs))
    callback = EvalCallback(
        environment, eval_freq=6, n_eval_episodes=3, best_model_save_path=str(tmp_path), verbose=0, warn=False
    )
    with pytest.warns(UserWarning, match="not of the same type"):
        agent.learn(2 * ITERATION, callback)
    assert np.isfinite(callback.best_mean_reward)
    best = SFTPG.load(tmp_path / "best_model", env_kwargs=kwargs)
    assert best.sample(4).shape == (4, 2)


def test_checkpoint_callback(make_agent: MakeAgent, tmp_path: Path) -> None:
    agent = make_agent()
    agent.learn(2 * ITERATION, CheckpointCallback(save_freq=6, save_path=str(tmp_path), name_prefix="run"))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["run_48_steps.zip.safetensors", "run_96_steps.zip.safetensors"]
    again = SFTPG.load(tmp_path / files[1], env_kwargs=agent.env_kwargs)
    assert again.num_timesteps == 96


@pytest.mark.filterwarnings("ignore:rich is experimental")
def test_the_progress_bar_runs_to_the_end(make_agent: MakeAgent, capsys: pytest.CaptureFixture[str]) -> None:
    make_agent().learn(2 * ITERATION, progress_bar=True)
    out, err = capsys.readouterr()
    assert "96/96" in out + err


@pytest.mark.parametrize("total", [0, -5])
def test_no_steps_is_an_error(make_agent: MakeAgent, total: int) -> None:
    with pytest.raises(ValueError, match=f"total_timesteps must be at least 1 .* received {total}"):
        make_agent().learn(total)


# --- logging ---------------------------------------------------------------------------------------------------------

LOGGED = {
    "rollout/ep_rew_mean",
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


# --- predict, sample, evaluate ---------------------------------------------------------------------------------------


def test_predict_for_one_and_for_many(make_agent: MakeAgent) -> None:
    agent = make_agent()
    x, step = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32), np.array([0, 1, 2, 1, 0])
    many, state = agent.predict({"x": x, "step": step}, deterministic=True)
    assert many.shape == (5, 2) and many.dtype == np.float32 and state is None
    for i in range(5):
        one, _ = agent.predict({"x": x[i], "step": np.int64(step[i])}, deterministic=True)
        assert one.shape == (2,)
        np.testing.assert_allclose(one, many[i], rtol=1e-4, atol=1e-5)


def test_predict_draws_around_its_deterministic_answer(make_agent: MakeAgent) -> None:
    agent = make_agent()
    observation = {"x": np.zeros((20_000, 2), np.float32), "step": np.ones(20_000, np.int64)}
    mean, _ = agent.predict(observation, deterministic=True)
    drawn, again = (agent.predict(observation)[0] for _ in range(2))
    row = agent.envs.table.rows(1, 1)
    assert np.ptp(mean, axis=0).max() == 0 and not np.array_equal(drawn, again)
    np.testing.assert_allclose(drawn.mean(0), mean[0], atol=0.03)
    np.testing.assert_allclose(drawn.std(0), float(row.std / row.action_scale), rtol=0.03)


def test_predict_walks_the_environment_to_the_sampler_s_samples(make_agent: MakeAgent) -> None:
    agent = make_agent(num_steps=4)
    kwargs = {key: agent.env_kwargs[key] for key in ("dataset", "denoiser", "critic", "num_steps")}
    env = gym.make("DDPMShortcut-v0", train_critic=False, **kwargs)
    observation, _ = env.reset(seed=0)
    x, done = torch.as_tensor(observation["x"]), False
    while not done:
        action, _ = agent.predict(observation, deterministic=True)
        observation, _, done, _, _ = env.step(action)
    with torch.no_grad():
        for k in range(4):
            x = agent.sampler(x, k).mean
    np.testing.assert_allclose(observation["x"], x.numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"A finished sample \(step 4\) has no next action"):
        agent.predict(observation)
    with pytest.raises(ValueError, match="finished sample"):
        agent.predict({"x": np.zeros((2, 2), np.float32), "step": np.array([0, 4])})


def test_samples_have_a_seed_and_data_units(make_agent: MakeAgent, gaussian: Dataset) -> None:
    shifted = replace(gaussian, center=torch.tensor([10.0, 20.0]), scale=3.0)
    plain, moved = make_agent(), make_agent(dataset=shifted)
    assert plain.sample(7).shape == (7, 2)
    assert torch.equal(plain.sample(7, seed=1), plain.sample(7, seed=1))
    assert not torch.equal(plain.sample(7, seed=1), plain.sample(7, seed=2))
    assert not torch.equal(plain.sample(7), plain.sample(7))
    expected = 3 * plain.sample(7, seed=1) + torch.tensor([10.0, 20.0])
    assert torch.allclose(moved.sample(7, seed=1), expected, rtol=1e-5)


def test_samples_follow_the_agent_s_seed(make_agent: MakeAgent) -> None:
    one, same, other = (make_agent(seed=seed).learn(ITERATION).sample(7) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_evaluate_measures_the_sampler(make_agent: MakeAgent, small_world: dict[str, Any]) -> None:
    agent = SFTPG(config=SMALL, num_envs=8, env_kwargs=small_world, seed=0)
    config = EvaluationConfig(num_samples=100, w1_samples=50, support_points=100, seeds=(0, 1))
    row = agent.evaluate(config)
    assert row == agent.evaluate(config) and row["sw2_low"] < row["sw2_mean"] < row["sw2_high"]
    with torch.no_grad():
        for weight in agent.average.parameters():
            weight.mul_(3)
    assert agent.evaluate(config)["sw2_mean"] > 2 * row["sw2_mean"]


# --- worlds an agent is made for -------------------------------------------------------------------------------------


def test_images_from_a_file_train_end_to_end(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(3.0, 2.0, size=(200, 1, 8, 8))
    np.savez(tmp_path / "images.npz", x=points)
    dataset = load_dataset(tmp_path / "images.npz")
    network = pretrain(dataset, PretrainConfig(num_levels=100, num_updates=30, batch_size=64, width=16, depth=1))
    network.save(tmp_path / "network")
    world = {"dataset": str(tmp_path / "images.npz"), "denoiser": str(tmp_path / "network.safetensors"), "num_steps": 2}
    agent = SFTPG(config=SMALL, num_envs=8, env_kwargs=world, seed=0).learn(96, log_interval=1)
    assert agent.sample(5).shape == (5, 1, 8, 8)
    action, _ = agent.predict({"x": np.zeros((3, 1, 8, 8), np.float32), "step": np.array([0, 1, 0])})
    assert action.shape == (3, 1, 8, 8)
    assert agent.predict({"x": np.zeros((1, 8, 8), np.float32), "step": np.int64(1)})[0].shape == (1, 8, 8)
    loaded = SFTPG.load(agent.save(tmp_path / "agent"))
    assert torch.equal(loaded.sample(5, seed=0), agent.sample(5, seed=0))
    assert float(loaded.sample(200, seed=0).mean()) == pytest.approx(3.0, abs=1.0)  # data units


def test_a_data_set_without_a_denoiser_says_what_to_do(points_file: Path) -> None:
    with pytest.raises(ValueError, match=r"'points' has no shipped denoiser .*`ddpm-shortcut pretrain"):
        SFTPG(config=SMALL, num_envs=8, env_kwargs={"dataset": str(points_file)})


def test_residual_actions_are_refused(small_world: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="acts in action_mode 'step'; received 'residual'"):
        SFTPG(config=SMALL, num_envs=8, env_kwargs={**small_world, "action_mode": "residual"})
    assert SFTPG(config=SMALL, num_envs=8, env_kwargs={**small_world, "action_mode": "step"}).num_timesteps == 0


def test_other_environments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym, "make_vec", lambda env_id, num_envs, **kwargs: CartPoleVectorEnv(num_envs))
    with pytest.raises(TypeError, match="makes a CartPoleVectorEnv; agents train a DDPMShortcutVectorEnv"):
        SFTPG("CartPole-v1", SMALL, 2)


def test_objects_are_used_and_not_copied(make_agent: MakeAgent, gaussian: Dataset, denoiser: EpsMLP) -> None:
    critic = EnergyCritic((2,), width=16)
    agent = make_agent(critic=critic)
    assert agent.envs.critic is critic and agent.pretrained is denoiser
    assert torch.equal(agent.envs.dataset.train, gaussian.train)


def test_no_seed_draws_one(make_agent: MakeAgent) -> None:
    first, second = (make_agent(seed=None) for _ in range(2))
    assert first.seed != second.seed and first.seed >= 0


# --- what is not finite ----------------------------------------------------------------------------------------------


def fill(module: nn.Module, value: float = float("nan")) -> None:
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(value)


def spoil_gradient(agent: SFTPG) -> None:
    next(agent.policy.parameters()).register_hook(lambda gradient: gradient * float("inf"))


def frozen_nan(x: Tensor) -> Tensor:
    return x[..., 0] * float("nan")


CULPRITS: dict[str, tuple[Callable[[SFTPG], None], str, Any]] = {
    "policy": (lambda agent: fill(agent.policy), "The policy's own action at step 0", None),
    "policy gradient": (spoil_gradient, "policy_grad_norm became", None),
    "value": (lambda agent: fill(agent.value), "value_loss became nan in iteration 1", None),
    "critic": (lambda agent: fill(agent.envs.critic), "update of the critic 'energy' was refused", None),
    "reward": (lambda agent: None, "critic_score became nan in iteration", FrozenCritic(frozen_nan, (2,))),
}


@pytest.mark.parametrize("culprit", CULPRITS)
def test_a_number_that_is_not_finite_stops_the_run_with_its_name(
    make_agent: MakeAgent, tmp_path: Path, culprit: str
) -> None:
    spoil, message, critic = CULPRITS[culprit]
    agent = make_agent(tensorboard_log=tmp_path, critic=critic)
    if critic is None:
        agent.learn(ITERATION)
    spoil(agent)
    with pytest.raises(FloatingPointError, match=rf"(?s){message}.* state at that moment is in .*stopped") as caught:
        agent.learn(ITERATION, reset_num_timesteps=False)
    path = tmp_path / "SFTPG_1" / "stopped.safetensors"
    assert str(path) in str(caught.value)
    loaded = SFTPG.load(path, env_kwargs=agent.env_kwargs)
    if culprit != "policy":
        assert all(weight.isfinite().all() for weight in loaded.policy.parameters())


def test_without_a_folder_nothing_is_saved_and_the_error_says_so(make_agent: MakeAgent) -> None:
    agent = make_agent().learn(ITERATION)
    fill(agent.value)
    with pytest.raises(FloatingPointError, match=r"value_loss became nan .* Nothing was saved: give tensorboard_log"):
        agent.learn(ITERATION)


def test_negative_control_large_but_finite_weights_do_not_stop_the_run(make_agent: MakeAgent) -> None:
    agent = make_agent().learn(ITERATION)
    fill(agent.value, 1.0)
    agent.learn(ITERATION, reset_num_timesteps=False)
