"""Commands of a grid: what they refuse, in sentences."""

import sys
from dataclasses import dataclass

import pytest

from benchmarks.comparison.options import GridOptions, command


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"scale": 0.0}, "--scale multiplies the budget and must be above 0; received 0"),
        ({"scale": -1.0}, "received -1"),
        ({"scale": float("nan")}, "received nan"),
        ({"scale": float("inf")}, "received inf"),
        ({"processes": 0}, "--processes must be an integer >= 1; received 0"),
    ],
)
def test_sizes_that_make_no_run_are_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        GridOptions(**given)


def test_other_scales_have_a_suffix():
    assert [GridOptions(scale=scale).suffix for scale in (1.0, 0.1, 2.0)] == ["", "_x0.1", "_x2"]


@dataclass(frozen=True, kw_only=True)
class Example(GridOptions):
    """Options of a command in a test."""


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (3, 1)])
def test_the_exit_code_says_whether_a_run_failed(failed, code, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["example", "--scale", "0.5"])
    with pytest.raises(SystemExit) as exit_:
        command(Example, lambda options: failed if options.scale == 0.5 else 7)
    assert exit_.value.code == code


@pytest.mark.parametrize("error", [ValueError("a sentence"), ImportError("a sentence"), OSError("a sentence")])
def test_an_error_is_a_sentence_and_no_traceback(error, monkeypatch):
    def fails(options):
        raise error

    monkeypatch.setattr(sys, "argv", ["example"])
    with pytest.raises(SystemExit) as exit_:
        command(Example, fails)
    assert exit_.value.code == "error: a sentence"


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["example"])
    with pytest.raises(SystemExit) as exit_:
        command(Example, interrupted)
    assert exit_.value.code == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on where it stopped\n"


def test_a_refused_option_is_a_sentence_and_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["example", "--processes", "0"])
    with pytest.raises(SystemExit) as exit_:
        command(Example, lambda options: 0)
    assert exit_.value.code == 2 and "--processes must be an integer >= 1; received 0." in capsys.readouterr().err
