"""What a saved agent holds, and the errors of files that are something else."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.policy_gradient import SFTPG
from agents.core.persistence import DIGEST_VALUES, agent_header, agent_state, data_digest, versions
from diffusion_env.checkpoints import CheckpointError, Header, load_checkpoint, save_object
from diffusion_env.critics import make_critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.pixels import MappedImages

MakeAgent = Callable[..., SFTPG]
Keywords = dict[str, object]
CONFIG = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1)


@pytest.fixture
def agent(small_kwargs: Keywords) -> SFTPG:
    return SFTPG(config=CONFIG, num_envs=8, env_kwargs=small_kwargs, seed=3).learn(64)


def test_a_round_trip_keeps_samples_actions_and_settings(agent: SFTPG, tmp_path: Path) -> None:
    path = agent.save(tmp_path / "deep" / "agent")
    assert path == tmp_path / "deep" / "agent.safetensors"
    loaded = SFTPG.load(tmp_path / "deep" / "agent", trust_paths=True)
    assert (loaded.config, loaded.seed, loaded.num_envs) == (agent.config, 3, 8)
    assert (loaded.num_timesteps, loaded.iteration) == (agent.num_timesteps, agent.iteration) == (64, 2)
    assert loaded.env_kwargs == agent.env_kwargs
    assert torch.equal(loaded.sample(20, seed=5), agent.sample(20, seed=5))
    fresh = SFTPG(config=CONFIG, num_envs=8, env_kwargs=agent.env_kwargs, seed=3)
    assert not torch.equal(fresh.sample(20, seed=5), agent.sample(20, seed=5))  # negative control: untrained
    x = torch.randn(20, 2)
    assert torch.equal(loaded.envs.critic(x), agent.critic(x))


def test_the_header_says_what_the_agent_is(agent: SFTPG, tmp_path: Path) -> None:
    _, metadata = load_checkpoint(agent.save(tmp_path / "agent"))
    assert (metadata["kind"], metadata["name"]) == ("agent", "sft_pg")
    assert metadata["config"] == asdict(CONFIG)
    assert metadata["env_kwargs"] == agent.env_kwargs and metadata["env_objects"] == []
    assert metadata["versions"] == versions() and {"python", "torch", "gymnasium"} <= versions().keys()


def test_no_pickle_is_written(agent: SFTPG, tmp_path: Path) -> None:
    content = agent.save(tmp_path / "agent").read_bytes()
    assert json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])  # a safetensors header
    assert b"torch.storage" not in content and b"__reduce__" not in content


def test_saving_does_not_change_the_run(small_kwargs: Keywords, tmp_path: Path) -> None:
    saved, silent = (SFTPG(config=CONFIG, num_envs=8, env_kwargs=small_kwargs, seed=0).learn(64) for _ in range(2))
    saved.save(tmp_path / "agent")
    for agent in (saved, silent):
        agent.learn(64, reset_num_timesteps=False)
    assert torch.equal(saved.sample(9, seed=0), silent.sample(9, seed=0))


@pytest.mark.parametrize("name", ["dataset", "critic"])
def test_objects_must_be_given_again(make_agent: MakeAgent, tmp_path: Path, name: str) -> None:
    agent = make_agent().learn(1)
    path = agent.save(tmp_path / "agent")
    objects = {key: agent.env_kwargs[key] for key in ("dataset", "denoiser", "critic")}
    given = {key: value for key, value in objects.items() if key != name}
    with pytest.raises(CheckpointError, match=rf"could not be saved: \['{name}'\]. Pass them again"):
        SFTPG.load(path, env_kwargs=given)
    expected = agent.sample(20, seed=5)
    assert torch.equal(SFTPG.load(path, env_kwargs=objects).sample(20, seed=5), expected)


def test_a_path_keyword_is_saved_as_text(small_kwargs: Keywords, tmp_path: Path) -> None:
    keywords = {**small_kwargs, "dataset": Path(str(small_kwargs["dataset"]))}
    path = SFTPG(config=CONFIG, num_envs=8, env_kwargs=keywords, seed=0).save(tmp_path / "agent")
    assert SFTPG.load(path, trust_paths=True).env_kwargs == small_kwargs


def test_keywords_can_be_replaced(agent: SFTPG, small_kwargs: Keywords, tmp_path: Path) -> None:
    path = agent.save(tmp_path / "agent")
    copy = tmp_path / "copy.npz"
    copy.write_bytes(Path(str(small_kwargs["dataset"])).read_bytes())
    assert SFTPG.load(path, env_kwargs={"dataset": str(copy)}, trust_paths=True).envs.dataset.name == "copy"


def missing(path: Path, agent: SFTPG) -> None:
    pass


def truncated(path: Path, agent: SFTPG) -> None:
    content = agent.save(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def damaged(path: Path, agent: SFTPG) -> None:
    content = bytearray(agent.save(path).read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def not_a_checkpoint(path: Path, agent: SFTPG) -> None:
    path.write_text("hello")


def a_critic(path: Path, agent: SFTPG) -> None:
    make_critic("energy", (2,)).save(path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "There is no checkpoint"),
        (truncated, "truncated, damaged, or not a"),
        (damaged, "does not match the checksum"),
        (not_a_checkpoint, "truncated, damaged, or not a"),
        (a_critic, "holds 'critic', but a 'agent' was to be"),
    ],
)
def test_other_files_are_refused(
    agent: SFTPG, tmp_path: Path, make: Callable[[Path, SFTPG], None], message: str
) -> None:
    make(tmp_path / "file.safetensors", agent)
    with pytest.raises(CheckpointError, match=message):
        SFTPG.load(tmp_path / "file.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, state: header.extra.clear(), r"was not written by .*\['env_id', .* are missing"),
        (lambda header, state: header.config.update(n_critic=0), "n_critic must be an integer >= 1; received 0"),
        (lambda header, state: header.config.update(trick=1), r"does not hold the fields .*\['trick'\] are not among"),
        (lambda header, state: state.pop("counters"), "does not fit this agent"),
        (lambda header, state: state.update(generators=[1, 2]), "does not fit this agent"),
        (lambda header, state: state["algorithm"].pop("value"), "does not fit this agent"),
        (lambda header, state: state["algorithm"].update(value_optimizer={}), "The value_optimizer in .* does not fit"),
        (lambda header, state: state["algorithm"].update(policy=[1]), "The policy in .* does not fit"),
    ],
)
def test_a_changed_file_is_refused_in_words(
    agent: SFTPG, tmp_path: Path, change: Callable[[Header, Any], object], message: str
) -> None:
    header, state = agent_header(agent), agent_state(agent)
    change(header, state)
    path = save_object(tmp_path / "changed", header, state)
    with pytest.raises(CheckpointError, match=message):
        SFTPG.load(path, trust_paths=True)


def test_another_class_is_refused(agent: SFTPG, tmp_path: Path) -> None:
    class Other(SFTPG):
        name = "other"

    with pytest.raises(CheckpointError, match="holds 'sft_pg', but a 'other' was to be loaded"):
        Other.load(agent.save(tmp_path / "agent"))


@pytest.mark.parametrize("change", [{"num_steps": 3}, {"critic": "mmd"}])
def test_another_task_is_refused(agent: SFTPG, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"(?s)does not fit this agent .* load it with the env_kwargs"):
        SFTPG.load(agent.save(tmp_path / "agent"), env_kwargs=change, trust_paths=True)


def test_a_folder_that_cannot_be_written_leaves_the_agent_alone(agent: SFTPG, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not be written"):
        agent.save(tmp_path / "file" / "agent")
    assert agent.sample(3).shape == (3, 2)


@dataclass(frozen=True, eq=False)
class CountedImages(MappedImages):
    """Remembers what was read."""

    seen: list[int] = field(default_factory=list)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        self.seen.extend(rows.tolist())
        return super().read(rows)


def test_the_digest_of_large_images_reads_a_few_of_them(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 128, 256), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    stored = CountedImages(tmp_path / "images.npy", np.arange(60))
    found = data_digest(Dataset.of_images("mine", stored, stored))
    assert 0 < len(stored.seen) * images[0].size <= DIGEST_VALUES
    same = torch.from_numpy(images.copy())
    assert data_digest(Dataset.of_images("mine", same, same)) == found
    images[stored.seen[-1], 0, 0, 0] ^= 1
    other = torch.from_numpy(images)
    assert data_digest(Dataset.of_images("mine", other, other)) != found
