"""``ddpm-shortcut train``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.algorithms.presets import PRESETS
from agents.commands.options import Train
from agents.core.config import describe
from agents.runs.callbacks import Checkpoint, SamplerEvaluation, SamplerProgressBar
from agents.runs.folder import RunFolder, next_folder
from agents.zoo import agent_class, load_agent
from diffusion_env.assembly import usable_device
from diffusion_env.critics.factory import CRITICS
from diffusion_env.data.named import DATASET_NAMES


def run(options: Train, command: str) -> None:
    """Start or continue a run; ``command`` is recorded with it."""
    torch.set_num_threads(options.threads)
    if options.resume is not None:
        resume(options)
        return
    agent = agent_class(PRESETS[options.algo].agent)(
        num_envs=options.num_envs,
        config=options.algorithm,
        env_kwargs=env_kwargs(options),
        seed=options.seed,
        device=usable_device(options.device),
    )
    output = options.output or next_folder("runs", f"{options.algo}-{agent.envs.dataset.name}-{options.num_steps}")
    folder = RunFolder.create(output, run_config(options, command))
    agent.set_logger(folder.logger())
    print(f"{describe(options.algorithm)}\nWriting {folder.path}; watch it with: tensorboard --logdir {folder.path}")
    evaluation = SamplerEvaluation(options.measure_every, options.measure_samples)
    agent.learn(options.total_timesteps, callbacks(options, folder, evaluation), options.log_interval)
    _report(folder, evaluation)


def resume(options: Train) -> None:
    """Continue the run in ``options.resume`` with the options it was started with."""
    assert options.resume is not None
    if replace(options, resume=None) != Train():
        raise ValueError(
            "--resume continues a run exactly, with the options it was started with; give no other option beside it. "
            "To train a sampler differently, start a new run."
        )
    folder = RunFolder.open(options.resume)
    recorded = recorded_options(folder)
    torch.set_num_threads(recorded.threads)
    agent = load_agent(folder.checkpoint, device=usable_device(recorded.device))
    agent.set_logger(folder.logger(agent.num_timesteps))
    print(f"Continuing {folder.path} at {agent.num_timesteps:,} environment steps.")
    evaluation = SamplerEvaluation(recorded.measure_every, recorded.measure_samples)
    agent.resume(callbacks(recorded, folder, evaluation), recorded.log_interval)
    _report(folder, evaluation)


def env_kwargs(options: Train) -> dict[str, Any]:
    """Keywords of the environment; paths are made absolute, for the run may be continued from another folder."""
    names = ("num_steps", "sampler", "train_critic")
    paths = {"dataset": options.dataset, "denoiser": options.denoiser, "critic": options.critic}
    found = {key: absolute(value) for key, value in paths.items() if value is not None}
    return {**found, **{name: getattr(options, name) for name in names}}


def absolute(name: str) -> str:
    """The absolute path of a file or folder that is there; a name as it is."""
    prefix, colon, path = name.rpartition(":")  # "frozen:critic.safetensors"
    is_name = path in (*DATASET_NAMES, *CRITICS)  # names win over files that are called the same
    return name if is_name or not Path(path).exists() else f"{prefix}{colon}{Path(path).resolve()}"


def run_config(options: Train, command: str) -> dict[str, Any]:
    """What config.json records: every option as JSON, the keywords of the environment, the seed, the command."""
    recorded = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}
    return {"command": command, "seed": options.seed, "env_kwargs": env_kwargs(options), "options": recorded}


def recorded_options(folder: RunFolder) -> Train:
    """The options in config.json; ValueError if they are not those of a training run."""
    try:
        recorded = dict(folder.config["options"])
        config_class = type(PRESETS[recorded["algo"]].config)
        return Train(**recorded | {"algorithm": config_class(**recorded["algorithm"])})
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder.path / 'config.json'} does not hold the options of `ddpm-shortcut train` ({error}), so this run "
            "cannot be continued from the command line; `agents.load_agent` can still read its checkpoint."
        ) from error


def callbacks(options: Train, folder: RunFolder, evaluation: SamplerEvaluation) -> list[BaseCallback]:
    """Measurements before checkpoints (see `agents.runs.callbacks`), then the bar that shows them."""
    wanted: list[BaseCallback] = [evaluation, Checkpoint(folder.path, options.checkpoint_every)]
    return wanted + [SamplerProgressBar(evaluation)] * options.progress_bar


def _report(folder: RunFolder, evaluation: SamplerEvaluation) -> None:
    if not evaluation.history:
        print(f"{folder.path} was already trained to its end.")
        return
    last = evaluation.history[-1]
    print(f"SW2 {last.sw2:.4f} (data units) after {last.num_timesteps:,} environment steps.")
    print(f"For the whole protocol: ddpm-shortcut evaluate --checkpoint {folder.path}")
