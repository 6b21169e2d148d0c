"""Many processes as one batch: one process changes nothing, two give the step of the whole batch."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn, optim

from agents.core.advantages import normalised, regression_weights
from agents.core.ipm_agent import IPMAgent
from agents.core.losses import Loss
from agents.core.optimization import descend, refuse_non_finite
from agents.core.ranks import ALONE, Ranks
from agents.core.rollout import Trajectories
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.schedules import make_schedule
from tests.support import normal

SIZE = 2


def test_one_process_gives_back_what_it_is_given() -> None:
    ranks, values = Ranks.from_environment(), normal(3, 5)
    assert ranks == ALONE == Ranks(0, 1)
    assert ranks.mean(values) is values
    assert torch.equal(ranks.std(values), values.std(correction=0))
    assert ranks.share(torch.tensor(3.0)) == 1
    assert ranks.seed(17) == 17
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


def test_every_rank_draws_from_a_seed_of_its_own() -> None:
    seeds = [Ranks(rank, 50).seed(base) for base in range(4) for rank in range(50)]
    assert len(set(seeds)) == 200
    assert [Ranks(0, 50).seed(base) for base in range(4)] == [0, 1, 2, 3]
    assert Ranks(3, 50).seed(1) == Ranks(3, 4).seed(1)


# --- two processes ---------------------------------------------------------------------------------------------------


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).requires_grad_()


def stepped(module: nn.Module, batch: Tensor, ranks: Ranks = ALONE) -> tuple[list[Tensor], Tensor]:
    """The weights after one clipped step on the mean loss of ``batch``, and the gradient's norm."""
    optimizer = optim.SGD(module.parameters(), lr=0.5)
    norm = descend("policy", module(batch).square().mean(), optimizer, 0, 0.01, ranks)
    return [weight.detach().clone() for weight in module.parameters()], norm


class Fixed(IPMAgent):
    def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
        assert advantage is not None
        loss = -(advantage * self.policy(batch.xs[:-1], self.steps).log_prob(batch.xs[1:])).mean()
        return loss, {"loss": loss.detach()}


def one_of_several(rank: int, folder: str) -> None:
    """What each of the two processes asserts; an error here is an error of the test."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=SIZE)
    ranks = Ranks.from_environment()
    assert ranks == Ranks(rank, SIZE)
    half_of_the_batch_gives_the_step_of_the_whole(ranks)
    means_are_over_both(ranks)
    one_agent_on_both(ranks)
    dist.destroy_process_group()


def half_of_the_batch_gives_the_step_of_the_whole(ranks: Ranks) -> None:
    torch.manual_seed(0)
    module, batch = network(), normal(8, 3)
    state = {name: weight.clone() for name, weight in module.state_dict().items()}
    own = batch.chunk(SIZE)[ranks.rank]
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
    own = whole.chunk(SIZE, dim=1)[ranks.rank]
    for function in (lambda a, r: normalised(a, 0.1, None, r), lambda a, r: regression_weights(a, 0.7, r)):
        expected = function(whole, ALONE).chunk(SIZE, dim=1)[ranks.rank]
        assert torch.allclose(function(own, ranks), expected, atol=1e-5)
        assert not torch.allclose(function(own, ALONE), expected, atol=1e-3)  # negative control
    assert ranks.agree(True) and not ranks.agree(ranks.rank == 0)
    message = "score became nan in iteration 7" if ranks.rank == 1 else "on another rank in iteration 7"
    with pytest.raises(FloatingPointError, match=message):
        refuse_non_finite(7, ranks, score=torch.tensor(float("nan") if ranks.rank == 1 else 0.0))


def one_agent_on_both(ranks: Ranks) -> None:
    denoiser = EpsMLP((2,), make_schedule("cosine", 50), 8, 1, torch.Generator().manual_seed(0))
    task = {"num_steps": 2, "denoiser": denoiser, "critic": lambda x: x[..., 0]}
    with pytest.raises(ValueError, match=r"There are 2 ranks, and each would train a critic.*train_critic=False"):
        Fixed(num_envs=4, env_kwargs=task, seed=0)
    with pytest.raises(ValueError, match="There are 2 ranks, which must start from the same weights: give a seed"):
        Fixed(num_envs=4, env_kwargs={**task, "train_critic": False})
    agent = Fixed(num_envs=4, env_kwargs={**task, "train_critic": False}, seed=0).learn(2 * 5 * 4 * 2, log_interval=1)
    assert agent.newest is not None
    weights = torch.cat([w.detach().flatten() for w in (*agent.policy.parameters(), *agent.value.parameters())])
    assert torch.allclose(ranks.mean(weights), weights, rtol=0, atol=1e-6)
    noise = agent.newest.xs[0]
    assert not torch.allclose(ranks.mean(noise), noise, atol=1e-2)
    if ranks.rank == 1:  # one policy breaks: both stop at that step, the other without an error of its own
        next(agent.policy.parameters()).data.fill_(float("nan"))
        with pytest.raises(FloatingPointError, match="The policy's own action at step 0 was refused"):
            agent.learn(1)
    else:
        agent.learn(1)
        assert agent.iteration == 0 and agent.num_timesteps == 4


def test_processes_are_one_batch(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_of_several, (str(tmp_path),), nprocs=SIZE)
