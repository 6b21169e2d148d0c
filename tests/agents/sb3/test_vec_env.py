"""The adapter gives what DummyVecEnv gives, in format and in law, from one batch."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize

from agents.sb3.vec_env import DDPMShortcutVecEnv
from tests.support import flat_state, same

NUM_ENVS, NUM_STEPS = 6, 3
MakeEnv = Callable[..., DDPMShortcutVecEnv]


def actions(seed: int = 0, num_envs: int = NUM_ENVS) -> Any:
    return np.random.default_rng(seed).standard_normal((num_envs, 2)).astype(np.float32)


def dummy(keywords: dict[str, Any]) -> VecEnv:
    return DummyVecEnv([lambda: gym.make("DDPMShortcut-v0", **keywords) for _ in range(NUM_ENVS)])


@pytest.fixture(params=["adapter", "dummy"])
def either(request: pytest.FixtureRequest, keywords: dict[str, Any], make_env: MakeEnv) -> Any:
    env = make_env() if request.param == "adapter" else dummy(keywords)
    env.seed(0)
    return env


def formats(env: Any) -> list[Any]:
    """Types and shapes of all that an episode and a step show."""

    def form(value: Any) -> Any:
        return (
            {k: form(v) for k, v in sorted(value.items())}
            if isinstance(value, dict)
            else ((value.dtype, value.shape) if hasattr(value, "dtype") else type(value))
        )

    seen = [form(env.reset())]
    for k in range(NUM_STEPS + 1):
        obs, rewards, dones, infos = env.step(actions(k))
        ended = {key: form(value) for key, value in sorted(infos[0].items()) if key not in ("episode",)}
        seen += [form(obs), form(rewards), form(dones), dones.tolist(), ended if dones[0] else len(infos)]
    return seen


def test_its_format_is_dummy_vec_env_s(keywords: dict[str, Any], make_env: MakeEnv) -> None:
    ours, theirs = make_env(), dummy(keywords)
    assert formats(ours) == formats(theirs)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space


def test_its_law_is_dummy_vec_env_s(either: Any) -> None:
    env = either.get_attr("unwrapped", 0)[0]
    table, data = env.table, env.dataset.train
    obs = either.reset()
    for k in range(NUM_STEPS):
        action, x = actions(k), obs["x"]
        obs, rewards, dones, infos = either.step(action)
        row = table.rows(k, 1)
        wanted = row.x_coef * torch.tensor(x) + row.action_scale * torch.tensor(action)
        last = k == NUM_STEPS - 1
        assert dones.tolist() == [last] * NUM_ENVS
        after = np.stack([info["terminal_observation"]["x"] for info in infos]) if last else obs["x"]
        np.testing.assert_allclose(after, wanted, rtol=1e-5, atol=1e-6)
    assert [int(info["terminal_observation"]["step"]) for info in infos] == [NUM_STEPS] * NUM_ENVS
    scores = env.critic(torch.tensor(after))
    mean = float(env.critic(data).mean())
    np.testing.assert_allclose([info["critic_score"] for info in infos], scores, rtol=1e-5)
    assert [info["data_score"] for info in infos] == pytest.approx([mean] * NUM_ENVS, abs=0.15)
    np.testing.assert_allclose(rewards, [i["critic_score"] - i["data_score"] for i in infos], rtol=1e-4, atol=1e-6)
    assert obs["step"].tolist() == [0] * NUM_ENVS  # started anew


def test_infos_are_filled_at_episode_ends_only_and_never_shared(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset()
    for k in range(2 * NUM_STEPS):
        _, rewards, dones, infos = env.step(actions(k))
        if not dones[0]:
            assert infos == [{}] * NUM_ENVS
            assert not rewards.any()
        else:
            assert all(info["TimeLimit.truncated"] is False for info in infos)
            assert [i["episode"] for i in infos] == [{"r": float(r), "l": NUM_STEPS} for r in rewards]
        infos[0]["mine"] = 1
        assert all("mine" not in info for info in infos[1:])
    assert "mine" not in env.step(actions())[3][0]


def test_what_it_returns_is_never_written_again(make_env: MakeEnv) -> None:
    env: Any = make_env()
    results = [env.reset()] + [env.step(actions(k))[0] for k in range(NUM_STEPS)]
    copies = [obs["x"].copy() for obs in results]
    for k in range(NUM_STEPS):
        env.step(actions(k))
    assert all(np.array_equal(obs["x"], copy) for obs, copy in zip(results, copies, strict=True))
    results[-1]["x"][:] = 7.0
    assert not np.any(env.envs.process.x.numpy() == 7.0)


def test_one_copy_from_the_device_per_step(make_env: MakeEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env()
    env.reset()
    copies, numpy = [], torch.Tensor.numpy

    def counted(values: torch.Tensor, **kwargs: Any) -> Any:
        copies.append(values)
        return numpy(values, **kwargs)

    monkeypatch.setattr(torch.Tensor, "numpy", counted)
    for k in range(NUM_STEPS):
        env.step(actions(k))
        assert len(copies) == k + 1


def test_environments_out_of_step_are_told_apart(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset()
    env.step(actions())
    late = np.arange(NUM_ENVS) < 2
    env.envs.reset(options={"reset_mask": late})
    env.step(actions())
    _, rewards, dones, infos = env.step(actions())
    assert dones.tolist() == (~late).tolist()
    assert [bool(info) for info in infos] == (~late).tolist()
    assert np.array_equal(rewards != 0, ~late)


def bits(env: Any) -> Any:
    env.reset()
    return env.step(actions())[0]["x"]


def test_seeds(make_env: MakeEnv) -> None:
    again = make_env(seed=None)
    assert again.seed(0)[0] == 0
    first = bits(make_env(seed=0))
    assert np.array_equal(first, bits(again))
    assert not np.array_equal(first, bits(again))  # a seed is used once
    assert not np.array_equal(first, bits(make_env(seed=1)))
    assert not np.array_equal(bits(make_env(seed=None)), bits(make_env(seed=None)))


def test_attributes_and_methods(make_env: MakeEnv) -> None:
    env = make_env()
    assert env.get_attr("num_envs") == [NUM_ENVS] * NUM_ENVS
    assert env.get_attr("num_envs", [0, 2]) == [NUM_ENVS] * 2
    assert not env.has_attr("nothing")
    env.set_attr("note", 3)
    assert env.get_attr("note", 1) == [3]
    batches = env.env_method("data_batch") if env.reset() else []
    assert len(batches) == NUM_ENVS and all(batch is batches[0] for batch in batches)
    assert env.env_is_wrapped(Monitor, [0, 1]) == [False, False]
    assert (env.dataset, env.table, env.critic, env.denoiser) == (
        env.envs.dataset,
        env.envs.table,
        env.envs.critic,
        env.envs.denoiser,
    )
    with pytest.raises(ValueError, match="Leave indices out"):
        env.set_attr("note", 4, indices=[1])
    with pytest.raises(ValueError, match="Leave indices out"):
        env.env_method("reset", indices=0)
    env.close()


def test_render(make_env: MakeEnv) -> None:
    env = make_env(render_mode="rgb_array")
    env.reset()
    picture = env.render()
    assert picture is not None and picture.dtype == np.uint8 and picture.shape[2] == 3
    assert make_env().get_images() == [None]


def test_wrappers_of_sb3_wrap_it(make_env: MakeEnv) -> None:
    env = VecMonitor(VecNormalize(make_env(), norm_obs_keys=["x"]))
    model = PPO("MultiInputPolicy", env, n_steps=2 * NUM_STEPS, batch_size=12, n_epochs=1, device="cpu")
    model.learn(2 * NUM_STEPS * NUM_ENVS)
    assert [info["l"] for info in model.ep_info_buffer or []] == [NUM_STEPS] * 2 * NUM_ENVS


def test_sb3_sees_returns_and_lengths_as_with_vec_monitor(make_env: MakeEnv) -> None:
    plain, monitored = make_env(), VecMonitor(make_env())
    plain.reset(), monitored.reset()
    for k in range(NUM_STEPS):
        ours, theirs = plain.step(actions(k))[3], monitored.step(actions(k))[3]
    for a, b in zip(ours, theirs, strict=True):
        assert a["episode"]["r"] == pytest.approx(b["episode"]["r"])
        assert a["episode"]["l"] == b["episode"]["l"]


def test_a_ready_environment(keywords: dict[str, Any]) -> None:
    envs = gym.make_vec("DDPMShortcut-v0", num_envs=4, array_type="torch", **keywords)
    assert DDPMShortcutVecEnv(envs).num_envs == 4  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_envs = 5"):
        DDPMShortcutVecEnv(envs, num_envs=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="its own keywords"):
        DDPMShortcutVecEnv(envs, env_kwargs={"num_steps": 2})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"array_type": "numpy"}, {"array_type": "torch", "autoreset_mode": AutoresetMode.DISABLED}]
)
def test_an_unusable_environment_is_refused(keywords: dict[str, Any], wrong: dict[str, Any]) -> None:
    envs = gym.make_vec("DDPMShortcut-v0", num_envs=2, **keywords, **wrong)
    with pytest.raises(ValueError, match="array_type='torch' and autoreset_mode=SAME_STEP"):
        DDPMShortcutVecEnv(envs)  # type: ignore[arg-type]


def test_another_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = gym.make_vec("CartPole-v1", num_envs=2)
    monkeypatch.setattr(gym, "make_vec", lambda *args, **kwargs: other)
    with pytest.raises(TypeError, match="'CartPole-v1' makes a"):
        DDPMShortcutVecEnv("CartPole-v1")


def test_images(image_kwargs: dict[str, Any]) -> None:
    env = DDPMShortcutVecEnv(num_envs=3, env_kwargs=image_kwargs)
    assert env.reset()["x"].shape == (3, 1, 4, 4)
    for _ in range(2):
        _, _, dones, infos = env.step(np.zeros((3, 1, 4, 4), np.float32))
    assert dones.all() and infos[2]["terminal_observation"]["x"].shape == (1, 4, 4)


class TestOptions:
    def test_one_start_for_all(self, either: Any) -> None:
        either.set_options({"x": np.array([0.5, -1.0], np.float32)})
        obs = either.reset()
        np.testing.assert_array_equal(obs["x"], [[0.5, -1.0]] * NUM_ENVS)
        assert obs["step"].tolist() == [0] * NUM_ENVS
        assert (either.reset()["x"] != [0.5, -1.0]).all()  # they hold for one reset

    def test_starts_for_some(self, either: Any) -> None:
        starts = {0: [1.0, 2.0], 3: [3.0, 4.0]}
        either.set_options([{"x": np.array(starts[i], np.float32)} if i in starts else {} for i in range(NUM_ENVS)])
        x = either.reset()["x"]
        for i in range(NUM_ENVS):
            assert np.array_equal(x[i], starts.get(i, [0, 0])) is (i in starts)
        assert len({row.tobytes() for row in x}) == NUM_ENVS

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"start": 1}, r"\['start'\], but it knows \['x'\]"),
            ({"x": np.zeros(3)}, r"options\['x'\] must have shape \(2,\); received \(3,\)"),
            ({"x": np.array([0.0, np.nan])}, "NaN or infinity"),
            ([{}], "received 1 dicts for 6 environments"),
        ],
    )
    def test_others_are_refused(self, make_env: MakeEnv, options: Any, message: str) -> None:
        env = make_env()
        env.set_options(options)
        with pytest.raises(ValueError, match=message):
            env.reset()


def test_flat_observations_have_the_format_of_dummy_vec_env(keywords: dict[str, Any], make_env: MakeEnv) -> None:
    ours, theirs = make_env(observation="flat"), dummy({**keywords, "observation": "flat"})
    assert formats(ours) == formats(theirs)
    assert ours.observation_space == theirs.observation_space
    PPO("MlpPolicy", ours, n_steps=4, batch_size=24, n_epochs=1).learn(48)


class TestEvaluationCopy:
    def test_its_score_moves_with_the_critic_that_learns(self, make_env: MakeEnv) -> None:
        """Beside it, the score of environments made by id, whose own critic nothing trains."""
        training = make_env(128, critic="energy")
        copied, alone = training.evaluation_copy(64), make_env(64, critic="energy", train_critic=False)
        model = PPO("MultiInputPolicy", training, n_steps=NUM_STEPS, batch_size=128, n_epochs=1, seed=0)

        def score(env: DDPMShortcutVecEnv) -> float:
            env.seed(7)
            return float(np.mean(evaluate_policy(model, env, n_eval_episodes=64, warn=False)[0]))

        training.reset()
        weights = flat_state(training.critic)
        before = score(copied), score(alone)
        assert same(weights, flat_state(training.critic))
        for _ in range(60):
            training.step(np.zeros((128, 2), np.float32))  # 20 updates of the critic; the policy stays
        assert score(alone) == before[1]
        assert abs(score(copied) - before[0]) > 0.05

    def test_under_an_eval_callback(self, make_env: MakeEnv) -> None:
        training = make_env(critic="energy")
        callback = EvalCallback(training.evaluation_copy(), n_eval_episodes=6, eval_freq=3, warn=False, verbose=0)
        PPO("MultiInputPolicy", training, n_steps=NUM_STEPS, batch_size=18, n_epochs=1).learn(36, callback)
        assert np.isfinite(callback.last_mean_reward)

    def test_what_it_takes_over(self, make_env: MakeEnv) -> None:
        training = make_env(action_mode="residual", observation="flat")
        copied = training.evaluation_copy(2)
        assert copied.critic is training.critic and copied.envs.process.train_critic is False
        assert copied.num_envs == 2 and training.evaluation_copy().num_envs == NUM_ENVS
        assert copied.dataset.train is training.dataset.train and copied.action_mode == "residual"
        assert copied.denoiser is training.denoiser and copied.table.num_steps == NUM_STEPS
        assert copied.observation_space == training.observation_space
        assert not np.array_equal(copied.reset(), training.reset()[:2])
