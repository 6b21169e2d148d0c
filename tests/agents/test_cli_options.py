"""The parser: every option both ways, the algorithms and their help, and that it is quick."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from agents import PRESETS, preset
from agents.cli import main, parse
from agents.commands.options import Demo, Evaluate, Pretrain, Sample, Train, Tune
from agents.zoo import NAMES

REQUIRED: dict[type, list[str]] = {
    Demo: [],
    Pretrain: ["--output", "net"],
    Train: [],
    Evaluate: [],
    Sample: ["--checkpoint", "c", "--output", "s"],
    Tune: [],
}


REFUSED = [(Evaluate, "train_critic")]
"""Flags of a task that a command has no use for and refuses."""


def arguments(command: type) -> list[str]:
    return [command.__name__.lower(), *REQUIRED[command]]


def booleans(command: type) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every boolean option of a command, with where it stands in the dataclass."""
    for field in fields(command):
        default = field.default_factory() if callable(field.default_factory) else field.default
        if isinstance(default, bool):
            yield field.name, (field.name,)
        elif is_dataclass(default):
            yield from ((inner.name, (field.name, inner.name)) for inner in fields(default) if inner.type == "bool")


def value_at(options: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        options = getattr(options, name)
    return options


FLAGS = [(command, *flag) for command in REQUIRED for flag in booleans(command) if (command, flag[0]) not in REFUSED]


def test_all_boolean_flags_are_found() -> None:
    assert {name for _, name, _ in FLAGS} == {"compile", "parallel", "progress_bar", "train_critic", "trust_paths"}


@pytest.mark.parametrize(("command", "name", "path"), FLAGS)
@pytest.mark.parametrize("wanted", [True, False])
def test_boolean_flags_work_both_ways(command: type, name: str, path: tuple[str, ...], wanted: bool) -> None:
    flag = f"--{'' if wanted else 'no-'}{name.replace('_', '-')}"
    assert value_at(parse([*arguments(command), flag]), path) is wanted


@pytest.mark.parametrize("command", REQUIRED)
def test_defaults_are_those_of_the_dataclasses(command: type) -> None:
    made = {Pretrain: {"output": Path("net")}, Sample: {"checkpoint": Path("c"), "output": Path("s")}}
    assert parse(arguments(command)) == command(**made.get(command, {}))


OTHER = {
    "lr_schedule": "constant",
    "critic_lr_schedule": "linear",
    "minibatch_size": "7",
    "max_grad_norm": "0.75",
    "std": "learned",
    "baseline": "none",
    "surrogate": "regression",
    "advantage_normalization": "batch",
    "step_weight": "equal",
    "group_size": "4",
    "backprop_steps": "2",
    "value_body": "conv",
    "critic_data_batch": "64",
    "critic_slope_penalty": "0.5",
    "deployed_std": "mean",
    "reward": "derivative",
}
FAMILIES = ("sft_pg", "dxdp", "pathwise")


def options_of(algo: str) -> set[str]:
    return {field.name for field in fields(PRESETS[algo].config)}


@pytest.mark.parametrize("algo", FAMILIES)
def test_every_hyper_parameter_can_be_set_over_a_preset(algo: str) -> None:
    row = PRESETS[algo].config
    words, expected = list[str](), dict[str, Any]()
    other_average = "ema_width" if row.ema_width is None else "ema_decay"  # only one of the two is given
    for name in sorted(options_of(algo) - {"gradient_checkpointing", "compile", other_average}):
        default = getattr(row, name)
        text = OTHER.get(name) or str(default + 1 if isinstance(default, int) else default / 2 + 0.125)
        words += [f"--{name.replace('_', '-')}", text]
        expected[name] = text
    options = parse(["train", "--algo", algo, *words])
    assert isinstance(options, Train)
    set_to = {name: getattr(options.algorithm, name) for name in expected}
    assert {name: str(value) for name, value in set_to.items()} == expected
    assert all(value != getattr(row, name) for name, value in set_to.items())


@pytest.mark.parametrize("wanted", [True, False])
def test_gradient_checkpointing_both_ways(wanted: bool) -> None:
    options = parse(["train", "--algo", "pathwise", f"--{'' if wanted else 'no-'}gradient-checkpointing"])
    assert isinstance(options, Train)
    assert options.algorithm == preset("pathwise", gradient_checkpointing=wanted)


@pytest.mark.parametrize("algo", PRESETS)
def test_an_algorithm_is_its_preset_and_one_option_changes_that_alone(algo: str) -> None:
    for form in (["--algo", algo], [f"--algo={algo}"]):
        options = parse(["train", *form])
        assert isinstance(options, Train)
        assert (options.algo, options.algorithm) == (algo, PRESETS[algo].config)
    options = parse(["train", "--kl-coef", "0.25", "--algo", algo, "--max-grad-norm", "None"])
    assert isinstance(options, Train)
    assert options.algorithm == preset(algo, kl_coef=0.25, max_grad_norm=None)


def help_of(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        parse([*words.split(), "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("algo", FAMILIES)
def test_help_lists_the_options_of_the_algorithm_and_no_others(algo: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = set(re.findall(r"--([a-z][a-z0-9-]+)", help_of(f"train --algo {algo}", capsys)))
    listed = {name.replace("_", "-") for name in options_of(algo)}
    others = {name.replace("_", "-") for other in FAMILIES for name in options_of(other)} - listed
    assert listed <= shown and others.isdisjoint(shown)


def test_help_names_every_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    shown = " ".join(help_of("train", capsys).replace("│", " ").split())
    assert [name for name in NAMES if not re.search(rf"\b{name}\b", shown)] == []


def test_an_algorithm_without_flags_takes_names_and_values() -> None:
    options = parse(["train", "--algo", "ppo", "--set", "n_epochs=3", "learn_std=true", "ent_coef=0.5"])
    assert isinstance(options, Train)
    assert options.changes == {"n_epochs": 3, "learn_std": True, "ent_coef": 0.5}


def test_keywords_of_the_critic() -> None:
    for command in ("train", "demo"):
        options: Any = parse([command, "--critic-kwargs", "gamma=0.3", "width=512", "body=conv"])
        assert options.task.critic_kwargs == {"gamma": 0.3, "width": 512, "body": "conv"}


def test_help_shows_where_the_options_of_the_preset_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert "5e-05" in help_of("train --algo sft_pg_paper", capsys)
    assert "5e-05" not in help_of("train --algo sft_pg", capsys)  # negative control


@pytest.mark.parametrize("command", ["", *(command.__name__.lower() for command in REQUIRED)])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert f"usage: ddpm-shortcut {command}".strip() in capsys.readouterr().out


HEAVY = ("torch", "stable_baselines3", "matplotlib", "sklearn", "ot", "tensorboard", "pandas", "optuna")


def loaded_after(statement: str) -> list[str]:
    script = f"import sys\n{statement}\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


def test_the_parser_imports_nothing_heavy() -> None:
    parsed = "\n".join(f"parse({words})" for words in (["train"], ["demo"], ["train", "--algo", "ppo"]))
    assert loaded_after(f"from agents.cli import parse\n{parsed}") == []


def test_negative_control_of_the_light_parser() -> None:
    assert "torch" in loaded_after("from agents import SFTPG")
