"""Pieces of Markdown."""

import pytest

from benchmarks.comparison.markdown import made_with, replaced_between, table


def test_a_table_has_a_rule_under_its_head():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_only_what_is_between_the_markers_is_replaced():
    text = replaced_between("x\n<s>\nold\n<e>\ny\n", "<s>", "<e>", "new")
    assert text == "x\n<s>\n\nnew\n\n<e>\ny\n" == replaced_between(text, "<s>", "<e>", "new")
    for broken in ("<s> only", "<s><s><e>", "<e>"):
        with pytest.raises(ValueError, match="must hold the lines '<s>' and '<e>' once each"):
            replaced_between(broken, "<s>", "<e>", "new")


def test_what_runs_were_made_with_is_said_once():
    runs = [
        {"machine": {"processor": processor, "cores": 2}, "commit": commit, "versions": {"torch": "2"}}
        for processor, commit in (("b", "2"), ("a", "1"), ("a", "2"))
    ]
    lines = made_with(runs).splitlines()
    assert [line for line in lines if line.startswith("- ")] == [
        "- a, 2 cores, 1 torch thread a run",
        "- b, 2 cores, 1 torch thread a run",
        "- commits 1, 2",
        '- {"torch": "2"}',
    ]
