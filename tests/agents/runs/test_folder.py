"""A run's folder: complete, never overwritten, and continued without holes or repeats."""

import json
from pathlib import Path

import pytest

from agents.runs.folder import RunFolder, SilentFolder, next_folder, set_aside
from agents.runs.logs import METRICS


def test_create_records_the_configuration_and_the_versions(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "deep" / "run", {"seed": 3, "env_kwargs": {"num_steps": 10}})
    assert run.config["seed"] == 3
    assert run.config["env_kwargs"] == {"num_steps": 10}
    assert {"python", "torch", "gymnasium", "stable-baselines3"} <= run.config["versions"].keys()


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path, {}).path == tmp_path


@pytest.mark.parametrize("kind", ["run", "file"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "taken"
    if kind == "run":
        RunFolder.create(path, {"seed": 1})
    else:
        path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"never written over another.*--resume"):
        RunFolder.create(path, {"seed": 2})
    assert RunFolder(path).config["seed"] == 1 if kind == "run" else path.read_text() == "precious"


def test_open_wants_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        RunFolder.open(tmp_path)
    run = RunFolder.create(tmp_path / "run", {})
    assert RunFolder.open(run.path) == run  # killed before its first checkpoint: it can begin again


def test_a_run_without_a_checkpoint_is_begun_again_by_the_same_options_alone(tmp_path: Path) -> None:
    options = {"seed": 1, "options": {"set": ("a", "b")}}
    run = RunFolder.create(tmp_path / "run", {**options, "command": "train"})
    (run.path / ".config.json.x7.tmp").write_text("of a killed write")
    (run.path / "run.lock").write_text("")
    (run.path / METRICS).write_text("{}\n")
    assert RunFolder.create(run.path, {**options, "command": "train again"}) == run
    with pytest.raises(FileExistsError, match="never written over another"):
        RunFolder.create(run.path, {**options, "seed": 2})
    run.checkpoint.write_bytes(b"")
    with pytest.raises(FileExistsError, match=r"continue that run with `ddpm-shortcut train --resume"):
        RunFolder.create(run.path, options)


def test_the_other_ranks_leave_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "run"
    folder = SilentFolder(path)
    with folder.locked():
        write_metrics(folder, [10])
    assert not path.exists()
    write_metrics(RunFolder.create(path, {"seed": 1}), [10])
    before = sorted(file.name for file in path.iterdir())
    with folder.locked():
        write_metrics(folder, [20])
        assert folder.config["seed"] == 1 and steps_in(folder) == [10]
    assert sorted(file.name for file in path.iterdir()) == before


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, {})
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        _ = run.config


def write_metrics(run: RunFolder, steps: list[int], at: int = 0) -> None:
    logger = run.logger(at)
    for step in steps:
        logger.record("time/total_timesteps", step)
        logger.record("critic/ipm", 0.5)
        logger.dump(step)
    logger.close()


def steps_in(run: RunFolder) -> list[int]:
    return [line["time/total_timesteps"] for line in run.metrics()]


def test_metrics_are_json_lines_beside_tensorboard_events(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, {})
    write_metrics(run, [10, 20])
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert lines == run.metrics() == [{"time/total_timesteps": s, "critic/ipm": 0.5} for s in (10, 20)]
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_a_resumed_run_keeps_its_lines_up_to_the_checkpoint(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, {})
    write_metrics(run, [0, 10, 20, 30])
    write_metrics(run, [30, 40], at=20)
    assert steps_in(run) == [0, 10, 20, 30, 40]
    write_metrics(run, [0, 10], at=0)  # resumed before the first iteration: everything is written again
    assert steps_in(run) == [0, 10]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, {})
    write_metrics(run, [10])
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"time/total_timesteps": 2')
    assert steps_in(run) == [10]
    write_metrics(run, [20], at=10)
    assert steps_in(run) == [10, 20]


def test_next_folder_counts_up(tmp_path: Path) -> None:
    assert next_folder(tmp_path, "run") == tmp_path / "run-1"
    (tmp_path / "run-1").mkdir()
    assert next_folder(tmp_path, "run") == tmp_path / "run-2"


def test_set_aside_moves_runs_and_nothing_else(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "demo", {"seed": 5})
    moved = set_aside(run.path)
    assert moved == tmp_path / "demo-1" and not run.path.exists()
    assert RunFolder(moved).config["seed"] == 5
    assert set_aside(run.path) is None
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("precious")
    assert set_aside(tmp_path / "photos") is None
