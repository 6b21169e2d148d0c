"""The options of the subcommands: dataclasses read by tyro, which import nothing heavy so that ``--help`` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from agents.algorithms.config import PolicyGradientConfig
from agents.core.config import AgentConfig
from diffusion_env.config import EvaluationConfig, PretrainConfig

TOTAL_TIMESTEPS = 4_000_000
"""Environment steps of the demo's training, and of ``train`` unless told: about 90 s on one core."""
BASELINES = ("ddpm-1000", "ddpm-100", "ddpm-10", "ddim-10")

Algorithm = Literal["sft_pg", "sft_pg_paper", "reinforce", "ddpo", "dpok", "grpo", "rwr", "dxdp", "pathwise"]
"""The rows of `agents.algorithms.presets`."""

Flat = arg(name="")  # options of a nested configuration without its name in front


def _refuse_below_one(options: object, *names: str) -> None:
    """ValueError before a folder is made, rather than after."""
    for name in names:
        if getattr(options, name) < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be an integer >= 1; received {getattr(options, name)}.")


@dataclass(frozen=True)
class Demo:
    """Fine-tune the shipped swiss-roll DDPM to ten steps with SFT-PG, and compare with the untouched network.

    Prints a table and writes samples.png, curve.png, result.json and a run folder. A demo that is there already is
    renamed to the next free OUTPUT-N.
    """

    output: Path = Path("runs/demo")
    """Folder to write."""
    dataset: str = "swiss_roll"
    """A named data set, or a path to a .npz file or a folder of images (with --denoiser)."""
    denoiser: str | None = None
    """Pretrained network; None takes the one shipped for the data set."""
    num_steps: int = 10
    """K, denoising steps of the sampler that is trained."""
    num_envs: int = 128
    """B, trajectories per rollout."""
    total_timesteps: int = TOTAL_TIMESTEPS
    """Environment steps of the training."""
    seed: int = 0
    """Seed of the training."""
    samplers: tuple[str, ...] = BASELINES
    """Samplers of the untouched network to compare with, NAME-STEPS."""
    measure_every: int = 40
    """Iterations between two points of the learning curve."""
    parallel: bool = True
    """Whether the untouched samplers are measured by a second process while the first one trains."""
    progress_bar: bool = True
    """Whether a progress bar shows the current SW2."""
    algorithm: Annotated[PolicyGradientConfig, Flat] = field(default_factory=PolicyGradientConfig)
    evaluation: Annotated[EvaluationConfig, Flat] = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        _refuse_below_one(self, "total_timesteps", "measure_every")


@dataclass(frozen=True)
class Pretrain:
    """Pretrain a denoiser on a data set; this is also how the shipped weights were made."""

    output: Path
    """File to write, .safetensors."""
    dataset: str = "swiss_roll"
    """A named data set, or a path to a .npz file or a folder of images."""
    progress_bar: bool = True
    """Whether a progress bar shows the loss."""
    threads: int = 1
    """Torch threads; more than one slows small networks where cores are shared."""
    config: Annotated[PretrainConfig, Flat] = field(default_factory=PretrainConfig)


@dataclass(frozen=True)
class Train:
    """Fine-tune a few-step sampler; watch it with `tensorboard --logdir runs`.

    --algo chooses the algorithm and where its options start; `train --algo NAME --help` shows them.
    """

    dataset: str = "swiss_roll"
    """A named data set, or a path to a .npz file or a folder of images (with --denoiser)."""
    denoiser: str | None = None
    """Pretrained network to start from; None takes the one shipped for the data set."""
    num_steps: int = 10
    """K, denoising steps."""
    sampler: str = "ddpm"
    """Step table: ddpm, fastdpm, fastdpm_step or published_toy (a policy needs noise in every step)."""
    critic: str = "energy"
    """Learned reward: energy, gradient_penalty, spectral_norm, weight_clipping, baseline, mmd, or a saved critic."""
    train_critic: bool = True
    """Whether the critic learns; with --no-train-critic it stays as it is given."""
    num_envs: int = 128
    """B, trajectories per rollout."""
    total_timesteps: int = TOTAL_TIMESTEPS
    """Environment steps, num_envs * num_steps a rollout."""
    seed: int = 0
    """Seed of everything."""
    output: Path | None = None
    """Folder of the run; None takes the next free runs/ALGO-DATASET-K-N. A run is never written over another."""
    resume: Path | None = None
    """Folder of an interrupted run to continue exactly, with all its own options; give no other option."""
    measure_every: int = 40
    """Iterations between two measurements of SW2."""
    measure_samples: int = 10_000
    """Samples per measurement."""
    checkpoint_every: int = 50
    """Iterations between two checkpoints."""
    log_interval: int = 10
    """Iterations between two lines of metrics."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """Torch threads; more than one slows small networks where cores are shared."""
    progress_bar: bool = True
    """Whether a progress bar shows the current SW2."""
    algo: Algorithm = "sft_pg"
    """The algorithm, a row of the preset table with its options; sft_pg_paper is the published setting of sft_pg."""
    algorithm: Annotated[AgentConfig, Flat] = field(default_factory=PolicyGradientConfig)

    def __post_init__(self) -> None:
        _refuse_below_one(self, "total_timesteps", "measure_every", "checkpoint_every", "log_interval", "threads")


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained sampler, or samplers of the untouched network, with the floor of fresh data beside them."""

    checkpoint: Path | None = None
    """A trained agent: its file or the folder of its run. Its own data set and network are used."""
    samplers: tuple[str, ...] | None = None
    """Samplers of the untouched network, NAME-STEPS; None takes the usual four unless there is a checkpoint."""
    dataset: str = "swiss_roll"
    """Data set of the samplers, where there is no checkpoint."""
    denoiser: str | None = None
    """Pretrained network of the samplers, where there is no checkpoint; None takes the shipped one."""
    output: Path | None = None
    """JSON file to write, with every value of every seed."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """Torch threads."""
    evaluation: Annotated[EvaluationConfig, Flat] = field(default_factory=EvaluationConfig)


@dataclass(frozen=True)
class Sample:
    """Draw samples from a trained sampler into a .npz file, in data units, under the name x."""

    checkpoint: Path
    """A trained agent: its file or the folder of its run."""
    output: Path
    """File to write, .npz."""
    n: int = 10_000
    """Number of samples."""
    seed: int = 0
    """Seed of the samples."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """Torch threads."""


@dataclass(frozen=True)
class Tune:
    """Tune an algorithm's hyper-parameters with optuna (pip install 'ddpm-shortcut[tune]').

    The preset is the first trial. The same command again continues an interrupted study.
    """

    algo: str = "sft_pg"
    """A named algorithm of `train`, or ppo, a2c, trpo, sac or td3 of stable-baselines3."""
    dataset: tuple[str, ...] = ("swiss_roll",)
    """Named data sets, or a path to a .npz file or a folder of images (with --denoiser): each trial trains on all."""
    denoiser: str | None = None
    """Pretrained network to start from; None takes the one shipped for the data set."""
    num_steps: tuple[int, ...] = (10,)
    """K, denoising steps: each trial trains samplers of every one of these."""
    sampler: str = "ddpm"
    """Step table, as in `train`."""
    critic: str = "energy"
    """Learned reward, as in `train`."""
    num_envs: int = 128
    """B, trajectories per rollout."""
    trials: int = 20
    """Trials in all, those of an interrupted study included."""
    total_timesteps: int = 500_000
    """Environment steps of each training."""
    hold: tuple[str, ...] = ()
    """NAME=VALUE: hyper-parameters that replace the preset's and are not tuned, such as n_critic=1."""
    seeds: tuple[int, ...] = (1_000, 1_001)
    """Tuning seeds, 1000 ... 9999: each trial trains with every one, and no reported run may use them."""
    seed: int = 0
    """Seed of optuna's choices."""
    num_samples: int = 10_000
    """Samples that SW2 is measured on, per training, on points of their own."""
    output: Path | None = None
    """Folder of the study; None takes runs/tune-ALGO-DATASET-K."""
    processes: int = 1
    """Trials at a time, each in a process of its own if there are several."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """Torch threads; more than one slows small networks where cores are shared."""

    def __post_init__(self) -> None:
        _refuse_below_one(self, "trials", "total_timesteps", "num_envs", "processes", "threads")


Options = Demo | Pretrain | Train | Evaluate | Sample | Tune
