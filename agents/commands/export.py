"""``ddpm-shortcut export``."""

from __future__ import annotations

from agents.commands.evaluate import loaded
from agents.commands.options import Export
from agents.core.algorithm import Algorithm
from agents.core.ipm_agent import IPMAgent
from agents.runs.untouched import Untouched
from diffusion_env.denoisers.exporting import write_folder
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.tables import StepTable


def run(options: Export, command: str) -> None:
    """Write the sampler of a trained agent as a folder of diffusers."""
    del command  # the folder has diffusers' own files, which have no place for it
    algorithm = loaded(options.checkpoint, "cpu", options.algo, options.trust_paths)
    table, denoiser = deployed(algorithm)
    folder = write_folder(options.output, denoiser, table, algorithm.dataset)
    print(f"Wrote {folder}: U-Net and scheduler for diffusers, and sampler.json, the {table.num_steps} steps")


def deployed(algorithm: Algorithm) -> tuple[StepTable, Denoiser]:
    """The step table, with learned stds, and the network that ``algorithm.sample`` walks.

    Raises ValueError for an algorithm whose sampler is neither.
    """
    if isinstance(algorithm, IPMAgent):
        return algorithm.sampler.sampling_table, algorithm.sampler.net
    if isinstance(algorithm, Untouched):
        return algorithm.table, algorithm.network
    raise ValueError(
        f"The sampler of {algorithm.name!r} is a policy and not a step table with a denoiser, so diffusers cannot walk "
        "it. Export an agent of this package, or the untouched sampler."
    )
