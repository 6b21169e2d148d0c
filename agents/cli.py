"""``ddpm-shortcut``: demo, data, pretrain, train, evaluate, sample, export, tune.

The parser is made of the dataclasses in `agents.commands.options`; what a subcommand runs is imported when it runs.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Union

import tyro

from agents.commands.options import (
    REGISTRY,
    Data,
    Demo,
    Evaluate,
    Export,
    Options,
    Pretrain,
    Sample,
    Train,
    Tune,
    default_algorithm,
)

DESCRIPTION = "Few-step diffusion samplers, fine-tuned by reinforcement learning with a learned critic."
USAGE_ERROR, INTERRUPTED = 2, 130
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "Storage size calculation overflowed")
"""Parts of torch's messages."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (None: the process's own); returns the exit code.

    Bad input ends with one paragraph on stderr and code 2; only a fault of the program shows a traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a locale without these letters shows ? for them
            stream.reconfigure(errors="replace")
    try:
        options = parse(arguments)
        run = import_module(f"agents.commands.{type(options).__name__.lower()}").run
        run(options, shlex.join(["ddpm-shortcut", *arguments]))
    except KeyboardInterrupt as error:
        print(f"\n{str(error) or 'Interrupted.'}", file=sys.stderr)
        return int(getattr(error, "exit_code", INTERRUPTED))
    except Exception as error:
        if not _is_bad_input(error):
            raise
        print(_paragraph(f"{_rank()}Error: {_reason(error)}"), file=sys.stderr)
        return USAGE_ERROR
    return 0


def parse(argv: Sequence[str]) -> Options:
    """The options in ``argv``; exits with a message and code 2 if they are wrong, and with 0 after ``--help``."""
    algo = _algo(argv)
    if ":" in algo and (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)  # the user's own file lies in this folder, or elsewhere on the path
    train = Train(algo=algo, algorithm=default_algorithm(algo))
    # Every member is annotated at run time, which a static union cannot be.
    commands = Union[  # noqa: UP007
        Annotated[Demo, tyro.conf.subcommand("demo")],
        Annotated[Data, tyro.conf.subcommand("data")],
        Annotated[Pretrain, tyro.conf.subcommand("pretrain")],
        Annotated[Train, tyro.conf.subcommand("train", default=train)],
        Annotated[Evaluate, tyro.conf.subcommand("evaluate")],
        Annotated[Sample, tyro.conf.subcommand("sample")],
        Annotated[Export, tyro.conf.subcommand("export")],
        Annotated[Tune, tyro.conf.subcommand("tune")],
    ]
    with REGISTRY:
        options: Options = tyro.cli(commands, prog="ddpm-shortcut", description=DESCRIPTION, args=argv)
    return options


def _algo(argv: Sequence[str]) -> str:
    """What --algo says: it must be known before the parser, whose options (and help) it changes."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--algo", default="sft_pg", nargs="?")
    return str(parser.parse_known_args(argv)[0].algo)


def _is_bad_input(error: Exception) -> bool:
    from diffusion_env.checkpoints import CheckpointError
    from diffusion_env.fields import FieldTypeError

    kinds = (ValueError, FieldTypeError, OSError, ImportError, FloatingPointError, MemoryError, CheckpointError)
    return isinstance(error, kinds) or _is_allocation(error)


def _is_allocation(error: Exception) -> bool:
    """Whether torch had no memory: an error of its own on an accelerator, a RuntimeError on the CPU."""
    text = str(error)
    return isinstance(error, RuntimeError) and any(part in text for part in OUT_OF_MEMORY)


def _rank() -> str:
    """Who speaks, where torchrun has started several processes."""
    many = os.environ.get("WORLD_SIZE", "1") != "1"
    return f"Rank {os.environ.get('RANK', '?')}: " if many else ""


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError) or _is_allocation(error):
        first = (str(error).splitlines() or [""])[0]
        return (
            f"The memory is not enough ({first or 'no details'}). Use fewer environments (--num-envs), samples, steps "
            "or units of the networks."
        )
    if isinstance(error, OSError) and error.strerror and error.filename is None:
        return f"A file could not be written or read ({error.strerror}). Free space on the disk, or choose another."
    return str(error)


def _paragraph(text: str) -> str:
    width = min(shutil.get_terminal_size().columns, 100)
    return textwrap.fill(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.exit(main())
