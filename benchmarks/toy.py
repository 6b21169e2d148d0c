"""The paper's toy table, measured: ``python -m benchmarks.toy`` (protocol in benchmarks/README.md).

One process per run, two at a time; a run that is already in the results folder is not repeated, so an interrupted
table continues where it stopped and one failed run does not lose the others.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from agents.algorithms.policy_gradient import SFTPG
from agents.runs.callbacks import SamplerEvaluation
from benchmarks.comparison.manifest import manifest
from benchmarks.comparison.pool import Job, run_all
from benchmarks.comparison.suite import NUM_ENVS, TOY, Row, find
from benchmarks.comparison.toy_report import write_readme, write_report
from diffusion_env.checkpoints import write_json
from diffusion_env.config import EvaluationConfig, PretrainConfig
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.loading import load_denoiser
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.denoisers.pretraining import pretrain
from diffusion_env.evaluation.protocol import evaluate, floor
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.walk import sample

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "toy"
EVALUATION_SEED = 20_000
"""Evaluation sets of this table; nothing was tuned on them (curves are measured on seed 10,000)."""


@dataclass(frozen=True)
class ToyConfig:
    """Which rows are run, how often, and where the results go."""

    rows: tuple[str, ...] = ()
    """Names of rows (see benchmarks/suite.py); empty runs all."""
    num_seeds: int = 5
    """Seeds 0 ... n-1. A seed fixes the training of a row and the points it is evaluated on."""
    evaluations: int = 3
    """Evaluation sets per seed; no other seed and no training uses them. The held-out critic sees the first."""
    scale: float = 1.0
    """Share of every training and pretraining budget, below 1 for a trial run."""
    num_samples: int = 10_000
    """Points of the published metric."""
    large_samples: int = 100_000
    """Points of the metric that still tells methods apart when the first has reached its floor."""
    processes: int = 2
    """Runs at a time, each on one torch thread."""
    results: Path = RESULTS
    """Folder of the raw JSON files; RESULTS.md is written beside it. Elsewhere than here, the README is left alone."""
    report_only: bool = False
    """Only rebuild RESULTS.md from the JSON files."""


def protocol(row: Row, seed: int, config: ToyConfig) -> dict[str, EvaluationConfig]:
    """What is measured for one seed: on its own evaluation sets, the same ones for every row."""
    seeds = tuple(EVALUATION_SEED + 100 * seed + i for i in range(config.evaluations))
    small = EvaluationConfig(num_samples=config.num_samples, seeds=seeds)
    measured = {"metrics": small, "held_out": replace(small, seeds=seeds[:1], held_out_critic=True)}
    return {**measured, "large_metrics": replace(small, num_samples=config.large_samples)} if row.large else measured


def published_units(dataset: Dataset) -> Dataset:
    """The same points with network units = data units, as the paper's toy code feeds them."""
    return replace(
        dataset,
        name=f"{dataset.name}_published",
        train=dataset.to_data(dataset.train),
        held_out=dataset.to_data(dataset.held_out),
        center=torch.zeros_like(dataset.center),
        scale=1.0,
    )


def published_denoiser(dataset: Dataset, num_levels: int, config: ToyConfig) -> EpsMLP:
    """A network on the published schedule with T = ``num_levels``, pretrained once and kept with the results."""
    path = config.results / f"published_{num_levels}.safetensors"
    if not path.exists():
        torch.set_num_threads(1)
        default = PretrainConfig(schedule="published_toy", num_levels=num_levels)
        pretrain(dataset, replace(default, num_updates=max(1, int(config.scale * default.num_updates)))).save(path)
    return EpsMLP.load(path)


def pretrain_published(num_levels: int, config: ToyConfig) -> str:
    """Make sure that the published network with T = ``num_levels`` is there."""
    published_denoiser(published_units(load_dataset("swiss_roll")), num_levels, config)
    return f"network on the published schedule, T = {num_levels}"


def run(row: Row, seed: int, config: ToyConfig) -> dict[str, Any]:
    """Train (if the row trains) and evaluate one row with one seed."""
    torch.set_num_threads(1)
    dataset = load_dataset("swiss_roll")
    if row.prior == "published":
        dataset = published_units(dataset)
    result: dict[str, Any] = {"row": asdict(row), "seed": seed, "scale": config.scale, **manifest()}
    if row.num_steps == 0:
        return {**result, **{key: floor(dataset, c) for key, c in protocol(row, seed, config).items()}}
    network = (
        load_denoiser(None, "swiss_roll", dataset.shape)
        if row.prior == "calibrated"
        else published_denoiser(dataset, row.num_steps, config)
    )
    if row.config is None:
        table = make_table(row.sampler, network.schedule, row.num_steps)

        def draw(n: int, generator: torch.Generator) -> torch.Tensor:
            return dataset.to_data(sample(table, network, n, generator))

        return {**result, **{key: evaluate(draw, dataset, c) for key, c in protocol(row, seed, config).items()}}
    agent, training = train(row, seed, config, dataset, network)
    return {**result, **training, **{key: agent.evaluate(c) for key, c in protocol(row, seed, config).items()}}


def train(row: Row, seed: int, config: ToyConfig, dataset: Dataset, network: Denoiser) -> tuple[SFTPG, dict[str, Any]]:
    """SFT-PG with the row's budget; returns the agent and its costs, evaluation excluded, and learning curve."""
    env_kwargs = {
        "dataset": dataset,
        "num_steps": row.num_steps,
        "sampler": row.sampler,
        "denoiser": network,
        "critic": row.critic,
    }
    agent = SFTPG(config=row.config, num_envs=NUM_ENVS, env_kwargs=env_kwargs, seed=seed)
    watch = SamplerEvaluation(every_iterations=50)
    agent.learn(max(1, int(config.scale * row.total_timesteps)), callback=watch)
    curve = [point._asdict() for point in watch.history]
    costs = {"train_seconds": watch.clock.seconds, "train_cpu_seconds": watch.clock.cpu_seconds}
    return agent, {**costs, "timesteps": agent.num_timesteps, "curve": curve}


def run_and_save(row: Row, seed: int, config: ToyConfig) -> str:
    """One run in its own process; the JSON is written when it is complete."""
    started = time.perf_counter()
    result = run(row, seed, config)
    write_json(result_path(config, row, seed), result)
    sw2, seconds = 100 * result["metrics"]["sw2_mean"], time.perf_counter() - started
    return f"{row.name} seed {seed}: SW2 {sw2:.2f}e-2, {seconds:.0f} s"


def result_path(config: ToyConfig, row: Row, seed: int) -> Path:
    """Where the run's JSON is."""
    return config.results / f"{row.name}_seed{seed}.json"


def main(config: ToyConfig) -> int:
    """Run what is missing, write the report; returns the number of failed runs."""
    config.results.mkdir(parents=True, exist_ok=True)
    failed = 0 if config.report_only else run_missing(find(TOY, list(config.rows)), config)
    print(write_report(config.results, TOY))
    if config.results == RESULTS:
        write_readme(HERE.parent / "README.md", RESULTS, TOY)
    return failed


def run_missing(rows: Sequence[Row], config: ToyConfig) -> int:
    """All runs without a result, first the networks they share; returns how many failed."""
    runs = [(row, seed) for row in rows for seed in range(config.num_seeds)]
    runs = [run for run in runs if not result_path(config, *run).exists()]
    levels = sorted({row.num_steps for row, _ in runs if row.prior == "published"})
    failed = run_all([Job(pretrain_published, (level, config)) for level in levels], config.processes)
    return failed + run_all([Job(run_and_save, (row, seed, config)) for row, seed in runs], config.processes)


if __name__ == "__main__":
    sys.exit(min(1, main(tyro.cli(ToyConfig))))
