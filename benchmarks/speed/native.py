"""Speed: ``python -m benchmarks.speed``. Run it on an idle machine; every figure is for one torch thread.

(a) steps per second of the vector environment, with the network inside the process, against the bare network walking
the same table; (b) trajectories per CPU second of SFT-PG; (c) CPU seconds until its sampler first reaches two values of
SW2, evaluation excluded; (d) with ``--official``, the same of the official toy loop, one thread of the same machine;
(e) for every agent of ours, one iteration against its matrix products alone, and what its time goes to. ``--parts``
measures some of them again and keeps the others, each with the manifest of its own run.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import torch
import tyro

from agents.algorithms.policy_gradient import SFTPG
from agents.runs.callbacks import Measurement, SamplerEvaluation
from benchmarks.comparison.manifest import manifest
from benchmarks.comparison.toy_grid import NUM_ENVS, SHORT_STEPS
from benchmarks.speed.iteration import OWN, lines, time_iterations
from benchmarks.speed.official import time_official
from diffusion_env import ENV_ID
from diffusion_env.checkpoints import write_json
from diffusion_env.denoisers.loading import load_denoiser
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.walk import sample

THRESHOLDS = (1.78e-2, 1.04e-2)
"""SW2 of the paper's 1000-step DDPM, and of the official code after 120 epochs."""
OFFICIAL_CPU_SECONDS = (235.0, 354.0)
"""What the official code took to reach them where it was measured; --official measures it here."""


Part = Literal["walk", "training", "official", "iteration"]

OFFICIAL_NOTE = """The official CPU seconds hold its own plots and its measurement every ten epochs; ours hold no
evaluation. The two do not start alike: ours from a network whose prior is calibrated, theirs from the published
schedule, where ten steps begin with SW2 of 8e-2. The rate compares code; the seconds compare all that was changed."""


@dataclass(frozen=True)
class SpeedConfig:
    """What is timed."""

    parts: tuple[Part, ...] = ("walk", "training", "official", "iteration")
    """walk: (a). training: (b) and (c). official: (d), left out where --official is not given. iteration: (e)."""
    num_envs: tuple[int, ...] = (1, 16, 128, 1024, 4096, 16384)
    """Sizes of the vector environment in (a)."""
    repeats: int = 7
    """Timings of each figure in (a) and (e), what is compared in turn; the median is reported."""
    seconds: float = 0.5
    """Least length of one timing in (a)."""
    agents: tuple[str, ...] = OWN
    """Agents of (e)."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Training seeds of (b) and (c)."""
    total_timesteps: int = SHORT_STEPS
    """Environment steps of each training run."""
    every_iterations: int = 10
    """Iterations between two measurements of SW2 in (c); a threshold counts as reached at the first that meets it."""
    device: str = "cpu"
    """Torch device of (a)."""
    official: Path | None = None
    """A checkout of the official repository, for (d)."""
    official_epochs: int = 150
    """Epochs of the official loop; elsewhere it took 80 and 120 to reach the two values of SW2."""
    output: Path = Path(__file__).parent.parent / "results" / "speed.json"
    """Where the figures go."""


def walk_rate(num_envs: int, config: SpeedConfig) -> dict[str, float]:
    """(a) for one size: environment steps per second, three ways, timed in turn so that drift hits all alike.

    bare: the network walks the table. residual: the environment does, its actions drawn as the bare loop draws its
    noise. step: the environment alone, without a network, on ready-made actions.
    """
    network = load_denoiser(None, "swiss_roll", (2,))
    if isinstance(network, torch.nn.Module):
        network.to(config.device)
    table = make_table("ddpm", network.schedule, 10).to(config.device)
    draws = torch.Generator(config.device).manual_seed(0)
    ways = {
        "bare": lambda: sample(table, network, num_envs, draws),
        "residual": _episode("residual", num_envs, config.device, draws),
        "step": _episode("step", num_envs, config.device, None),
    }
    steps = {name: _count(way, config.seconds) for name, way in ways.items()}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(config.repeats):
        for name, way in ways.items():
            rates[name].append(steps[name] * 10 * num_envs / _time(way, steps[name], config.device))
    ratio = statistics.median(r / b for r, b in zip(rates["residual"], rates["bare"], strict=True))
    return {"num_envs": num_envs, **{k: statistics.median(v) for k, v in rates.items()}, "residual_over_bare": ratio}


def _episode(action_mode: str, num_envs: int, device: str, draws: torch.Generator | None) -> Callable[[], Any]:
    envs = gym.make_vec(
        ENV_ID, num_envs, array_type="torch", device=device, action_mode=action_mode, train_critic=False
    )
    envs.reset(seed=0)
    ready = torch.zeros(num_envs, 2, device=device)

    def episode() -> None:
        for _ in range(10):
            action = ready if draws is None else torch.randn(ready.shape, generator=draws, device=device)
            envs.step(action)

    return episode


def _count(way: Callable[[], Any], seconds: float) -> int:
    """How many calls last about ``seconds``, found after a warm-up call."""
    way()
    return max(1, round(seconds / max(1e-6, _time(way, 1, "cpu"))))


def _time(way: Callable[[], Any], calls: int, device: str) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        way()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


def training_speed(seed: int, config: SpeedConfig) -> dict[str, Any]:
    """(b) and (c) for one seed: the toy table's short run."""
    agent = SFTPG(num_envs=NUM_ENVS, seed=seed)
    watch = SamplerEvaluation(config.every_iterations * agent.iteration_timesteps)
    agent.learn(config.total_timesteps, callback=watch)
    trajectories = agent.num_timesteps / agent.envs.table.num_steps
    return {
        "seed": seed,
        "trajectories_per_cpu_second": trajectories / watch.clock.cpu_seconds,
        "cpu_seconds": watch.clock.cpu_seconds,
        "cpu_seconds_to": {str(t): first_reached(watch.history, t) for t in THRESHOLDS},
        "final_sw2": watch.history[-1].sw2,
        "peak_resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def first_reached(history: list[Measurement], threshold: float) -> float | None:
    """Training CPU seconds at the first measurement with SW2 <= ``threshold``; None if there is none."""
    return next((point.train_cpu_seconds for point in history if point.sw2 <= threshold), None)


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    official = result.get("official", {}).get("trajectories_per_cpu_second")
    own = lines(result["iteration"], official) if "iteration" in result else []
    return "\n".join([*_walk_lines(result), *_training_lines(result), *_official_lines(result), *own])


def _walk_lines(result: dict[str, Any]) -> list[str]:
    if "walk" not in result:
        return []
    lines = ["| num_envs | env steps/s (residual) | bare network | ratio | env alone (step) |", "|---|---|---|---|---|"]
    for r in result["walk"]:
        rates = [f"{r[key]:,.0f}" for key in ("residual", "bare")]
        lines.append(
            f"| {r['num_envs']} | {rates[0]} | {rates[1]} | {r['residual_over_bare']:.3f} | {r['step']:,.0f} |"
        )
    return lines


def _training_lines(result: dict[str, Any]) -> list[str]:
    runs = result.get("training", [])
    if not runs:
        return []
    lines = ["", f"SFT-PG, {len(runs)} seeds, median (all):"]
    lines.append(_spread("trajectories per CPU second", [r["trajectories_per_cpu_second"] for r in runs]))
    for threshold, official in zip(THRESHOLDS, OFFICIAL_CPU_SECONDS, strict=True):
        seconds = [r["cpu_seconds_to"][str(threshold)] for r in runs]
        lines.append(_spread(f"CPU seconds to SW2 <= {threshold} (official, elsewhere: {official:.0f})", seconds))
    lines.append(_spread("peak resident MiB", [r["peak_resident_mib"] for r in runs]))
    return lines


def write_report(path: Path) -> str:
    """Write the tables of the JSON at ``path`` beside it, as .md, and return them."""
    result = json.loads(path.read_text())
    measured = [f"- {part}: {_measured_on(manifest)}" for part, manifest in result["manifests"].items()]
    text = "\n".join(["# Speed", "", f"From {path.name}, one torch thread. Measured on:", "", *measured, ""])
    text += f"\n{table(result)}\n"
    path.with_suffix(".md").write_text(text)
    return text


def _measured_on(manifest: dict[str, Any]) -> str:
    machine = manifest["machine"]
    load = f", load average {manifest['load_average']:.1f} at the start" if "load_average" in manifest else ""
    where = f"{machine['processor']}, {machine['cores']} cores{load}"
    return f"{where}, device {manifest['device']}, commit {manifest['commit']}"


def _official_lines(result: dict[str, Any]) -> list[str]:
    if "official" not in result:
        return []
    official, runs = result["official"], result.get("training", [])
    epochs = official["curve"][-1]["epoch"]
    lines = ["", f"Official toy loop, one unseeded run of {epochs} epochs (median of ours / official):"]
    ours = [r["trajectories_per_cpu_second"] for r in runs]
    lines.append(_ratio("trajectories per CPU second", official["trajectories_per_cpu_second"], ours))
    for threshold in THRESHOLDS:
        theirs = next((p["cpu_seconds"] for p in official["curve"] if p["sw2"] <= threshold), None)
        lines.append(
            _ratio(f"CPU seconds to SW2 <= {threshold}", theirs, [r["cpu_seconds_to"][str(threshold)] for r in runs])
        )
    return [*lines, "", OFFICIAL_NOTE]


def _ratio(label: str, official: float | None, ours: list[float | None]) -> str:
    if official is None:
        return f"- {label}: not reached by the official loop"
    reached = [value for value in ours if value is not None]
    if not reached or len(reached) < len(ours):
        return f"- {label}: official {official:,.1f}"
    return f"- {label}: official {official:,.1f}, ours / official {statistics.median(reached) / official:.3f}"


def _spread(label: str, values: list[float | None]) -> str:
    reached = [v for v in values if v is not None]
    middle = f"{statistics.median(reached):,.1f}" if len(reached) == len(values) else "not reached by all"
    return f"- {label}: {middle} ({', '.join('-' if v is None else f'{v:,.1f}' for v in values)})"


def main(config: SpeedConfig) -> None:
    """Time the parts asked for, put them into the JSON, and write the tables beside it as Markdown."""
    torch.set_num_threads(1)
    result = json.loads(config.output.read_text()) if config.output.exists() else {"manifests": {}}
    here = {**manifest(), "device": config.device, "load_average": os.getloadavg()[0]}
    for part in config.parts:
        if part == "official" and config.official is None:
            continue
        result[part] = measure(part, config)
        result["manifests"][part] = here
        write_json(config.output, result)
    print(write_report(config.output))


def measure(part: Part, config: SpeedConfig) -> Any:
    """The figures of one part."""
    if part == "walk":
        return [walk_rate(n, config) for n in config.num_envs]
    if part == "training":
        return [training_speed(seed, config) for seed in config.seeds]
    if part == "iteration":
        return time_iterations(config.agents, NUM_ENVS, config.repeats)
    assert config.official is not None
    return time_official(config.official, config.official_epochs)


if __name__ == "__main__":
    main(tyro.cli(SpeedConfig))
