"""What the comparison measures at the end of a run, the same for every entry of a task.

A training seed has evaluation sets of its own, which all entries share and no training or tuning touches. SW2, off
support, mode coverage and recall are measured on each of them; the dear ones (exact W1, MMD, held-out critic) on the
first. Raw numbers only: scores are made by the report.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.comparison.protocol import Protocol
from benchmarks.comparison.training import Trained
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.loading import load_denoiser
from diffusion_env.evaluation.protocol import Sample, draw_fresh, evaluate, floor
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.walk import sample

ON_EVERY_SET = ("sw2", "off_support", "mode_coverage", "recall")
ON_FIRST_SET = ("w1", "mmd", "held_out_critic")


def measure(draw: Sample, dataset: Dataset, seed: int, protocol: Protocol) -> dict[str, Any]:
    """Every metric of a sampler, a list over the sets of ``seed``; FloatingPointError if a sample is not finite."""
    return _merged([evaluate(_finite(draw), dataset, config) for config in protocol.final(seed)])


def measure_floor(dataset: Dataset, num_steps: int, seed: int, protocol: Protocol) -> dict[str, Any]:
    """The outcome of a perfect sampler: fresh data on the same sets."""
    metrics = _merged([floor(dataset, config) for config in protocol.final(seed)])
    return {"metrics": metrics, "curve_sw2": floor(dataset, protocol.curve_floor())["sw2_mean"]}


def measure_untouched(dataset: Dataset, num_steps: int, seed: int, protocol: Protocol) -> dict[str, Any]:
    """The outcome of the pretrained network, walked in ``num_steps`` steps."""
    network = load_denoiser(None, dataset.name, dataset.shape)
    table = make_table("ddpm", network.schedule, num_steps)

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return dataset.to_data(sample(table, network, n, generator))

    metrics = measure(draw, dataset, seed, protocol)
    return {"metrics": metrics, "curve_sw2": evaluate(draw, dataset, protocol.curve())["sw2_mean"]}


def training_ipm(trained: Trained, seed: int, protocol: Protocol) -> float:
    """The gap f(data) - f(samples) that the run's own critic still sees, in its units, on the first set of ``seed``."""
    config = protocol.final(seed)[0]
    data = draw_fresh(trained.dataset, config, config.seeds[0]).reference
    generator = torch.Generator(trained.dataset.device).manual_seed(config.seeds[0])
    with torch.no_grad():
        samples = trained.sample(len(data), generator)
    return trained.critic.distance(trained.dataset.from_data(data), trained.dataset.from_data(samples))


def _merged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    every = {name: [value for row in rows for value in row["per_seed"][name]] for name in ON_EVERY_SET}
    return {**every, **{name: rows[0]["per_seed"][name] for name in ON_FIRST_SET}}


def _finite(draw: Sample) -> Sample:
    def checked(n: int, generator: torch.Generator) -> Tensor:
        samples = draw(n, generator)
        if not bool(samples.isfinite().all()):
            raise FloatingPointError("Samples of the trained sampler are NaN or infinite.")
        return samples

    return checked
