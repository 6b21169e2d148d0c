"""The subcommand train: what is recorded of a run, and what of it may be followed when it is resumed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agents.commands.options import NoFlags, Train, default_algorithm
from agents.commands.train import recorded_options, resume, run_config
from agents.core.task import Task
from agents.runs.folder import RunFolder, located
from agents.zoo import find
from diffusion_env.data.dataset import Dataset

TRAIN = Train(Task("moons", 3, critic_kwargs={"gamma": 0.5}), seed=4, output=Path("out"))


@pytest.mark.parametrize("algo", ["dxdp", "ppo"])
def test_options_are_recorded_and_read_again(algo: str, tmp_path: Path) -> None:
    options = replace(TRAIN, algo=algo, algorithm=default_algorithm(algo), set=("learning_rate=0.5",))
    folder = RunFolder.create(tmp_path, run_config(options, "the command"))
    assert folder.config["command"] == "the command"
    assert recorded_options(folder) == options


def test_a_task_of_objects_cannot_be_recorded(gaussian: Dataset) -> None:
    with pytest.raises(ValueError, match="dataset can only be written to JSON"):
        run_config(replace(TRAIN, task=Task(gaussian, 3)), "")


def test_an_algorithm_of_a_user_is_read_as_a_name(tmp_path: Path) -> None:
    config = run_config(replace(TRAIN, algo="trap:Trap"), "")
    assert recorded_options(RunFolder.create(tmp_path, config)).algo == "trap:Trap"


@pytest.mark.parametrize("missing", ["task", "algo", "set", "algorithm"])
def test_other_files_are_refused(missing: str, tmp_path: Path) -> None:
    config = json.loads(json.dumps(run_config(TRAIN, "")))
    del config["options"][missing]
    with pytest.raises(ValueError, match=r"does not hold the options of `ddpm-shortcut train`"):
        recorded_options(RunFolder.create(tmp_path, config))


def test_only_the_algorithm_may_be_given_beside_resume(tmp_path: Path) -> None:
    for wrong in (replace(TRAIN, resume=tmp_path), Train(resume=tmp_path, set=("n_critic=1",))):
        with pytest.raises(ValueError, match=r"no other option beside it but --algo FILE:NAME"):
            resume(wrong)
    for right in (Train(resume=tmp_path), Train(resume=tmp_path, algo="ppo", algorithm=NoFlags())):
        with pytest.raises(FileNotFoundError, match="not a run that can be continued"):
            resume(right)


def test_paths_are_made_absolute_and_names_are_left(points_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(points_file.parent)
    task = located(Task(points_file.name, 2, denoiser="net", critic=f"frozen:{points_file.name}"))
    assert (task.dataset, task.denoiser, task.critic) == (str(points_file), "net", f"frozen:{points_file}")
    (points_file.parent / "moons").mkdir(exist_ok=True)
    assert located(Task("moons", 2)) == Task("moons", 2)


def test_changes_are_flags_and_then_names_and_values() -> None:
    options = Train(algorithm=default_algorithm("ddpo"), algo="ddpo", set=("clip_range=0.5",))
    assert options.changes == find("ddpo").settings({"clip_range": 0.5})
