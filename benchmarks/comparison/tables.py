"""The tables of a comparison's report, each a function of the results."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from statistics import fmean

import numpy as np

from agents.core.task import Task
from benchmarks.comparison.grid import FLOOR, MANY_STEPS, REFERENCES, UNTOUCHED, Entry, task_name
from benchmarks.comparison.markdown import table
from benchmarks.comparison.results import RunResult
from benchmarks.comparison.scores import LOWEST, Array, Results, value
from benchmarks.comparison.statistics import Interval, difference_interval, improvement_interval, iqm_interval
from benchmarks.comparison.tuned import FEW, MANY, has_study, study, tuned
from diffusion_env.evaluation.protocol import mean_interval

BOOTSTRAP_SEED = 0
NONE = "-"
MEANS = ("off_support", "mode_coverage", "recall", "auc_boosting", "auc_neighbours", "refitted_ipm")
LOWEST_COLUMN = f"at {LOWEST:.2f}"
FIRST_EDITION = "A dash under AUC and refitted IPM: first edition, not measured."
MILLION = 1e6


def groups(results: Results) -> dict[str, tuple[Task, ...]]:
    """Tasks that are summed up together: all of them, then one group for each K, fewest steps first."""
    tasks = results.grid.tasks
    by_steps = {k: tuple(t for t in tasks if t.num_steps == k) for k in sorted({t.num_steps for t in tasks})}
    return {"all": tasks, **{f"K = {k}": group for k, group in by_steps.items()}}


def aggregate_table(results: Results) -> str:
    """IQM and interval of every entry over every group of tasks, and over all: plain mean, share of runs below 0."""
    grouped = groups(results)
    columns = [
        *("entry", *(f"{name} ({_tasks(len(group))})" for name, group in grouped.items())),
        *("mean", "below 0", LOWEST_COLUMN, "runs", "diverged"),
    ]
    rows = [
        [
            label(entry),
            *(iqm_cell(results, entry.name, group) for group in grouped.values()),
            mean_cell(results, entry.name),
            below_cell(results, entry.name),
            lowest_cell(results, entry.name),
            *run_counts(results, entry),
        ]
        for entry in results.grid.entries
    ]
    return table(columns, rows)


def iqm_cell(results: Results, entry: str, tasks: Sequence[Task], metric: str = "sw2") -> str:
    """IQM [low, high]; says so where not all tasks have a run."""
    scores = results.scores(entry, metric, tasks)
    if not scores:
        return NONE
    part = "" if len(scores) == len(tasks) else f" ({len(scores)} of {len(tasks)} tasks)"
    return interval_cell(iqm_interval(list(scores.values()), BOOTSTRAP_SEED)) + part


def mean_cell(results: Results, entry: str) -> str:
    """Plain mean of the scores of all runs: the IQM leaves the best and the worst quarter out, this does not."""
    scores = list(results.scores(entry).values())
    return f"{np.concatenate(scores).mean():.2f}" if scores else NONE


def below_cell(results: Results, entry: str) -> str:
    """Share of the runs that are worse than the untouched sampler."""
    scores = list(results.scores(entry).values())
    return f"{(np.concatenate(scores) < 0).mean():.0%}" if scores else NONE


def lowest_cell(results: Results, entry: str) -> str:
    """How many runs have the lowest score there is, of how many: the IQM over all tasks may leave all of them out."""
    scores = list(results.scores(entry).values())
    return f"{(np.concatenate(scores) <= LOWEST).sum()} / {sum(map(len, scores))}" if scores else NONE


def interval_cell(interval: Interval, form: str = ".2f") -> str:
    """Estimate [low, high], without brackets where there is no interval."""
    estimate, low, high = (float(number) for number in interval)
    return f"{estimate:{form}}" if math.isnan(low) else f"{estimate:{form}} [{low:{form}}, {high:{form}}]"


def run_counts(results: Results, entry: Entry) -> list[str]:
    """Runs that ended, of those wanted, and how many of them diverged."""
    ended, diverged = (len(results.of(entry.name, None, s)) for s in (["finished", "diverged"], ["diverged"]))
    wanted = sum(run.entry.name == entry.name for run in results.grid.runs())
    return [f"{ended} / {wanted}", str(diverged)]


def quality_table(results: Results) -> str:
    """What SW2 does not see, over all tasks; diverged runs are left out."""
    columns = [
        *("entry", "SW2 score", "exact W1 score", "AUC, boosting", "AUC, neighbours", "refitted IPM"),
        *("own critic: IPM left", "off support", "mode coverage", "recall"),
    ]
    names = [*REFERENCES, *(entry.name for entry in results.grid.entries)]
    note = (
        "Scores are IQMs over all tasks; the other columns are means over tasks, and runs that diverged have none. "
        "*AUC*: of a classifier of samples against data, on points that it was not trained on; 0.5 where they cannot "
        "be told apart. *Refitted IPM*: the gap between data and samples that a new energy critic finds when it is "
        "trained until its gap on unseen points stops rising. *IPM left*: the gap that the run's own critic, its "
        "reward, still sees at the end; it is small for a sampler that hides from it. Both in the critic's units. "
        "Mode coverage exists for the Gaussian mixtures."
    )
    rows = [_quality_row(results, name) for name in names]
    if not any(results.values(name, "auc_boosting") for name in names):
        note += f" {FIRST_EDITION}"
    return f"{note}\n\n{table(columns, rows)}"


def _quality_row(results: Results, name: str) -> list[str]:
    means = {metric: over_tasks(results, name, partial(value, metric=metric)) for metric in MEANS}
    ipm = over_tasks(results, name, lambda result: result.get("training_ipm"))
    return [
        f"`{name}`",
        *(iqm_cell(results, name, results.grid.tasks, metric) for metric in ("sw2", "w1")),
        *(number(means[metric], "{:.3f}") for metric in ("auc_boosting", "auc_neighbours", "refitted_ipm")),
        number(ipm, "{:+.4f}"),
        number(means["off_support"], "{:.2%}"),
        *(number(means[metric], "{:.3f}") for metric in ("mode_coverage", "recall")),
    ]


def over_tasks(results: Results, entry: str, of_run: Callable[[RunResult], float | None]) -> float | None:
    """Mean over tasks of the mean over finished runs of ``of_run``, where it is known."""
    means = []
    for task in results.grid.tasks:
        found = (of_run(result) for result in results.of(entry, [task], ["finished"]))
        known = [x for x in found if x is not None]
        means += [fmean(known)] if known else []
    return fmean(means) if means else None


def number(x: float | None, form: str) -> str:
    """``x`` in the format ``form``, a dash for None."""
    return NONE if x is None else form.format(x)


def improvement_table(results: Results) -> str:
    """Against the baseline on the same tasks: the chance that a run beats one of its, and the difference in IQM."""
    base, grouped, rows = results.scores(results.grid.baseline), groups(results), []
    for entry in results.grid.entries:
        own = results.scores(entry.name)
        shared = [task for task in own if task in base]
        if entry.name == results.grid.baseline or not shared:
            continue
        chance = improvement_interval([own[t] for t in shared], [base[t] for t in shared], BOOTSTRAP_SEED)
        differences = [_difference(own, base, [t for t in group if t in shared]) for group in grouped.values()]
        rows.append([label(entry), interval_cell(chance), str(len(shared)), *differences])
    better = f"P(better than `{results.grid.baseline}`)"
    return table(["entry", better, "tasks", *(f"IQM less its, {name}" for name in grouped)], rows)


def _difference(own: Mapping[Task, Array], base: Mapping[Task, Array], tasks: Sequence[Task]) -> str:
    if not tasks:
        return NONE
    return interval_cell(difference_interval([own[t] for t in tasks], [base[t] for t in tasks], BOOTSTRAP_SEED), "+.2f")


def cost_table(results: Results) -> str:
    """Environment steps, network evaluations and CPU seconds of a run, evaluation excluded."""
    columns = ["entry", "steps, M", "network evaluations, M", "evaluations per step", "CPU s", "CPU s at the least K"]
    return table(columns, [_cost_row(results, entry) for entry in results.grid.entries])


def _cost_row(results: Results, entry: Entry) -> list[str]:
    steps = over_tasks(results, entry.name, lambda result: result["timesteps"] / MILLION)
    evaluations = over_tasks(results, entry.name, lambda result: result["network_evaluations"] / MILLION)
    seconds = over_tasks(results, entry.name, lambda result: result["train_cpu_seconds"])
    least = min(task.num_steps for task in results.grid.tasks)
    few = over_tasks(
        results,
        entry.name,
        lambda result: result["train_cpu_seconds"] if result["task"]["num_steps"] == least else None,
    )
    ratio = None if steps is None or evaluations is None else evaluations / steps
    return [
        label(entry),
        number(steps, "{:.3f}"),
        number(evaluations, "{:.2f}"),
        number(ratio, "{:.2f}"),
        number(seconds, "{:.0f}"),
        number(few, "{:.0f}"),
    ]


def per_task_tables(results: Results) -> str:
    """Mean score and interval of every entry on every task, a table for each K."""
    by_steps = list(groups(results).items())[1:]
    return "\n\n".join(f"{name}:\n\n{_task_table(results, tasks)}" for name, tasks in by_steps)


def _task_table(results: Results, tasks: Sequence[Task]) -> str:
    rows = []
    for entry in results.grid.entries:
        scores = results.scores(entry.name, "sw2", tasks)
        rows.append([label(entry), *(student_cell(scores.get(task)) for task in tasks)])
    return table(["entry", *(task.dataset_name for task in tasks)], rows)


def student_cell(scores: Array | Iterable[float] | None, form: str = "{:.2f}") -> str:
    """Mean ± half of Student's interval over seeds."""
    if scores is None:
        return NONE
    mean, low, _ = mean_interval([float(score) for score in scores])
    return form.format(mean) if low is None else f"{form.format(mean)} ± {form.format(mean - low)}"


def settings_table(results: Results) -> str:
    """What each entry changes of its algorithm's preset, and what the preset and the change reached in tuning."""
    rows = [row for entry in results.grid.entries for row in _settings_rows(entry, results.grid.tasks)]
    return table(["entry", "K", "SW2 / untouched in tuning, row -> tuned", "changes of the row"], rows)


def _settings_rows(entry: Entry, tasks: Sequence[Task]) -> list[list[str]]:
    """One row where all tasks have one setting, else one for each."""
    every = {task.num_steps for task in tasks}
    many = {k for k in every if k >= MANY_STEPS} if entry.by_steps else set()
    return [_settings_row(entry, steps, stage) for steps, stage in ((every - many, FEW), (many, MANY)) if steps]


def _settings_row(entry: Entry, steps: Collection[int], stage: str) -> list[str]:
    changes, reached = entry.changes_at(max(steps)), NONE
    if has_study(entry.name, stage) and changes == tuned(entry.name, stage):
        reached = "{preset_value:.2f} -> {value:.2f}".format(**study(entry.name, stage))
    listed = ", ".join(f"{name} {_short(value)}" for name, value in changes.items())
    return [f"`{entry.name}`", ", ".join(map(str, sorted(steps))), reached, listed or NONE]


def _short(setting: object) -> str:
    return f"{setting:.2g}" if isinstance(setting, float) else str(setting)


def scale_table(results: Results) -> str:
    """SW2 x 100 of the untouched sampler and of fresh data, in data units: what 0 and 1 stand for."""
    rows = []
    for task in results.grid.tasks:
        values = [[100 * x for x in results.values(name, "sw2", [task])] for name in (UNTOUCHED, FLOOR)]
        rows.append([f"`{task_name(task)}`", *(student_cell(x or None) for x in values)])
    return table(["task", "untouched, SW2 x 100", "floor, SW2 x 100"], rows)


def ended_badly(results: Results) -> str:
    """The runs that diverged or failed, and why; "" if there are none."""
    rows = [
        [f"`{run.entry.name}`", f"`{task_name(run.task)}`", str(run.seed), result["status"], _cut(result["error"])]
        for run, result in results.runs.items()
        if result["status"] != "finished"
    ]
    listing = table(["entry", "task", "seed", "status", "why"], rows)
    return f"## Runs that did not finish\n\n{listing}" if rows else ""


def _cut(text: str, longest: int = 100) -> str:
    flat = " ".join(text.replace("|", "/").split())
    return flat if len(flat) <= longest else f"{flat[:longest]}..."


def short_table(results: Results) -> str:
    """A page's: entry, IQM over all tasks and per K, what the IQM leaves out, CPU seconds."""
    grouped = groups(results)
    rows = [
        [
            label(entry),
            *(iqm_cell(results, entry.name, group) for group in grouped.values()),
            *(cell(results, entry.name) for cell in (mean_cell, below_cell, lowest_cell)),
            number(over_tasks(results, entry.name, lambda result: result["train_cpu_seconds"]), "{:.0f}"),
        ]
        for entry in results.grid.entries
    ]
    return table(["algorithm", *grouped, "mean", "below 0", LOWEST_COLUMN, "CPU s"], rows)


def label(entry: Entry) -> str:
    """Name, and title where there is one."""
    return f"`{entry.name}`" + f" ({entry.title})" * bool(entry.title)


def _tasks(count: int) -> str:
    return f"{count} task{'s' * (count != 1)}"
