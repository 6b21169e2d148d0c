"""The grids are sound before anything is run: names, tasks, settings, order; the committed results are theirs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agents.core.task import Task
from agents.zoo import find
from benchmarks import compare, toy
from benchmarks.comparison import runner
from benchmarks.comparison.grid import MANY_STEPS, REFERENCES, Run, task_name, task_record
from benchmarks.comparison.grids import GRIDS
from benchmarks.comparison.record import load
from benchmarks.comparison.runner import same_settings
from benchmarks.comparison.toy_grid import TOY
from benchmarks.comparison.tuned import FEW, FIRST_EDITION, MANY, STAGES, STUDIES, study, tuned
from diffusion_env.denoisers.loading import shipped_weights

EVERY = [(grid.name, entry, k) for grid in GRIDS.values() for entry in grid.entries for k in (1, MANY_STEPS)]
SHARED = ("n_critic", "critic_learning_rate", "lr_schedule", "max_grad_norm", "ema_decay", "kl_coef")
FIRST_EDITION_LACKS = {"refit_steps": 5_000}
"""Sizes of the protocol that results of the first edition do not have."""
UNFINISHED = {"grpo_long"}
"""Entries of which the first edition has some runs only; their report counts those that are missing."""
FIRST_EDITION_ALONE = ("critic_steps",)
"""Sizes that they have and no later result has."""
ROOT = Path(__file__).parents[3]


def settings(entry, num_steps):
    return find(entry.algorithm).settings(entry.changes_at(num_steps))


@pytest.mark.parametrize(("grid", "entry", "num_steps"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_every_entry_has_valid_settings(grid, entry, num_steps):
    changes, changed = entry.changes_at(num_steps), settings(entry, num_steps)
    assert {key: changed[key] for key in changes} == changes
    assert json.loads(json.dumps(changed)).keys() == changed.keys()


def test_every_task_has_a_pretrained_network():
    assert all(shipped_weights(task.dataset_name).is_file() for grid in GRIDS.values() for task in grid.tasks)


def test_the_main_grid_is_the_promised_one():
    main = GRIDS["main"]
    assert (len(main.entries), len(main.tasks)) == (13, 14) and main.num_seeds >= 5
    assert sorted({task.num_steps for task in main.tasks}) == [1, 2, 5, 10, 20]
    assert sum(task.num_steps == 10 for task in main.tasks) == 6


@pytest.mark.parametrize(("stage", "num_steps"), [(FEW, 1), (MANY, MANY_STEPS)])
def test_the_entries_of_the_controlled_grid_share_critic_schedule_and_tuning(stage, num_steps):
    grid = GRIDS["controlled"]
    configs = [settings(entry, num_steps) for entry in grid.entries]
    for name in SHARED:
        assert len({config[name] for config in configs}) == 1, name
    assert {task.critic for task in grid.tasks} == {"energy"}
    assert len({study(entry.name, stage)["num_trials"] for entry in grid.entries}) == 1
    steps = {entry.name: config.get("backprop_steps") for entry, config in zip(grid.entries, configs, strict=True)}
    assert steps == {"sft_pg": None, "dxdp": None, "pathwise_whole": None, "pathwise": 2}


@pytest.mark.parametrize(("stage", "name"), [(stage, f.stem) for stage in STAGES for f in STUDIES.glob(f"{stage}/*")])
def test_tuning_is_equal_and_on_a_task_of_no_table(stage, name):
    found, reference = study(name, stage), study("sft_pg", stage)
    kept = {key: value for key, value in found["problem"].items() if key not in ("algo", "held")}
    assert kept == {key: reference["problem"][key] for key in kept}
    assert (found["num_trials"], found["seed"]) == (reference["num_trials"], reference["seed"])
    tasks = {f"{dataset}_k{k}" for dataset in found["problem"]["datasets"] for k in found["problem"]["num_steps"]}
    assert not tasks & {task_name(task) for grid in (*GRIDS.values(), TOY) for task in grid.tasks}


def test_entries_are_the_best_trials():
    for entry in GRIDS["main"].entries:
        for stage, num_steps in zip(STAGES, (1, MANY_STEPS), strict=True):
            found = study(entry.name, stage)
            assert found["problem"]["algo"] == entry.algorithm
            then = FIRST_EDITION.get(entry.name, {})
            assert entry.changes_at(num_steps) == then | found["problem"]["held"] | found["changes"]
    with pytest.raises(FileNotFoundError, match=r"No study 'sarsa'.*'sft_pg'"):
        tuned("sarsa")


COMMON = {"n_critic", "episodes", "train_freq", "ema_decay", "learning_rate"}
"""What the second stage chose anew for all; each has one hyper-parameter more of its own."""


@pytest.mark.parametrize("name", [path.stem for path in STUDIES.glob(f"{MANY}/*")])
def test_the_second_stage_goes_on_from_the_first(name):
    first, second = tuned(name, FEW), tuned(name, MANY)
    assert second.keys() == first.keys() and len(study(name, MANY)["changes"]) == 2
    own = {"trpo": "target_kl", "sac": "gradient_steps", "td3": "gradient_steps"}.get(name, "min_std")
    assert {key for key in first if first[key] != second[key]} <= COMMON | {own}


def test_a_run_of_one_name_is_the_same_in_every_grid():
    known: dict[tuple[str, Task], tuple[Run, int]] = {}
    for grid in GRIDS.values():
        for run in grid.runs([0]):
            made = (run, grid.budget(run))
            assert known.setdefault((run.entry.name, run.task), made) == made


def test_runs_go_seed_by_seed_with_the_references_first():
    runs = GRIDS["main"].runs()
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert [run.entry.name for run in runs[:28]] == [name for name in REFERENCES for _ in range(14)]
    assert len(set(runs)) == len(runs) == 5 * 15 * 14
    assert {run.seed for run in GRIDS["main"].runs([3])} == {3}


def test_importing_the_grids_reads_no_result():
    script = (
        "import sys\n"
        "def audit(event, arguments):\n"
        "    if event == 'open' and 'benchmarks/results' in str(arguments[0]):\n"
        "        raise SystemExit(f'{arguments[0]} was read')\n"
        "sys.addaudithook(audit)\n"
        "import benchmarks.compare, benchmarks.toy\n"
        "from benchmarks.comparison.grids import GRIDS\n"
        "GRIDS['main'].runs()\n"
        "print('nothing was read')\n"
        "GRIDS['main'].entries[0].changes_at(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "nothing was read\n"
    assert "few_steps/reinforce.json was read" in done.stderr  # negative control: settings read it


@pytest.mark.parametrize(
    ("folder", "grids", "plan"),
    [
        (compare.RESULTS / "runs", list(GRIDS.values()), compare.CompareConfig().plan),
        (toy.RESULTS / "toy", [TOY], lambda grid: toy.ToyConfig().plan),
    ],
    ids=["compare", "toy"],
)
def test_the_committed_results_are_the_runs_of_the_grids(folder, grids, plan):
    record = load(folder, grids)  # refuses a run that no grid has
    for grid in grids:
        there = record.runs_of(grid)
        without = {run.entry.name for run in grid.runs() if run not in there}
        assert without <= UNFINISHED and not without & set(REFERENCES)
        for run, result in there.items():
            wanted = runner.settings(run, plan(grid))
            sizes = {**FIRST_EDITION_LACKS, **result["settings"]["protocol"]}
            protocol = {name: x for name, x in sizes.items() if name not in FIRST_EDITION_ALONE}
            assert same_settings({**result["settings"], "protocol": protocol}, wanted)


def test_a_task_of_the_toy_table_says_what_is_not_the_default():
    tasks = {entry.name: entry.tasks[0] for entry in TOY.entries}
    assert task_record(tasks["ddpm_10"]) == {"dataset": "swiss_roll", "num_steps": 10}
    assert task_name(tasks["ddim_10"]) == "swiss_roll_k10_ddim"
    assert task_record(tasks["published_sft_pg_b"]) == {
        "dataset": "swiss_roll",
        "num_steps": 10,
        "sampler": "published_toy",
        "denoiser": "published",
    }
