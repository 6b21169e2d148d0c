"""The subcommand export: a trained agent as a folder whose loop draws its samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from agents import SFTPG, Task, find, load_agent, preset
from agents.cli import main
from agents.commands.export import deployed
from diffusion_env.denoisers.loading import read_denoiser
from diffusion_env.samplers.tables import StepTable
from diffusion_env.samplers.walk import sample
from diffusion_env.seeds import stream
from tests.support import small_unet


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SFT-PG with learned stds, on two steps of a small U-Net, one iteration."""
    folder = tmp_path_factory.mktemp("agent")
    env_kwargs = {"dataset": "digits", "denoiser": str(small_unet().save(folder / "net")), "num_steps": 2}
    config = preset("sft_pg", std="learned", std_lr_scale=1000.0, ema_decay=0.0, ema_width=None)
    return SFTPG(config=config, num_envs=4, env_kwargs=env_kwargs, seed=0).learn(1).save(folder / "agent")


def test_the_folder_draws_the_samples_of_the_agent(trained: Path, tmp_path: Path) -> None:
    assert main(f"export --checkpoint {trained} --trust-paths --output {tmp_path}/folder".split()) == 0
    agent = load_agent(trained, trust_paths=True)
    content = json.loads((tmp_path / "folder" / "sampler.json").read_text())
    table, network = StepTable.from_dict(content["table"]), read_denoiser(tmp_path / "folder")
    assert torch.equal(table.std, agent.sampler.sampling_table.std)
    assert not torch.allclose(table.std, agent.envs.table.std, rtol=1e-4)  # the stds are learned
    x = sample(table, network, 4, stream(3, "sampling"))
    found = x * content["data"]["scale"] + torch.tensor(content["data"]["center"])
    torch.testing.assert_close(found, agent.sample(4, 3), rtol=0, atol=1e-4)  # of 16 shades
    untouched = sample(table, small_unet(), 4, stream(3, "sampling"))
    assert not torch.allclose(untouched, x, atol=1e-4)  # the weights are learned


def test_the_untouched_sampler_is_one_too(trained: Path) -> None:
    agent = load_agent(trained, trust_paths=True)
    table, network = deployed(find("untouched").make(agent.task, 0))
    assert torch.equal(table.std, agent.envs.table.std) and network.shape == (1, 8, 8)


def test_policies_of_other_libraries_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sampler of 'a2c' is a policy and not a step table"):
        deployed(find("a2c").make(Task("moons", num_steps=1, num_envs=2), 0))


def test_a_network_of_another_kind_is_one_paragraph(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(f"export --checkpoint {checkpoint} --trust-paths --output {tmp_path}/folder".split()) == 2
    assert "Only networks of kind 'unet' can be written" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
