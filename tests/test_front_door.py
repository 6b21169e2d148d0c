"""The pages a newcomer reads first: links, versions, lists of files and numbers agree with the repository."""

import re
import tomllib
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from agents.runs.report import EYES
from benchmarks.comparison.results import read_folder

HOME = Path(__file__).parent.parent
README, CONTRIBUTING, CHANGELOG = (HOME / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG"))
COMPARISON = [HOME / "benchmarks" / f"{name}.md" for name in ("COMPARISON", "CONTROLLED", "FEW_STEPS", "TEN_STEPS")]
PAGES = [README, CONTRIBUTING, CHANGELOG, HOME / "diffusion_env" / "RECIPES.md", *COMPARISON]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
MAX_FILES = 3

GENERATED = re.compile(r"<!-- (compare \w+: begin|results: generated).*?(: end|end of results) -->", flags=re.DOTALL)
INTERVAL = r"[-+]?\d+\.\d+ \[[-+]?\d+\.\d+, [-+]?\d+\.\d+\]"
SPREAD = r"[-+]?\d+\.\d+ ± \d+\.\d+"
PERCENT = r"\d+\.\d+ ?%"


def read_yaml(path: Path) -> Any:
    yaml: Any = pytest.importorskip("yaml")  # comes with diffusers
    return yaml.safe_load(path.read_text())


def links(text: str) -> list[str]:
    """Targets of Markdown links that are files."""
    without_code = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    return re.findall(r"\]\((?!https?://|#)([^)#\s]+)[^)]*\)", without_code)


def measured_numbers(text: str) -> list[str]:
    """Numbers with an interval, a spread or a percent sign, as written, but with single spaces."""
    found = re.findall(f"{INTERVAL}|{SPREAD}|{PERCENT}", " ".join(text.split()))
    return [number.replace(" %", "%") for number in found]


def rows_of(text: str, header: str) -> list[list[str]]:
    """Cells of the Markdown table that starts with ``header``."""
    lines = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    missing = [link for link in links(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


def test_links_are_found() -> None:
    assert links("[a](b.md), ![c](d/e.png#f), [g](https://h.i), `[j](k)`, [l](#m)") == ["b.md", "d/e.png"]


@pytest.mark.parametrize("page", COMPARISON, ids=lambda page: page.name)
def test_a_page_says_first_that_it_is_a_first_edition(page: Path) -> None:
    assert page.read_text().split("\n\n")[1].startswith("> **First edition, judged by SW2 alone")


@pytest.mark.parametrize("page", [README, *COMPARISON], ids=lambda page: page.name)
def test_numbers_in_the_text_stand_in_a_generated_table(page: Path) -> None:
    reports = [path.read_text() for path in sorted((HOME / "benchmarks" / "results").rglob("*.md"))]
    tables = [found[0] for other in [README, *COMPARISON] for found in GENERATED.finditer(other.read_text())]
    known = set(measured_numbers("\n".join([*reports, *tables])))
    assert len(known) > 100
    typed = measured_numbers(GENERATED.sub("", page.read_text()))
    assert [number for number in typed if number not in known] == []
    assert typed or page == README


def test_measured_numbers_are_found_as_they_are_written() -> None:
    text = "from -0.1 [-0.2,\n  0.0] to +0.3 [+0.1, +0.5], 0.19 ± 0.31 and 2.09 % or 2.10%; not 0.05"
    assert measured_numbers(text) == ["-0.1 [-0.2, 0.0]", "+0.3 [+0.1, +0.5]", "0.19 ± 0.31", "2.09%", "2.10%"]


def test_files_to_touch_exist_and_are_few() -> None:
    rows = rows_of(CONTRIBUTING.read_text(), "| new thing |")
    assert len(rows) >= 9
    for thing, files, test in rows:
        paths = [name for name in re.findall(r"`([^`]+)`", files) if "/" in name]
        assert 1 <= len(paths) <= MAX_FILES, thing
        mirrored = ["tests/" + re.sub(r"(\w+\.py)$", r"test_\1", path) for path in paths]
        assert test.strip("`") in mirrored, thing
        for path in [*paths, test.strip("`")]:
            assert "NAME" in path or (HOME / path).is_file(), f"{thing}: {path}"
            assert path.startswith("tests/") or (HOME / path).parent.is_dir(), f"{thing}: {path}"
        for table, path in re.findall(r"`(\w+)` of `([^`]+)`", files):
            assert re.search(rf"^{table}\b.*=", (HOME / path).read_text(), flags=re.MULTILINE), f"{table} in {path}"


def test_modules_that_moved_are_where_the_changelog_says() -> None:
    rows = rows_of(CHANGELOG.read_text(), "| in 0.1.0 |")
    moved = [name for _, now in rows for name in re.findall(r"`([a-z]\w*(?:\.\w+)+)`", now)]
    assert len(moved) >= 20
    for name in moved:
        import_module(name)


def test_versions_agree() -> None:
    releases = re.findall(r"^## (\d\S*) - \d{4}-\d\d-\d\d$", CHANGELOG.read_text(), flags=re.MULTILINE)
    assert releases[0] == PROJECT["version"] == read_yaml(HOME / "CITATION.cff")["version"]


def test_torch_is_pinned_to_one_version() -> None:
    places = [README, HOME / "Makefile", HOME / "constraints.txt"]
    pins = {pin for place in places for pin in re.findall(r"torch==([\w.]+)", place.read_text())}
    assert len(pins) == 1


def test_the_citation_names_the_software_and_the_method() -> None:
    citation = read_yaml(HOME / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # the keys that the format demands
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Homepage"]
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper)
    bibtex = README.read_text().split("```bibtex")[1]
    assert paper["title"] in bibtex.replace("{DDPM}", "DDPM") and f"{{{paper['year']}}}" in bibtex


def test_the_workflow_runs_the_ci_script_on_the_versions_that_the_package_names() -> None:
    job = read_yaml(HOME / ".github" / "workflows" / "ci.yml")["jobs"]["test"]
    prefix = "Programming Language :: Python :: "
    named = [text.removeprefix(prefix) for text in PROJECT["classifiers"] if text.startswith(prefix + "3.")]
    assert job["strategy"]["matrix"]["python-version"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert job["steps"][-1]["run"] == "bash .ci/run" and (HOME / ".ci" / "run").is_file()
    assert set(job["env"]) == {"PYTHON"} and "PYTHON ?=" in (HOME / "Makefile").read_text()


def test_the_commit_hooks_run_the_tools_of_the_project() -> None:
    (repository,) = read_yaml(HOME / ".pre-commit-config.yaml")["repos"]
    entries = [hook["entry"] for hook in repository["hooks"]]
    assert repository["repo"] == "local"  # so that the versions are those of constraints.txt
    assert [entry.split()[:2] for entry in entries] == [
        [".venv/bin/ruff", "check"],
        [".venv/bin/ruff", "format"],
        ["make", "lint"],
    ]


def test_the_table_of_what_sw2_does_not_see_holds_the_numbers_of_its_runs() -> None:
    found = read_folder(HOME / "benchmarks" / "results" / "trials" / "runs")
    rows = rows_of(COMPARISON[0].read_text(), "| entry | least std |")
    assert {name.strip("`") for name, *_ in rows} == set(found) and len(rows) > 5
    for name, std, *cells in rows:
        (run,) = found[name.strip("`")]
        metrics = {key: x for key, x in run["metrics"].items() if None not in x}
        sw2, *rest = (fmean(metrics[key]) for key in ("sw2", "off_support", *EYES))
        assert cells == [f"{100 * sw2:.2f}", *(f"{x:.{digits}f}" for x, digits in zip(rest, (3, 2, 2, 2), strict=True))]
        assert std == str(run["settings"]["hyperparameters"].get("min_std", "-"))
