"""Tables of results, and the names in them."""

import pytest

from agents.runs.report import format_table, split_sampler


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ddpm-100", ("ddpm", 100)), ("fastdpm_step-10", ("fastdpm_step", 10)), ("a-b-1", ("a-b", 1))],
)
def test_split_sampler(text: str, expected: tuple[str, int]) -> None:
    assert split_sampler(text) == expected


@pytest.mark.parametrize("text", ["ddpm", "ddpm-", "ddpm-ten", "ddpm--1x"])
def test_split_sampler_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="NAME-STEPS"):
        split_sampler(text)


def test_the_table_stands_beside_its_floor() -> None:
    row = {
        "name": "DDPM-10",
        "sw2_mean": 0.0368,
        "sw2_low": 0.03,
        "sw2_high": 0.04,
        "w1_mean": 0.05,
        "off_support": 0.06,
        "auc_boosting": 0.75,
        "auc_neighbours": 0.7,
        "refitted_ipm": None,
    }
    lines = format_table([row], {**row, "name": "floor", "sw2_mean": 0.0184, "sw2_low": None}).splitlines()
    assert lines[2].split() == [
        "DDPM-10",
        "3.68",
        "3.00",
        "...",
        "4.00",
        "2.00",
        "5.00",
        "6.00",
        "%",
        "0.750",
        "0.700",
        "-",
    ]
    assert lines[4].split() == ["floor", "1.84", "1.00", "5.00", "6.00", "%", "0.750", "0.700", "-"]
