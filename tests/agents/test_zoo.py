"""Any algorithm by name or as the user's object, behind one protocol; a file imports nothing."""

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3 import DDPG, PPO
from torch import Tensor

from agents import DDPO, IPMAgent, load_agent
from agents.algorithms.presets import PRESETS, preset
from agents.core.algorithm import Algorithm, seeded
from agents.core.losses import Loss
from agents.core.rollout import Trajectories
from agents.core.spaces import Choice, Range
from agents.core.task import Task
from agents.runs.callbacks import Checkpoint, SamplerEvaluation
from agents.sb3.registry import SB3_ALGORITHMS
from agents.zoo import NAMES, find
from diffusion_env.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from diffusion_env.config import EvaluationConfig
from diffusion_env.critics import Critic


class MyPG(IPMAgent):
    uses_value = False

    def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
        law = self.policy(batch.xs[:-1], self.steps)
        return -(self.score(batch) * law.log_prob(batch.xs[1:])).mean(), {}


class MyPPO(PPO):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Terse(PPO):
    """Takes few keywords, so the preset of PPO does not fit."""

    def __init__(self, policy: Any, env: Any, learning_rate: float = 1e-4, n_steps: int = 64) -> None:
        super().__init__(policy, env, learning_rate, n_steps)


class SmallDDPG(DDPG):
    space = {"tau": Range(0.01, 0.1)}


def keep(task: Task, total_timesteps: int, seed: int, unused: float = 1.0) -> Any:
    from agents.runs.untouched import Untouched

    return Untouched(task).table, Untouched(task).network


EVERY: list[Any] = [*NAMES, MyPG, MyPPO, DDPG, keep]
Name = Callable[[Any], str]


def name_of(algo: Any) -> str:
    return algo if isinstance(algo, str) else str(algo.__name__)


# --- the protocol ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", EVERY, ids=name_of)
def test_every_algorithm_is_made_trained_measured_saved_and_loaded_alike(
    algo: Any, small_task: Task, tmp_path: Path
) -> None:
    entry = find(algo)
    made: Algorithm = entry.make(small_task, 7)
    watch = SamplerEvaluation(made.iteration_timesteps, num_samples=50)
    made.learn(2 * made.iteration_timesteps, [watch, Checkpoint(tmp_path, made.iteration_timesteps)], 1_000_000)
    assert watch.history[0].num_timesteps == 0
    assert watch.history[-1].num_timesteps == made.num_timesteps >= 2 * made.iteration_timesteps
    assert (made.task, made.seed, made.dataset.name) == (small_task, 7, "points")
    assert made.critic is None or isinstance(made.critic, Critic)
    assert made.network_evaluations is None or made.network_evaluations >= 0
    x0 = made.sample(9, 3)
    assert x0.shape == (9, 2) and torch.equal(x0, made.sample(9, 3)) and not torch.equal(x0, made.sample(9, 4))
    assert made.evaluate(EvaluationConfig(num_samples=50, w1_samples=20, seeds=(0,), refit_steps=5))["sw2_mean"] > 0
    loaded = load_agent(tmp_path, algorithms=[algo])
    assert torch.equal(loaded.sample(9, 3), x0)
    assert (loaded.name, loaded.num_timesteps) == (made.name, made.num_timesteps)
    assert loaded.resume().num_timesteps == made.num_timesteps


@pytest.mark.parametrize("algo", EVERY, ids=name_of)
def test_settings_are_json_and_follow_changes(algo: Any) -> None:
    entry = find(algo)
    settings = entry.settings({})
    assert json.loads(json.dumps(settings)) == {**settings} and set(settings) - {"action_mode"} <= set(entry.defaults)
    name = next(iter(set(settings) & {"learning_rate", "unused"}), None)
    if name is not None:
        assert entry.settings({name: 0.123}) == {**settings, name: 0.123}
    with pytest.raises(ValueError, match=r"has no hyper-parameter \['colour'\]. Choose from"):
        entry.settings({"colour": "red"})
    with pytest.raises(ValueError, match="colour"):
        entry.make(Task(), 0, {"colour": "red"})


@pytest.mark.parametrize("name", ["seed", "device", "tensorboard_log", "env"])
def test_what_the_task_and_the_caller_give_is_no_hyper_parameter(name: str) -> None:
    with pytest.raises(ValueError, match=rf"ppo has no hyper-parameter \['{name}'\]"):
        find("ppo").make(Task(), 0, {name: 3})


def test_names_stand_for_their_presets() -> None:
    for name in PRESETS:
        assert find(name).settings({}) == asdict(preset(name))
    row = SB3_ALGORITHMS["ppo"]
    own = {"action_mode": "step", "learning_rate": row.learning_rate, **row.hyperparameters}
    assert find("ppo").settings({"n_epochs": 9}) == {**own, "n_epochs": 9}
    assert find("sft_pg").source.startswith("Fan & Lee") and find("untouched").settings({}) == {}


def test_changes_reach_the_algorithm(small_task: Task) -> None:
    agent: Any = find("ddpo").make(small_task, 0, {"clip_range": 0.123})
    assert agent.config == preset("ddpo", clip_range=0.123)
    ppo: Any = find("ppo").make(small_task, 0, {"n_epochs": 7, "action_mode": "residual", "learning_rate": 0.5})
    assert (ppo.model.n_epochs, ppo.env.action_mode) == (7, "residual")
    assert [ppo.model.lr_schedule(left) for left in (1.0, 0.5, 0.0)] == pytest.approx([0.5, 0.25, 0.0])


def test_a_generator_may_stand_for_the_seed(small_task: Task) -> None:
    draw = seeded(find("untouched").make(small_task, 0).sample)
    one, other = (draw(4, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(one, draw(4, torch.Generator().manual_seed(0))) and not torch.equal(one, other)


# --- what a user gives -----------------------------------------------------------------------------------------------


def test_a_class_of_a_user_starts_from_its_base_s_preset_where_that_fits() -> None:
    assert find(MyPPO).settings({}) == find("ppo").settings({})
    assert "n_epochs" not in find(Terse).settings({})
    assert find(Terse).settings({})["learning_rate"] == 1e-4
    assert "policy_delay" not in find(DDPG).settings({})  # which DDPG, a subclass of TD3, does not take
    assert find("stable_baselines3:DDPG").settings({}) == find(DDPG).settings({})


def test_spaces_of_a_user() -> None:
    task = Task("moons", 5)
    assert find(MyPG).space(task).keys() == find("rwr").space(task).keys() - {"temperature"}
    assert find(MyPPO).space(task) == find("ppo").space(task)
    assert find(DDPG).space(task).keys() == {"learning_rate"}
    assert find(SmallDDPG).space(task) == {"tau": Range(0.005, 0.1)}
    assert find(keep).space(task) == {}

    def with_space(task: Task, total_timesteps: int, seed: int, rate: float = 0.5) -> Any: ...

    with_space.space = {"rate": Choice((0.1, 1.0))}  # type: ignore[attr-defined]
    assert find(with_space).space(task) == {"rate": Choice((0.5, 0.1, 1.0))}


@pytest.mark.parametrize("algo", ["alphago", "", "PPO"])
def test_unknown_names_list_those_there_are(algo: str) -> None:
    with pytest.raises(ValueError, match=r"Unknown algorithm .*'sft_pg'.*'td3', 'untouched'.*'module:Class'"):
        find(algo)


def test_what_is_no_algorithm_is_refused() -> None:
    with pytest.raises(ImportError, match="'no_such_module:A' was not found"):
        find("no_such_module:A")
    with pytest.raises(ValueError, match=r"'agents.zoo' has no 'nothing'"):
        find("agents.zoo:nothing")
    for wrong in (Task, 3):
        with pytest.raises(ValueError, match=r"is no algorithm. Give a subclass of agents.core.ipm_agent.IPMAgent"):
            find(wrong)  # type: ignore[arg-type]


def test_a_name_of_ours_is_not_taken_twice() -> None:
    class Mine(DDPO):
        name = "ddpo"

    with pytest.raises(ValueError, match=r"Mine is called 'ddpo', as one of ours is"):
        find(Mine)

    def ppo(task: Task, total_timesteps: int, seed: int) -> Any: ...

    with pytest.raises(ValueError, match="is called 'ppo'"):
        find(ppo)
    assert find(DDPO).name == "ddpo"  # negative control: ours itself
    assert find(type("Mine", (DDPO,), {})).name == "Mine"


# --- files -----------------------------------------------------------------------------------------------------------


def forged(path: Path, source: Path, **changes: Any) -> Path:
    """The file at ``source`` with another header."""
    state, header = load_checkpoint(source)
    return save_checkpoint(path, state, {**header, **changes})


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """A module ``trap`` on the path that leaves a mark when it is imported; returns whether it was."""
    mark = tmp_path / "imported"
    (tmp_path / "trap.py").write_text(
        f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
        "from agents.core.ipm_agent import IPMAgent\nclass Trap(IPMAgent):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trap", raising=False)
    return mark.exists


NAMED = ("trap:Trap", "trap", "Trap")


@pytest.mark.parametrize("algo", ["ddpo", "ppo", keep], ids=name_of)
def test_a_forged_header_imports_nothing(algo: Any, small_task: Task, tmp_path: Path, trap: Callable[[], bool]) -> None:
    source = find(algo).make(small_task, 0).save(tmp_path / "run")
    for name in NAMED:
        with pytest.raises(CheckpointError, match=rf"holds the algorithm '{name}'.*algorithms=\["):
            load_agent(forged(tmp_path / "forged", source, name=name), algorithms=[algo])
    task = {**small_task.to_json(), "dataset": "trap:Trap", "critic": "trap:Trap"}
    for changes in ({"env_id": "trap:Trap-v0"}, {"config": {"policy": "trap:Trap"}}, {"task": task}):
        with contextlib.suppress(CheckpointError, ValueError):  # a field that this kind does not have is not read
            load_agent(forged(tmp_path / "forged", source, **changes), algorithms=[algo])
    assert not trap()
    find("trap:Trap")
    assert trap()  # negative control: what the user gives is imported


def test_an_environment_that_is_not_registered_is_refused(small_task: Task, tmp_path: Path) -> None:
    source = find("ddpo").make(small_task, 0).save(tmp_path / "run")
    for env_id in ("trap:Trap-v0", "diffusion_env:DDPMShortcut-v0", 3, ["a"]):
        with pytest.raises(CheckpointError, match="not registered here, and a file never makes us import"):
            load_agent(forged(tmp_path / "forged", source, env_id=env_id))
        with pytest.raises(CheckpointError, match="not registered here"):
            DDPO.load(tmp_path / "forged")


def test_the_error_says_what_to_add(small_task: Task, tmp_path: Path) -> None:
    path = find(MyPG).make(small_task, 0).save(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"'MyPG'.*--algo my_file:MyPG` or .*algorithms=\[MyPG\]"):
        load_agent(path)
    with pytest.raises(CheckpointError, match=r"nor of those given, \['keep'\]"):
        load_agent(path, algorithms=[keep])
    assert load_agent(path, algorithms=[keep, MyPG]).name == "MyPG"


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"colour": 1}},
        {"config": {"seed": 3}},
        {"task": None},
        {"task": {"dataset": 3}},
        {"seed": "x"},
        {"task_objects": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("algo", ["ppo", keep], ids=name_of)
def test_a_damaged_header_gets_a_sentence(algo: Any, changes: dict[str, Any], small_task: Task, tmp_path: Path) -> None:
    source = find(algo).make(small_task, 0).save(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"does not describe a task|does not fit (ppo|keep)"):
        load_agent(forged(tmp_path / "forged", source, **changes), algorithms=[algo])
