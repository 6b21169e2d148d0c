"""Options of every subcommand: frozen dataclasses, a sentence under each field; they import nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.presets import PRESETS, preset
from agents.core.task import Conditions, Task, named_values
from diffusion_env.config import EvaluationConfig, PretrainConfig
from diffusion_env.fields import Bounds, Count, Seed, check_fields

TOTAL_TIMESTEPS = 4_000_000
"""Environment steps of the demo's training, and of ``train`` unless told: 400,000 trajectories of 10 steps."""
BASELINES = ("ddpm-1000", "ddpm-100", "ddpm-10", "ddim-10")

Threads = Count


def _sft_pg() -> PolicyGradientConfig:
    config = preset("sft_pg")
    assert isinstance(config, PolicyGradientConfig)
    return config


ALGO_HELP = (
    f"A named algorithm: {', '.join(PRESETS)}; ppo, a2c, trpo, sac or td3 of stable-baselines3; untouched; or your "
    "own, FILE:NAME of a class or function."
)
Flat = arg(name="")  # options of a nested configuration without its name in front
Values = tuple[str, ...]

REGISTRY = ConstructorRegistry()
"""How the parser reads what it has no rule for."""


@REGISTRY.primitive_rule
def _keywords(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Mapping[str, Any]] | None:
    """A Mapping is written NAME=VALUE NAME=VALUE ..."""
    if info.type_origin is not Mapping:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="NAME=VALUE",
        instance_from_str=lambda words: named_values(words, "This option"),
        is_instance=lambda value: isinstance(value, Mapping),
        str_from_instance=lambda value: [f"{name}={one}" for name, one in value.items()],
    )


@dataclass(frozen=True)
class NoFlags:
    """Hyper-parameters without flags of their own: give them with --set NAME=VALUE."""


def default_algorithm(algo: str) -> Any:
    """What holds the typed flags of ``algo``: its configuration, or `NoFlags`.

    For ``"module:Class"``, which the user has given, the module is imported.
    """
    if algo in PRESETS:
        return PRESETS[algo].config
    if ":" not in algo:
        return NoFlags()
    from agents.zoo import find

    return getattr(find(algo), "config", NoFlags())


def _with_flag(text: str, command: str) -> str:
    """The text of an error with ``Command.some_field`` written --some-field."""
    return re.sub(rf"\b{command}\.(\w+)", lambda found: "--" + found[1].replace("_", "-"), text)


class Checked:
    """A subcommand whose options are checked against their annotations, before anything is made."""

    def __post_init__(self) -> None:
        """ValueError that names the option, what is allowed and what was received."""
        try:
            check_fields(self)
        except (TypeError, ValueError) as error:
            raise ValueError(_with_flag(str(error), type(self).__name__)) from error


@dataclass(frozen=True)
class Demo(Checked):
    """Fine-tune the shipped swiss-roll DDPM to ten steps with SFT-PG, and compare with the untouched network.

    Prints a table and writes samples.png, curve.png, result.json and a run folder. A finished demo that is there
    already is renamed to the next free OUTPUT-N; one of the same options that was ended too early goes on.
    """

    output: Path = Path("runs/demo")
    """Folder to write."""
    task: Annotated[Task, Flat] = field(default_factory=Task)
    total_timesteps: Count = TOTAL_TIMESTEPS
    """Environment steps of the training."""
    seed: Seed = 0
    """Seed of the training."""
    samplers: tuple[str, ...] = BASELINES
    """Samplers of the untouched network to compare with, NAME-STEPS."""
    measure_every: Count = 40
    """Iterations between two points of the learning curve."""
    parallel: bool = True
    """Whether the untouched samplers are measured by a second process while the first one trains."""
    progress_bar: bool = True
    """Whether a progress bar shows the current SW2."""
    algorithm: Annotated[PolicyGradientConfig, Flat] = field(default_factory=_sft_pg)
    evaluation: Annotated[EvaluationConfig, Flat] = field(default_factory=EvaluationConfig)


@dataclass(frozen=True)
class Data(Checked):
    """List the named data sets, with shapes, sizes and where each was found; or make one of them ready for use.

    fashion_mnist and fashion_mnist_16 are fetched with Debian's apt-get, without root. celeba:PATH is decoded once into
    the cache folder, where celeba finds it.
    """

    name: Positional[str] = ""
    """The set to make ready, a name or NAME:PATH, such as fashion_mnist; none lists all."""


@dataclass(frozen=True)
class Pretrain(Checked):
    """Pretrain a denoiser on a data set; this is also how the shipped weights were made."""

    output: Path
    """File to write, .safetensors."""
    dataset: str = "swiss_roll"
    """A named data set, or a path to a .npz file or a folder of images."""
    progress_bar: bool = True
    """Whether a progress bar shows the loss."""
    threads: Threads = 1
    """Torch threads; more than one slows small networks where cores are shared."""
    config: Annotated[PretrainConfig, Flat] = field(default_factory=PretrainConfig)


@dataclass(frozen=True)
class Train(Checked):
    """Fine-tune a few-step sampler; watch it with `tensorboard --logdir runs`.

    --algo chooses the algorithm and where its options start; `train --algo NAME --help` shows them.
    """

    task: Annotated[Task, Flat] = field(default_factory=Task)
    total_timesteps: Count = TOTAL_TIMESTEPS
    """Environment steps, num_envs * num_steps a rollout."""
    seed: Seed = 0
    """Seed of everything."""
    output: Path | None = None
    """Folder of the run; None takes the next free runs/ALGO-DATASET-K-N. A run is never written over another."""
    resume: Path | None = None
    """Folder of an interrupted run to continue exactly, with all its own options; give none but --algo FILE:NAME."""
    measure_every: Count = 40
    """Iterations between two measurements of SW2; an iteration ends with a training of the sampler."""
    measure_samples: Annotated[int, Bounds(2, 2**24)] = 10_000
    """Samples per measurement."""
    checkpoint_every: Count = 50
    """Iterations between two checkpoints."""
    log_interval: Count = 10
    """Iterations between two lines of metrics."""
    threads: Threads = 1
    """Torch threads; more than one slows small networks where cores are shared."""
    progress_bar: bool = True
    """Whether a progress bar shows the current SW2."""
    algo: Annotated[str, arg(help=ALGO_HELP)] = "sft_pg"
    """A name in `agents.zoo.NAMES`, or your own, FILE:NAME of a class or function."""
    set: Annotated[Values, arg(metavar="[NAME=VALUE ...]")] = ()
    """Hyper-parameters that replace the algorithm's own, for those without flags."""
    algorithm: Annotated[Any, Flat] = field(default_factory=_sft_pg)

    @property
    def changes(self) -> dict[str, Any]:
        """Hyper-parameters: what the flags say, and --set over it."""
        flags = self.algorithm if isinstance(self.algorithm, Mapping) else asdict(self.algorithm)
        return {**flags, **named_values(self.set, "--set")}


@dataclass(frozen=True)
class Evaluate(Checked):
    """Measure a trained sampler, or samplers of the untouched network, with the floor of fresh data beside them."""

    checkpoint: Path | None = None
    """A trained agent: its file or the folder of its run. Its own data set and network are used."""
    samplers: tuple[str, ...] | None = None
    """Samplers of the untouched network, NAME-STEPS; None takes the usual four unless there is a checkpoint."""
    algo: str | None = None
    """Your own algorithm that the checkpoint holds, FILE:NAME."""
    trust_paths: bool = False
    """Whether the data set, network and critic at the paths that a checkpoint file names are read. The folder of a run
    that you made needs no such word."""
    task: Annotated[Task, Flat] = field(default_factory=Task)
    """Without a checkpoint: data set and network of the samplers."""
    output: Path | None = None
    """JSON file to write, with every value of every seed."""
    threads: Threads = 1
    """Torch threads."""
    evaluation: Annotated[EvaluationConfig, Flat] = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        used = ("device",) if self.checkpoint is not None else ("device", "dataset", "denoiser")
        default = Task()
        given = [f.name for f in fields(Task) if getattr(self.task, f.name) != getattr(default, f.name)]
        if wrong := [f"--{name.replace('_', '-')}" for name in given if name not in used]:
            why = "a checkpoint has its own task" if self.checkpoint else "--samplers NAME-STEPS says what is walked"
            raise ValueError(f"evaluate has no use for {', '.join(wrong)}: {why}. Leave it out.")


@dataclass(frozen=True)
class Sample(Checked):
    """Draw samples from a trained sampler into a .npz file, in data units, under the name x."""

    checkpoint: Path
    """A trained agent: its file or the folder of its run."""
    output: Path
    """File to write, .npz."""
    algo: str | None = None
    """Your own algorithm that the checkpoint holds, FILE:NAME."""
    trust_paths: bool = False
    """Whether the data set, network and critic at the paths that a checkpoint file names are read. The folder of a run
    that you made needs no such word."""
    n: Annotated[int, Bounds(1, 2**30)] = 10_000
    """Number of samples."""
    seed: Seed = 0
    """Seed of the samples."""
    device: str = "cpu"
    """Torch device."""
    threads: Threads = 1
    """Torch threads."""


@dataclass(frozen=True)
class Export(Checked):
    """Write a trained sampler of images as a folder that diffusers reads, with its step table in sampler.json.

    Only samplers whose network is a U-Net (pip install 'ddpm-shortcut[images]').
    """

    checkpoint: Path
    """A trained agent: its file or the folder of its run."""
    output: Path
    """Folder to write; it must be new or empty."""
    algo: str | None = None
    """Your own algorithm that the checkpoint holds, FILE:NAME."""
    trust_paths: bool = False
    """Whether the data set, network and critic at the paths that a checkpoint file names are read. The folder of a run
    that you made needs no such word."""


@dataclass(frozen=True)
class Tune(Checked):
    """Tune an algorithm's hyper-parameters with optuna (pip install 'ddpm-shortcut[tune]').

    The preset is the first trial. The same command again continues an interrupted study.
    """

    algo: str = "sft_pg"
    """An algorithm of `train`, or your own, FILE:NAME."""
    dataset: tuple[str, ...] = ("swiss_roll",)
    """Named data sets, or a path to a .npz file or a folder of images (with --denoiser): each trial trains on all."""
    num_steps: tuple[Count, ...] = (10,)
    """K, denoising steps: each trial trains samplers of every one of these."""
    conditions: Annotated[Conditions, Flat] = field(default_factory=Conditions)
    trials: Count = 20
    """Trials in all, those of an interrupted study included."""
    total_timesteps: Count = 500_000
    """Environment steps of each training."""
    fix: Annotated[Values, arg(metavar="[NAME=VALUE ...]")] = ()
    """Hyper-parameters that replace the preset's and are not tuned, such as n_critic=1."""
    seeds: tuple[Seed, ...] = (1_000, 1_001)
    """Tuning seeds, 1000 ... 9999: each trial trains with every one, and no reported run may use them."""
    seed: Seed = 0
    """Seed of optuna's choices."""
    num_samples: Annotated[int, Bounds(2, 2**24)] = 10_000
    """Samples that SW2 is measured on, per training, on points of their own."""
    output: Path | None = None
    """Folder of the study; None takes runs/tune-ALGO-DATASET-K."""
    processes: Count = 1
    """Trials at a time, each in a process of its own if there are several."""
    threads: Threads = 1
    """Torch threads; more than one slows small networks where cores are shared."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Every data set at every K."""
        shared = {f.name: getattr(self.conditions, f.name) for f in fields(Conditions)}
        return tuple(Task(dataset, k, **shared) for dataset in self.dataset for k in self.num_steps)


Options = Demo | Data | Pretrain | Train | Evaluate | Sample | Export | Tune
