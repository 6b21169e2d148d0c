"""The evaluation protocol: its floor, its independence of training, its bounds and its refusals."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_env import evaluation
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.evaluation.protocol import (
    DIRECTIONS,
    METRICS,
    EvaluationConfig,
    MetricInput,
    draw_fresh,
    evaluate,
    floor,
    mean_interval,
)

SMALL = EvaluationConfig(2_000, w1_samples=200, support_points=5_000, seeds=(0, 1, 2), refit_critic=None)
README = Path(evaluation.__file__).with_name("README.md")


@pytest.fixture(scope="module")
def roll() -> Dataset:
    return load_dataset("swiss_roll", seed=11)


@pytest.fixture
def no_classifiers(monkeypatch):
    """Leaves out the metrics that train a classifier, the dearest of all, where a test looks at distances."""
    for name in ("auc_boosting", "auc_neighbours"):
        monkeypatch.delitem(METRICS, name)


def perfect(dataset: Dataset, shift: float = 0.0):
    return lambda n, generator: dataset.to_data(dataset.sample(n, generator)) + shift


@pytest.mark.usefixtures("no_classifiers")
def test_the_floor_of_the_swiss_roll_is_the_published_one(roll):
    row = floor(roll, replace(SMALL, num_samples=10_000, support_points=20_000, seeds=tuple(range(6))))
    assert row["sw2_mean"] == pytest.approx(0.69e-2, abs=0.25e-2)
    assert row["off_support"] < 0.0005 and row["off_support_radius"] == 0.03


@pytest.mark.usefixtures("no_classifiers")
def test_the_floor_of_exact_w1_is_the_published_one(roll):
    row = floor(roll, replace(SMALL, num_samples=2_500, w1_samples=2_500, seeds=(0, 1)))
    assert row["w1_mean"] == pytest.approx(1.91e-2, abs=0.8e-2)


@pytest.mark.usefixtures("no_classifiers")
def test_a_perfect_sampler_reaches_the_floor_and_a_shifted_one_does_not(roll):
    bottom = floor(roll, SMALL)
    good, bad = evaluate(perfect(roll), roll, SMALL), evaluate(perfect(roll, shift=0.1), roll, SMALL)
    assert good["sw2_mean"] < 2 * bottom["sw2_mean"] and good["off_support"] < 0.002
    assert bad["sw2_mean"] == pytest.approx(0.1, abs=0.015)  # |shift| = 0.1 sqrt(2), over sqrt(2) on average
    assert bad["w1_mean"] > 1.5 * bottom["w1_mean"] and bad["off_support"] > 0.3
    assert bad["mmd"] > 2 * bottom["mmd"]


def test_row_holds_means_intervals_and_seeds(roll):
    row = evaluate(perfect(roll), roll, SMALL)
    for name in ("sw2", "w1"):
        seeds = row["per_seed"][name]
        assert len(seeds) == 3 and row[f"{name}_mean"] == pytest.approx(np.mean(seeds))
        assert row[f"{name}_low"] < row[f"{name}_mean"] < row[f"{name}_high"]
    assert row["num_samples"] == 2_000
    assert row["mode_coverage"] is None and row["refitted_ipm"] is None
    assert json.loads(json.dumps(row)) == row


def test_the_example_of_the_page_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(example, str(README), "exec"), {})
    assert capsys.readouterr().out == "True\n"


def test_a_new_metric_is_a_line_in_the_table(roll, monkeypatch):
    monkeypatch.setitem(METRICS, "largest", lambda given: float(given.samples.abs().max()))
    monkeypatch.setitem(METRICS, "never", lambda given: None)
    row = evaluate(lambda n, generator: torch.full((n, 2), 3.0), roll, SMALL)
    assert row["largest"] == 3.0 and row["per_seed"]["largest"] == [3.0] * 3
    assert row["never"] is None and row["per_seed"]["never"] == [None] * 3
    assert {"sw2_mean", "recall"} <= set(row)


def test_a_metric_sees_one_seed(roll):
    points = draw_fresh(roll, SMALL, seed=3)
    given = MetricInput(points.spare, points, roll, SMALL, seed=3)
    samples, reference = given.first(10)
    assert samples.equal(points.spare[:10]) and reference.equal(points.reference[:10])
    assert given.radius == 0.03
    draws = [torch.rand(3, generator=given.generator(DIRECTIONS)) for _ in range(2)]
    assert draws[0].equal(draws[1])  # each metric starts the stream anew
    other = replace(given, seed=4).generator(DIRECTIONS)
    assert not draws[0].equal(torch.rand(3, generator=other))


def test_interval_is_students():
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.0 - 2.4841, 2.0 + 2.4841), abs=1e-3)
    assert mean_interval([5.0]) == (5.0, None, None)


def test_seeds_fix_the_row(roll):
    one = replace(SMALL, seeds=(0,))
    assert evaluate(perfect(roll), roll, one) == evaluate(perfect(roll), roll, one)
    assert evaluate(perfect(roll), roll, one) != evaluate(perfect(roll), roll, replace(one, seeds=(1,)))


def test_the_fresh_sets_of_a_seed_are_disjoint(roll):
    points = draw_fresh(roll, SMALL, seed=11)
    parts = [points.reference, points.spare, points.support]
    assert [len(part) for part in parts] == [2_000, 2_000, 5_000]
    assert len(torch.cat(parts).unique(dim=0)) == 9_000
    assert len(torch.cat([*parts, points.spare]).unique(dim=0)) == 9_000


@pytest.mark.usefixtures("no_classifiers")
def test_samples_are_asked_for_in_batches(roll):
    asked = []

    def sample(n: int, generator: torch.Generator) -> torch.Tensor:
        asked.append((n, torch.is_grad_enabled(), generator.initial_seed()))
        return roll.to_data(roll.sample(n, generator))

    evaluate(sample, roll, replace(SMALL, sample_batch=900, seeds=(0, 7)))
    assert [n for n, _, _ in asked] == [900, 900, 200] * 2
    assert not any(grad for _, grad, _ in asked)
    assert len({seed for _, _, seed in asked}) == 2


@pytest.mark.usefixtures("no_classifiers")
def test_more_samples_lower_the_floor(roll):
    config = replace(SMALL, seeds=(0,), num_projections=30)
    many = floor(roll, replace(config, num_samples=100_000))
    assert many["num_samples"] == 100_000
    assert many["sw2_mean"] < 0.4e-2 < 0.8 * floor(roll, replace(config, num_samples=2_000))["sw2_mean"]


@pytest.mark.usefixtures("no_classifiers")
def test_modes_are_counted_where_they_exist():
    data = load_dataset("gaussians8")
    assert data.modes is not None
    left = data.modes[data.modes[:, 0] < -0.1]

    def half(n: int, generator: torch.Generator) -> torch.Tensor:
        return left[torch.randint(len(left), (n,), generator=generator)]

    assert floor(data, SMALL)["mode_coverage"] == 1.0
    assert evaluate(half, data, SMALL)["mode_coverage"] == 3 / 8


@pytest.mark.usefixtures("no_classifiers")
def test_recall_sees_the_modes_that_a_sampler_leaves_out():
    data = load_dataset("gaussians8")

    def half(n: int, generator: torch.Generator) -> torch.Tensor:
        points = data.to_data(data.sample(8 * n, generator))
        return points[points[:, 0] < -0.1][:n]

    assert floor(data, SMALL)["recall"] > 0.9
    assert evaluate(half, data, SMALL)["recall"] == pytest.approx(3 / 8, abs=0.15)  # balls of outliers reach across


@pytest.mark.usefixtures("no_classifiers")
def test_support_radius_follows_the_data_where_none_is_published():
    data = load_dataset("checkerboard")
    row = floor(data, SMALL)
    assert row["off_support"] == pytest.approx(0.001, abs=0.0015)
    shifted = evaluate(lambda n, generator: data.to_data(data.sample(n, generator)) + 0.5, data, SMALL)
    assert shifted["off_support"] > 0.3
    assert floor(data, replace(SMALL, support_radius=1e-6))["off_support"] == 1.0


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_are_evaluated_on_a_third_of_what_is_held_out(tmp_path, dtype):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", x=rng.integers(0, 256, (300, 1, 8, 8)).astype(dtype))
    data = load_dataset(tmp_path / "images.npz")
    row = evaluate(perfect(data), data, SMALL)
    assert row["num_samples"] == 20 and row["w1_mean"] > 0
    assert evaluate(perfect(data, shift=200.0), data, SMALL)["sw2_mean"] > 5 * row["sw2_mean"]


def test_too_few_held_out_points_are_refused(tmp_path):
    np.savez(tmp_path / "few.npz", x=np.random.default_rng(0).normal(size=(20, 2)))
    with pytest.raises(ValueError, match=r"'few' has 4 held-out points.*at least 30"):
        floor(load_dataset(tmp_path / "few.npz"), SMALL)


@pytest.mark.parametrize("shape", [(2_000, 3), (1_999, 2), (2_000, 2, 1)])
def test_samples_of_a_wrong_shape_are_refused(roll, shape):
    with pytest.raises(ValueError, match=r"needs \(2000, 2\)"):
        evaluate(lambda n, generator: torch.zeros(shape), roll, SMALL)


def test_samples_that_are_not_finite_are_refused(roll):
    def diverged(n: int, generator: torch.Generator) -> torch.Tensor:
        samples = torch.zeros(n, 2)
        samples[:3, 0], samples[3, 1] = torch.nan, torch.inf
        return samples

    with pytest.raises(ValueError, match=r"4 of 2000 samples are NaN or infinite.*diverged"):
        evaluate(diverged, roll, SMALL)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seeds": ()}, ValueError, "at least one seed"),
        ({"seeds": [-1]}, ValueError, "seeds must be a tuple, each entry an integer in .*received .-1."),
        ({"num_samples": 1}, ValueError, "num_samples must be an integer in .2, .* received 1"),
        ({"w1_samples": 0}, ValueError, "w1_samples must be an integer >= 2; received 0"),
        ({"sample_batch": "0"}, TypeError, "sample_batch must be an integer >= 2; received '0'"),
        ({"num_projections": torch.tensor(3)}, TypeError, "num_projections must be an integer >= 1; received tensor"),
        ({"support_radius": float("nan")}, ValueError, "support_radius must be None or a finite number > 0"),
    ],
)
def test_a_wrong_protocol_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        EvaluationConfig(**change)


def test_numbers_of_numpy_are_numbers():
    given: dict[str, Any] = {"seeds": (np.int64(1),), "num_samples": np.int32(5), "support_radius": np.float32(0.5)}
    config = EvaluationConfig(**given)
    assert config == EvaluationConfig(seeds=(1,), num_samples=5, support_radius=0.5)
    assert type(config.seeds[0]) is type(config.num_samples) is int


@pytest.mark.gpu
def test_evaluation_on_cuda_agrees_with_the_cpu(roll):
    moved = roll.to("cuda")
    config = replace(SMALL, refit_critic="energy", refit_steps=50)
    row = evaluate(perfect(moved), moved, config)
    assert row["sw2_mean"] < 2 * floor(roll, SMALL)["sw2_mean"] and row["off_support"] < 0.002
