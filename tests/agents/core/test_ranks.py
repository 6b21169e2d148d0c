"""Many processes as one batch: one process changes nothing, two give the step of the whole batch."""

import io
import os
import signal
import socket
import time
from contextlib import redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor, nn, optim

from agents.algorithms.presets import preset
from agents.cli import main
from agents.core.advantages import normalised, regression_weights
from agents.core.ipm_agent import IPMAgent
from agents.core.optimization import descend, refuse_non_finite
from agents.core.ranks import ALONE, VARIABLES, RankLost, Ranks, joined
from agents.runs.callbacks import Checkpoint, StopOnSignal
from agents.runs.folder import RunFolder
from agents.runs.signals import Interrupted, StopRequest
from agents.zoo import agent_class, load_agent
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.schedules import make_schedule
from tests.support import RecordingCritic, normal

SIZE, SOON = 2, timedelta(seconds=60)


def test_one_process_gives_back_what_it_is_given() -> None:
    ranks, values = Ranks.from_environment(), normal(3, 5)
    assert ranks == ALONE == Ranks(0, 1)
    assert ranks.mean(values) is values
    assert torch.equal(ranks.std(values), values.std(correction=0))
    assert ranks.share(torch.tensor(3.0)) == 1
    assert ranks.agree(True) is True and ranks.agree(False) is False
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()
    gradient = weight.grad
    ranks.reduce_gradients([weight])
    assert weight.grad is gradient and gradient is not None and gradient.tolist() == [1, 1]


@pytest.mark.parametrize(("rank", "size"), [(-1, 1), (1, 1), (2, 2), (0, 0)])
def test_a_rank_lies_within_the_size(rank: int, size: int) -> None:
    with pytest.raises(ValueError, match=rf"0 ... size - 1; received rank {rank} and size {size}"):
        Ranks(rank, size)


# --- two processes ---------------------------------------------------------------------------------------------------


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).requires_grad_()


def stepped(module: nn.Module, batch: Tensor, ranks: Ranks = ALONE) -> tuple[list[Tensor], Tensor]:
    """The weights after one clipped step on the mean loss of ``batch``, and the gradient's norm."""
    optimizer = optim.SGD(module.parameters(), lr=0.5)
    norm = descend("policy", module(batch).square().mean(), optimizer, 0, 0.01, ranks)
    return [weight.detach().clone() for weight in module.parameters()], norm


def make_agent(algo: str, critic: str, num_envs: int = 256, data_seed: int = 0, **keywords: Any) -> IPMAgent:
    """A small agent of K = 2 with the same weights and data in every process."""
    sizes = {"value_width": 8, "value_depth": 1, "n_critic": 2, "n_critic_exponent": 0.0, "critic_data_batch": 32}
    points = normal(600, 2, seed=data_seed)
    env_kwargs = {
        "num_steps": 2,
        "dataset": Dataset("points", points[:500], points[500:], torch.zeros(2), 1.0),
        "denoiser": EpsMLP((2,), make_schedule("cosine", 50), 8, 1, torch.Generator().manual_seed(0)),
        "critic": critic,
        "critic_kwargs": {} if critic == "mmd" else {"width": 8, "depth": 1},
    }
    return agent_class(algo)(config=preset(algo, **sizes), num_envs=num_envs, env_kwargs=env_kwargs, seed=0, **keywords)


def trained(agent: IPMAgent, callback: Any = None, iterations: int = 5) -> IPMAgent:
    return agent.learn(iterations * agent.iteration_timesteps, callback, log_interval=2)


class SaveAt(BaseCallback):
    """Saves when the iteration after the third one begins."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def _on_rollout_start(self) -> None:
        agent: Any = self.model
        if agent.iteration == 3:
            agent.save(self.path)

    def _on_step(self) -> bool:
        return True


class KillAt(SaveAt):
    """Ends the process after the fourth iteration, without a word."""

    def _on_rollout_start(self) -> None:
        agent: Any = self.model
        if agent.iteration == 4:
            os.kill(os.getpid(), signal.SIGKILL)


COMPARED = {"sft_pg": "energy", "dxdp": "gradient_penalty", "ddpo": "mmd"}


def one_of_several(rank: int, folder: Path, ports: list[int]) -> None:
    """What each of the two processes asserts; an error here is an error of the test."""
    torch.set_num_threads(1)
    started(rank, ports[0])
    with joined(arrival=SOON) as ranks:
        assert ranks == Ranks.from_environment() == Ranks(rank, SIZE)
        half_of_the_batch_gives_the_step_of_the_whole(ranks)
        means_are_over_both(ranks)
        agents_are_refused_that_differ(ranks)
        for algo, critic in COMPARED.items():
            agent = trained(make_agent(algo, critic), SaveAt(folder / f"{algo}_at_3"))
            assert agent.save(folder / algo).is_file()
        a_resumed_run_ends_as_one_that_was_not_interrupted(folder)
        a_signal_to_one_ends_both(ranks, folder)
        one_policy_breaks(ranks)
    the_command_line_has_one_writer(rank, folder, ports[1:-1])
    started(rank, ports[-1])
    with joined(arrival=SOON):
        began, agent = time.monotonic(), make_agent("sft_pg", "energy", num_envs=8)
        with pytest.raises(RankLost, match=r"Rank 0 of 2 cannot go on: another rank has ended.*--resume FOLDER"):
            trained(agent, [Checkpoint(folder / "killed", None, 1e9 * rank), *[KillAt(folder)] * rank])
        assert rank == 0 and time.monotonic() - began < 30


def started(rank: int, port: int) -> None:
    """What a launcher sets."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(SIZE), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def half_of_the_batch_gives_the_step_of_the_whole(ranks: Ranks) -> None:
    torch.manual_seed(0)
    module, batch = network(), normal(8, 3)
    state = {name: weight.clone() for name, weight in module.state_dict().items()}
    own = ranks.own(batch)
    found, norm = stepped(module, own, ranks)
    module.load_state_dict(state)
    expected, whole = stepped(module, batch)
    assert float(norm) == pytest.approx(float(whole), rel=1e-5)
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(found, expected, strict=True))
    module.load_state_dict(state)
    alone, _ = stepped(module, own)  # negative control: without the mean over the ranks
    assert not torch.allclose(torch.cat([w.flatten() for w in alone]), torch.cat([w.flatten() for w in expected]))


def means_are_over_both(ranks: Ranks) -> None:
    whole = normal(3, 8, seed=1)
    own = ranks.own(whole, dim=1)
    for function in (lambda a, r: normalised(a, 0.1, None, r), lambda a, r: regression_weights(a, 0.7, r)):
        expected = ranks.own(function(whole, ALONE), dim=1)
        assert torch.allclose(function(own, ranks), expected, atol=1e-5)
        assert not torch.allclose(function(own, ALONE), expected, atol=1e-3)  # negative control
    assert torch.equal(ranks.gather(own, dim=1), whole)
    assert ranks.agree(True) and not ranks.agree(ranks.rank == 0)
    message = "score became nan in iteration 7" if ranks.rank == 1 else "on another rank in iteration 7"
    with pytest.raises(FloatingPointError, match=message):
        refuse_non_finite(7, ranks, score=torch.tensor(float("nan") if ranks.rank == 1 else 0.0))


def agents_are_refused_that_differ(ranks: Ranks) -> None:
    with pytest.raises(ValueError, match=r"different from rank 0 are: the data of rank\(s\) \[1\]\. .*points"):
        make_agent("sft_pg", "energy", data_seed=ranks.rank)
    with pytest.raises(ValueError, match=r"are: the options of rank\(s\) \[1\]\."):
        make_agent("sft_pg", "energy", num_envs=4 + 4 * ranks.rank)
    with pytest.raises(ValueError, match=r"num_envs must be a multiple of the 2 ranks; received 5"):
        make_agent("sft_pg", "energy", num_envs=5)
    with pytest.raises(ValueError, match="There are 2 ranks, which must start from the same weights: give a seed"):
        agent_class("sft_pg")(num_envs=4)
    critic = RecordingCritic((2,))
    with pytest.raises(ValueError, match=r"There are 2 ranks, and the update of the critic 'recording'.*in_step"):
        agent_class("sft_pg")(num_envs=4, seed=0, env_kwargs={"critic": critic})


def a_resumed_run_ends_as_one_that_was_not_interrupted(folder: Path) -> None:
    objects = {name: make_agent("sft_pg", "energy").env_kwargs[name] for name in ("dataset", "denoiser")}
    resumed = agent_class("sft_pg").load(folder / "sft_pg_at_3", env_kwargs=objects)
    assert resumed.iteration == 3
    resumed.resume(log_interval=2)
    assert resumed.save(folder / "resumed").read_bytes() == (folder / "sft_pg.safetensors").read_bytes()


def a_signal_to_one_ends_both(ranks: Ranks, folder: Path) -> None:
    request, checkpoint = StopRequest("Go on."), Checkpoint(folder / "signal")
    request.number = signal.SIGTERM if ranks.rank == 1 else None
    with pytest.raises(Interrupted, match=r"SIGTERM: saved at 0 environment steps\. Go on\."):
        make_agent("sft_pg", "energy", num_envs=4).learn(100, [checkpoint, StopOnSignal(request, checkpoint)])


def one_policy_breaks(ranks: Ranks) -> None:
    """Both stop at that step, each with an error."""
    agent = make_agent("sft_pg", "energy", num_envs=4)
    if ranks.rank == 1:
        next(agent.policy.parameters()).data.fill_(float("nan"))
    message = "The policy's own action at step 0 was refused" if ranks.rank == 1 else "Another rank stopped with an"
    with pytest.raises(FloatingPointError, match=message):
        agent.learn(1)
    assert agent.iteration == 0


def the_command_line_has_one_writer(rank: int, folder: Path, ports: list[int]) -> None:
    sizes = "--num-envs 4 --num-steps 2 --total-timesteps 64 --n-critic 2 --n-critic-exponent 0 --measure-samples 20"
    command = ["train", *sizes.split(), "--no-progress-bar", "--log-interval", "1", "--output", str(folder / "run")]
    said = io.StringIO()
    for port, words in zip(ports, (command, ["train", "--resume", str(folder / "run")]), strict=False):
        started(rank, port)
        with redirect_stdout(said):
            assert main(words) == 0
    assert ("was already trained to its end" in said.getvalue()) == (rank == 0) == bool(said.getvalue())
    started(rank, ports[-1])
    with redirect_stderr(said):
        assert main(["train", "--algo", "ppo"]) == 2
    assert f"Rank {rank}: Error: ppo trains in one process, and 2 were started." in " ".join(said.getvalue().split())


# --- what the test itself does ---------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left, of which one was killed in the end."""
    path, context = tmp_path_factory.mktemp("ranks"), torch.multiprocessing.get_context("spawn")
    ports = [free_port() for _ in range(5)]
    processes = [context.Process(target=one_of_several, args=(rank, path, ports)) for rank in range(SIZE)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
        process.kill()
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL]
    return path


@pytest.mark.parametrize(("algo", "critic"), COMPARED.items())
def test_ranks_with_parts_of_the_batch_train_as_one_process_with_the_whole(
    folder: Path, algo: str, critic: str
) -> None:
    before, alone = make_agent(algo, critic), trained(make_agent(algo, critic))
    objects = {name: alone.env_kwargs[name] for name in ("dataset", "denoiser")}
    shared = type(alone).load(folder / algo, env_kwargs=objects)
    assert (flat(alone.policy) - flat(before.policy)).abs().max() > 1e-3
    for part in ("policy", "average", "value", "critic"):
        assert torch.allclose(flat(getattr(alone, part)), flat(getattr(shared, part)), rtol=1e-5, atol=1e-6), part
    with pytest.raises(ValueError, match=r"saved by 2 rank\(s\), and now there are 1.*torchrun --nproc_per_node=2"):
        shared.resume()
    done = shared.num_timesteps
    assert shared.learn(1, reset_num_timesteps=False).num_timesteps > done


def flat(module: nn.Module) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in (*module.parameters(), *module.buffers())])


def test_a_killed_rank_leaves_a_checkpoint(folder: Path) -> None:
    agent = make_agent("sft_pg", "energy", num_envs=8)
    objects = {name: agent.env_kwargs[name] for name in ("dataset", "denoiser")}
    assert type(agent).load(folder / "killed", env_kwargs=objects).iteration == 4


def test_the_command_line_left_one_run(folder: Path) -> None:
    run = RunFolder(folder / "run")
    assert [line["time/total_timesteps"] for line in run.metrics() if "train/loss" in line] == [16, 32, 48, 64]
    assert load_agent(folder / "run").num_timesteps == 64
    assert not list(run.path.glob("run.lock"))


def test_a_process_alone_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as ranks:
        assert ranks is ALONE and not dist.is_initialized()


@pytest.mark.parametrize(
    ("variables", "device", "message"),
    [
        ({"RANK": "0"}, "cpu", r"WORLD_SIZE is 2, but \['MASTER_ADDR', 'MASTER_PORT'\] are not set.*torchrun"),
        ({}, "cuda", r"\['RANK', 'MASTER_ADDR', 'MASTER_PORT', 'LOCAL_RANK'\] are not set"),
        ({"WORLD_SIZE": "many"}, "cpu", "WORLD_SIZE must be the number that torchrun sets; received 'many'"),
        ({"WORLD_SIZE": "0"}, "cpu", "WORLD_SIZE must be the number that torchrun sets; received '0'"),
        (dict.fromkeys([*VARIABLES, "LOCAL_RANK"], "2"), "cuda:1", "Each rank takes a GPU of its own.*'cuda:1'"),
        (dict.fromkeys([*VARIABLES, "LOCAL_RANK"], "99"), "cuda", "LOCAL_RANK is 99, but this machine has"),
        (dict.fromkeys(VARIABLES, "2"), "cpu", "0 ... size - 1; received rank 2 and size 2"),
    ],
)
def test_variables_that_are_not_a_launchers(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], device: str, message: str
) -> None:
    for name in (*VARIABLES, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"WORLD_SIZE": "2"} | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message), joined(device):
        pass


def test_ranks_that_do_not_come_are_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ})
    started(0, free_port())
    with pytest.raises(RankLost, match=r"waited 0\.2 .*not all ranks came"), joined(arrival=timedelta(seconds=0.2)):
        pass
