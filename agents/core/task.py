"""What an algorithm is trained on, as plain values: one frozen dataclass for commands, studies and grids.

Imports neither torch nor the environment, so that ``--help`` stays quick.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from diffusion_env.data.places import name_and_place
from diffusion_env.fields import Count, OrObject, check_fields

if TYPE_CHECKING:
    from diffusion_env.critics import Critic
    from diffusion_env.data.dataset import Dataset
    from diffusion_env.samplers.denoiser import Denoiser
    from diffusion_env.samplers.tables import StepTable

    DatasetLike = str | Path | Dataset
    SamplerLike = str | StepTable
    DenoiserLike = str | Path | Denoiser | None
    CriticLike = str | Path | Critic
else:  # what the command line reads, and how it says so; paths and objects are for Python
    DatasetLike = Annotated[str, OrObject("a Dataset")]
    SamplerLike = Annotated[str, OrObject("a StepTable")]
    CriticLike = Annotated[str, OrObject("a Critic")]
    DenoiserLike = Annotated[str, OrObject("a module")] | None


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the tasks of one study have in common: everything but the data set and K."""

    sampler: SamplerLike = "ddpm"
    """Step table: ddpm, fastdpm, fastdpm_step or published_toy (a policy needs noise in every step)."""
    denoiser: DenoiserLike = None
    """Pretrained network to start from: a file, a folder of diffusers or a name; None takes the one shipped for the
    data set."""
    critic: CriticLike = "energy"
    """Learned reward: energy, gradient_penalty, spectral_norm, weight_clipping, baseline, mmd, or a saved critic."""
    critic_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Keywords of a named critic, NAME=VALUE, such as gamma=0.3 width=512 body=conv."""
    train_critic: bool = True
    """Whether the critic learns; with --no-train-critic it stays as it is given."""
    num_envs: Count = 128
    """B, trajectories per rollout."""
    device: str = "cpu"
    """Torch device."""

    def __post_init__(self) -> None:
        """TypeError or ValueError that names the field, what is allowed and what was received."""
        check_fields(self)
        for name in ("dataset", "sampler", "critic"):
            if getattr(self, name, None) == "":
                raise ValueError(f"{type(self).__name__}.{name} is an empty string. Give a name or a path.")


@dataclass(frozen=True)
class Task(Conditions):
    """Data set, K, sampler, denoiser and critic, and how many trajectories walk at once on which device.

    Objects (a Dataset, a StepTable, a module, a Critic) are welcome in Python; `to_json` refuses them by name.
    """

    dataset: DatasetLike = "swiss_roll"
    """A named data set, NAME:PATH of a named image set, or a path to a .npz or .npy file or a folder of images (with
    --denoiser)."""
    num_steps: Count = 10
    """K, denoising steps."""

    @property
    def name(self) -> str:
        """The data set and K, such as swiss_roll_k10: part of the names of result files."""
        return f"{self.dataset_name}_k{self.num_steps}"

    @property
    def dataset_name(self) -> str:
        """Name of the data set, also in NAME:PATH; of a path its last part without the ending."""
        return Path(name_and_place(self.dataset)[0]).stem if isinstance(self.dataset, str | Path) else self.dataset.name

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Keywords of ``gym.make_vec``, but for ``num_envs`` and ``device``; what says nothing is left out."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("num_envs", "device")}
        return {name: value for name, value in given.items() if value is not None and value != {}}

    @classmethod
    def of_environment(cls, env_kwargs: Mapping[str, Any], num_envs: int, device: str) -> Task:
        """The task of an environment made with ``env_kwargs``; keywords that are no fields of a task are left out."""
        known = {f.name for f in fields(cls)}
        kwargs = {name: value for name, value in env_kwargs.items() if name in known and value is not None}
        return cls(**kwargs, num_envs=num_envs, device=device)

    @property
    def objects(self) -> list[str]:
        """Names of the fields whose value JSON cannot hold."""
        return [f.name for f in fields(self) if not _is_json(_plain(getattr(self, f.name)))]

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON; ValueError names the fields that hold objects."""
        if self.objects:
            raise ValueError(
                f"The task's {', '.join(self.objects)} can only be written to JSON as a name, a path or plain values; "
                f"received {[type(getattr(self, name)).__name__ for name in self.objects]}. Save the object to a file "
                "and give its path."
            )
        return self.saved()

    def saved(self) -> dict[str, Any]:
        """The fields that JSON can hold; `objects` names the others, which a loader has to be given again."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name not in self.objects}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], **objects: Any) -> Task:
        """The task that `to_json` or `saved` wrote, with ``objects`` over it; ValueError names unknown fields."""
        unknown = sorted({*content, *objects} - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"A task has no field {unknown}. Its fields are {[f.name for f in fields(cls)]}.")
        return cls(**{**content, **objects})


def named_values(words: Iterable[str], flag: str) -> dict[str, Any]:
    """NAME=VALUE words as a dict, each value JSON or else a string; ValueError, with ``flag``, for anything else."""
    pairs = {word: word.partition("=") for word in words}
    if wrong := [word for word, (name, sign, _) in pairs.items() if not (name and sign)]:
        raise ValueError(f"{flag} takes NAME=VALUE, such as n_critic=1; received {wrong}.")
    return {name: _value(text) for name, _, text in pairs.values()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # a number of many digits, or nested without end, is text too
        return text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return str(value) if isinstance(value, Path) else value


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
