"""The toy table as a grid: tasks, evaluation sets, the published units."""

import torch

from agents.core.task import Task
from agents.runs.callbacks import Measurement
from benchmarks.comparison.toy_grid import PAPER_STEPS, PUBLISHED, TOY, ToyProtocol, prepared, published_units
from diffusion_env.data.named import load_dataset


def test_every_entry_has_one_task_and_what_trains_has_a_budget():
    assert all(len(entry.tasks) == 1 and bool(entry.total_timesteps) == entry.trains for entry in TOY.entries)
    assert PAPER_STEPS == 4_800 * 5 * 128 * 10


def test_rows_share_their_evaluation_sets_and_seeds_do_not():
    first, second = (ToyProtocol().final(TOY.tasks[0], seed)["metrics"].seeds for seed in (0, 1))
    assert not set(first) & set(second)
    assert all(ToyProtocol().final(task, 0)["metrics"].seeds == first for task in TOY.tasks)


def test_many_points_are_drawn_up_to_so_many_steps():
    protocol = ToyProtocol(large_steps=100)
    assert "large_metrics" in protocol.final(Task("swiss_roll", num_steps=100), 0)
    assert "large_metrics" not in protocol.final(Task("swiss_roll", num_steps=101), 0)


def test_published_units_are_those_of_the_data():
    dataset = load_dataset("swiss_roll")
    published = published_units(dataset)
    assert torch.equal(published.train[:], dataset.to_data(dataset.train[:]))
    x = torch.randn(5, 2)
    assert torch.equal(published.to_data(x), x)


def test_a_task_is_prepared_once(tmp_path):
    plain = TOY.entries[1].tasks[0]
    assert prepared(plain, tmp_path, 1.0) is plain and not list(tmp_path.iterdir())
    published = next(task for task in TOY.tasks if task.denoiser == PUBLISHED and task.num_steps == 10)
    assert prepared(published, tmp_path, 0.0001).dataset_name == "swiss_roll_published"
    network = tmp_path / "published_10.safetensors"
    written = network.stat().st_mtime_ns
    prepared(published, tmp_path, 0.0001)
    assert network.stat().st_mtime_ns == written


def test_the_curve_keeps_everything_that_was_measured():
    point = Measurement(1, 0.5, 0.1, 2.0, 3.0)
    assert ToyProtocol().curve([point]) == [point._asdict()]
