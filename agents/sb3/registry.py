"""stable-baselines3's algorithms on this task: hyper-parameters by hand for the 2-D data sets at K = 10, in one table.

All presets: gamma 1, since the only reward comes at a fixed time and the value function is its expectation; step sizes
that fall linearly to zero, since at a constant one sampler and critic, which both learn, oscillate until the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, Literal

from stable_baselines3 import SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule

from agents.core.spaces import Space
from agents.sb3 import spaces
from agents.sb3.policies import DenoisingActorCriticPolicy, denoising_policy_kwargs
from agents.sb3.relabelling import relabelling_kwargs
from agents.sb3.starts import start_at_pretrained, unit_entropy, unit_noise
from agents.sb3.vec_env import DDPMShortcutVecEnv

ActionMode = Literal["step", "residual"]
FromEnv = Callable[[DDPMShortcutVecEnv], dict[str, Any]]


@dataclass(frozen=True)
class SB3Algorithm:
    """One preset of `SB3_ALGORITHMS`, or what a class outside that table starts from."""

    home: str | type[BaseAlgorithm]
    """The class, or "module:Class", imported when first used."""
    action_mode: ActionMode
    """The mode the algorithm does better in, for its cost."""
    learning_rate: float
    """Step size at the start."""
    hyperparameters: Mapping[str, Any]
    """The class's other keywords, and "episodes": of a rollout, whole ones of each environment. In "step" mode also
    "learn_std" and "min_std" of `DenoisingActorCriticPolicy`."""
    why: str
    """Why these values."""
    from_env: FromEnv = field(default=lambda env: {}, repr=False)
    """Keywords that depend on the environment."""
    space: Space = field(default_factory=lambda: spaces.STEP_SIZE, repr=False)
    """What tuning may change."""

    @property
    def off_policy(self) -> bool:
        """Whether it learns from a replay buffer."""
        return "buffer_size" in self.hyperparameters

    def load_class(self) -> type[BaseAlgorithm]:
        """The class; ImportError that names the extra where it is not installed."""
        if not isinstance(self.home, str):
            return self.home
        module, name = self.home.split(":")
        try:
            algorithm: type[BaseAlgorithm] = getattr(import_module(module), name)
        except ImportError as error:
            raise ImportError(
                f"{name} lives in {module}, which is not installed. Install it with pip install "
                "'ddpm-shortcut[contrib]'."
            ) from error
        return algorithm


_STD = {"learn_std": False, "min_std": 0.0}
_REPLAY = {"buffer_size": 50_000, "learning_starts": 0}


def _sac_from_env(env: DDPMShortcutVecEnv) -> dict[str, Any]:
    return {"target_entropy": unit_entropy(env), **relabelling_kwargs(env)}


def _td3_from_env(env: DDPMShortcutVecEnv) -> dict[str, Any]:
    return {"action_noise": unit_noise(env), **relabelling_kwargs(env)}


SB3_ALGORITHMS: dict[str, SB3Algorithm] = {
    "ppo": SB3Algorithm(
        "stable_baselines3:PPO",
        "step",
        6e-4,
        {**_STD, "episodes": 5, "n_epochs": 2, "gae_lambda": 0.9, "clip_range": 0.2},
        "Five critic steps per rollout and two passes over all of it: with four passes it circles before it settles.",
        space=spaces.PPO,
    ),
    "a2c": SB3Algorithm(
        "stable_baselines3:A2C",
        "step",
        3e-4,
        {**_STD, "episodes": 1, "gae_lambda": 0.9, "use_rms_prop": False, "normalize_advantage": True},
        "One step per episode and per critic step, so a small one; Adam with normalised advantages, like PPO.",
        space=spaces.A2C,
    ),
    "trpo": SB3Algorithm(
        "sb3_contrib:TRPO",
        "residual",
        3e-4,
        {"episodes": 1, "gae_lambda": 1.0, "target_kl": 1e-6, "cg_max_steps": 5, "n_critic_updates": 10},
        "target_kl is the step size and does not fall, so it is tiny: at 0.0001 it left the data. The natural gradient "
        "of sb3-contrib makes a backward pass for every tensor of the actor, so SB3's own small actor takes a sixth of "
        "the time of the denoising one (K = 10).",
        space=spaces.TRPO,
    ),
    "sac": SB3Algorithm(
        "stable_baselines3:SAC",
        "residual",
        3e-4,
        {**_REPLAY, "train_freq": 10, "gradient_steps": 2, "batch_size": 2048, "tau": 0.1, "ent_coef": "auto_0.01"},
        "Its actor moves with every step of Q, so few steps on large batches; the target entropy is that of N(0, I).",
        _sac_from_env,
        spaces.SAC,
    ),
    "td3": SB3Algorithm(
        "stable_baselines3:TD3",
        "residual",
        3e-4,
        {
            **_REPLAY,
            "gradient_steps": 8,
            "batch_size": 256,
            "policy_delay": 200,
            "tau": 1.0,
            "target_policy_noise": 0.1,
            "target_noise_clip": 0.5,
        },
        "Q is fitted 200 steps to a copy of itself before the actor moves once, no faster than the critic can follow; "
        "the target noise is the sampler's own, so that Q is the value of the noisy sampler.",
        _td3_from_env,
        spaces.TD3,
    ),
}


def make_sb3(
    name: str,
    num_envs: int = 128,
    env_kwargs: Mapping[str, Any] | None = None,
    seed: int | None = None,
    device: str = "cpu",
    tensorboard_log: str | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> tuple[BaseAlgorithm, DDPMShortcutVecEnv]:
    """An algorithm of `SB3_ALGORITHMS` and the environments it trains in.

    Args:
        name: "ppo", "a2c", "trpo", "sac" or "td3".
        num_envs: size of the native batch.
        env_kwargs: keywords of the environment; ``action_mode`` is the preset's unless given here.
        seed: of the model and, through it, of everything the environment draws.
        device: of model and environment.
        tensorboard_log: folder of the event files.
        hyperparameters: keywords of the algorithm's class that replace the preset's, "episodes" of a rollout and, in
            "step" mode, "learn_std" and "min_std".

    Raises ValueError for an unknown name, and for a std where there is no denoising actor; ImportError where the class
    is not installed.
    """
    if name not in SB3_ALGORITHMS:
        raise ValueError(f"Unknown algorithm {name!r}. Choose one of {sorted(SB3_ALGORITHMS)}.")
    return build(SB3_ALGORITHMS[name], num_envs, env_kwargs or {}, seed, device, tensorboard_log, hyperparameters or {})


def build(
    preset: SB3Algorithm,
    num_envs: int,
    env_kwargs: Mapping[str, Any],
    seed: int | None,
    device: str,
    tensorboard_log: str | None,
    hyperparameters: Mapping[str, Any],
) -> tuple[BaseAlgorithm, DDPMShortcutVecEnv]:
    """`make_sb3` for a preset that need not be in the table; arguments and errors as there."""
    algorithm = preset.load_class()
    kwargs = {"device": device, "action_mode": preset.action_mode, **env_kwargs}
    env = DDPMShortcutVecEnv(num_envs=num_envs, env_kwargs=kwargs)
    taken = keywords_of(algorithm)
    general = {
        "gamma": 1.0,
        "learning_rate": LinearSchedule(preset.learning_rate, 0.0, 1.0),
        "stats_window_size": num_envs,  # rollout/ep_rew_mean over one whole batch of episodes
    }
    settings: dict[str, Any] = {
        **{name: value for name, value in general.items() if name in taken},  # DDPG has no stats_window_size
        **preset.hyperparameters,
        **preset.from_env(env),
        **hyperparameters,
    }
    stds = {name: settings.pop(name) for name in _STD if name in settings}
    settings = _policy(preset, env, stds) | settings
    settings = _whole_episodes(settings, env, "batch_size" in taken)
    model = algorithm(env=env, seed=seed, device=device, tensorboard_log=tensorboard_log, **settings)
    if isinstance(model, (SAC, TD3)) and env.action_mode == "residual":
        start_at_pretrained(model)
    return model, env


def preset_of(algorithm: type[BaseAlgorithm]) -> SB3Algorithm:
    """What ``algorithm`` starts from.

    The preset of the nearest base in `SB3_ALGORITHMS`, if the class takes all of its keywords; else the class's own
    defaults, with what the task asks for: whole episodes on-policy, newest rewards off-policy.
    """
    taken = keywords_of(algorithm)
    for base in algorithm.__mro__:
        home = f"{base.__module__.partition('.')[0]}:{base.__name__}"
        for preset in SB3_ALGORITHMS.values():
            if preset.home == home and set(preset.hyperparameters) <= {*taken, *_STD, "episodes"}:
                return replace(preset, home=algorithm)
    own = taken.get("learning_rate")
    rate = float(own) if isinstance(own, int | float) else 3e-4
    why = "The class's own defaults."
    if issubclass(algorithm, OnPolicyAlgorithm):
        space = spaces.STEP_SIZE | spaces.EPISODES
        return SB3Algorithm(algorithm, "step", rate, {**_STD, "episodes": 5}, why, space=space)
    starts: dict[type, FromEnv] = {SAC: _sac_from_env, TD3: _td3_from_env}
    from_env = next((start for base, start in starts.items() if issubclass(algorithm, base)), relabelling_kwargs)
    return SB3Algorithm(algorithm, "residual", rate, _REPLAY, why, from_env)


def keywords_of(algorithm: type[BaseAlgorithm]) -> dict[str, Any]:
    """The keywords of the class's constructor with their defaults; of its bases' too where it passes all on."""
    found: dict[str, Any] = {}
    for base in algorithm.__mro__:
        parameters = signature(base.__init__).parameters.values()  # type: ignore[misc]
        found = {p.name: p.default for p in parameters if p.default is not Parameter.empty} | found
        if not any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
            break
    return found


def _whole_episodes(settings: dict[str, Any], env: DDPMShortcutVecEnv, has_batches: bool) -> dict[str, Any]:
    """``settings`` with "episodes" as n_steps, and the whole rollout as one batch, where they are not given."""
    if "episodes" not in settings:
        return settings
    n_steps = settings.get("n_steps", settings["episodes"] * env.table.num_steps)
    batch = {"batch_size": n_steps * env.num_envs} if has_batches else {}
    return {"n_steps": n_steps, **batch, **{name: value for name, value in settings.items() if name != "episodes"}}


def _policy(preset: SB3Algorithm, env: DDPMShortcutVecEnv, stds: Mapping[str, Any]) -> dict[str, Any]:
    if any(stds.values()) and (preset.off_policy or env.action_mode == "residual"):
        raise ValueError(
            f"The std of each step belongs to the denoising actor of ppo, a2c and trpo in action_mode 'step'; received "
            f"{dict(stds)} in a model without one. Leave {list(stds)} out, or use action_mode='step'."
        )
    if preset.off_policy:
        return {"policy": "MultiInputPolicy", "policy_kwargs": {"net_arch": [64, 64]}}
    if env.action_mode == "residual":
        return {"policy": "MultiInputPolicy"}
    adam = {"optimizer_kwargs": {"betas": (0.5, 0.99)}}
    return {"policy": DenoisingActorCriticPolicy, "policy_kwargs": denoising_policy_kwargs(env, **stds) | adam}
