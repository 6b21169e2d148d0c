r"""The score-function family: theta follows A grad log p_theta(x[k+1] | x[k]), for six choices of A and of the loss.

| name | advantage A of step k | loss on theta, a mean over steps and trajectories | source |
|---|---|---|---|
| reinforce | f(x_0) - mean f(data) | - A log p | Williams 1992; DDPO-SF, Black et al. 2024 |
| sft_pg | f(x_0) - V(x[k], k), as a lambda-average | - A log p | Fan & Lee 2023, algorithm 1 |
| dpok | as sft_pg | - A log p + kl_coef KL(p, p_pretrained) | Fan et al. 2023, arXiv 2305.16381 |
| ddpo | (f(x_0) - mean) / std, of the batch | - min(r A, clip(r, 1 - c, 1 + c) A) | DDPO-IS, Black et al. 2024 |
| grpo | (f(x_0) - mean) / std, of the group that shares x[0] | ddpo's + kl_coef KL | DanceGRPO, Xue et al. 2025 |
| rwr | (f(x_0) - mean) / std, of the batch | - w log p, w = exp(A / temperature) / mean | Peters & Schaal 2007 |

Letters: K steps, n trajectories; f the critic, V(x[k], k) the value; p = p_theta(x[k+1] | x[k]), log p (K, n) summed
over the event; r = p / p_then the probability ratio to the policy that acted; c clip_range.

Every choice is a field of `PolicyGradientConfig` and combines with the others; a name stands for its preset
(`agents.algorithms.presets`). Theorem 4.1 of Fan & Lee: the gradient of the IPM is
- E[ f(x_0) sum_k grad log p ], so raising f by policy gradient lowers the IPM.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from agents.algorithms import stein
from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.presets import PRESETS
from agents.core.advantages import (
    advantages,
    effective_sample_size,
    equal_step_weights,
    group_advantages,
    normalised,
    regression_weights,
)
from agents.core.config import AgentConfig
from agents.core.ipm_agent import IPMAgent
from agents.core.losses import Loss, ratio_error
from agents.core.rollout import Trajectories
from agents.core.shapes import check_shapes


def options(agent: IPMAgent) -> PolicyGradientConfig:
    """The agent's configuration; the constructor has checked its class."""
    return cast(PolicyGradientConfig, agent.config)


def check(agent: IPMAgent) -> None:
    """As `IPMAgent.check`; ValueError too unless groups divide the environments."""
    IPMAgent.check(agent)
    size = options(agent).group_size
    if size is not None and agent.envs.num_envs % size:
        raise ValueError(
            f"Trajectories that share x[0] fill whole groups: num_envs must be a multiple of group_size = {size}; "
            f"received num_envs = {agent.envs.num_envs} on each of {agent.ranks.size} rank(s)."
        )


def start(agent: IPMAgent) -> Tensor:
    """x[0] of the next rollout (B, *shape): neighbours share it in groups of ``group_size``."""
    size = options(agent).group_size
    if size is None:
        return IPMAgent.start(agent)
    shape = (agent.envs.num_envs // size, *agent.dataset.shape)
    x = agent.ranks.normal(shape, agent.generator, agent.device).repeat_interleave(size, dim=0)
    return cast(Tensor, agent.envs.reset(options={"x": x})[0]["x"])


@torch.no_grad()
def step_advantages(agent: IPMAgent, batch: Trajectories) -> Tensor:
    """A (K, n), with f and V of now; with surrogate "regression" already the weights w."""
    c, score = options(agent), agent.score(batch)
    if c.baseline in ("value", "stein"):
        found = advantages(agent.value(batch.xs[:-1], agent.steps), score, c.gae_lambda)
        if c.baseline == "stein":
            found = stein.later_advantages(found, c.gae_lambda, agent.has_slope)
    elif c.baseline == "group":
        assert c.group_size is not None
        found = group_advantages(score, c.group_size).expand_as(batch.scored)
    else:
        found = (score - agent.ranks.mean(agent.reward_of(agent.envs.data_batch()).mean())).expand_as(batch.scored)
    if c.advantage_normalization != "none":
        group_size = c.group_size if c.advantage_normalization == "group" else None
        found = normalised(found, c.advantage_std_floor, group_size, agent.ranks)
    return regression_weights(found, c.temperature, agent.ranks) if c.surrogate == "regression" else found


class Transitions(NamedTuple):
    """Steps x[k] -> x[k+1]: all of a buffer, (K, n, ...) with k (K, 1), or a minibatch (m, ...)."""

    x: Tensor
    x_next: Tensor
    k: Tensor
    advantage: Tensor
    old_log_prob: Tensor


def transitions(agent: IPMAgent, batch: Trajectories, advantage: Tensor) -> Transitions:
    """All transitions of ``batch`` with ``advantage`` (K, n), or a rank's part of a minibatch without replacement."""
    xs, size, total, draws = batch.xs, options(agent).minibatch_size, advantage.numel(), agent.minibatch_generator
    if size is None or size >= total * agent.ranks.size:
        return Transitions(xs[:-1], xs[1:], agent.steps, advantage, batch.scored)
    flat = torch.randperm(total, generator=draws, device=agent.device)[: -(-size // agent.ranks.size)]
    k, i = flat // advantage.shape[1], flat % advantage.shape[1]
    return Transitions(xs[k, i], xs[k + 1, i], k, advantage[k, i], batch.scored[k, i])


def policy_loss(agent: IPMAgent, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
    """The table's loss, a scalar, on the buffer or a minibatch, plus the KL penalty; ``advantage`` is (K, n).

    On the ``first`` step the ratio r must be 1.
    """
    assert advantage is not None
    c, t = options(agent), transitions(agent, batch, advantage)
    law = agent.policy(t.x, t.k)
    log_prob = law.log_prob(t.x_next)
    weight = equal_step_weights(agent.policy.sampling_table)[t.k] if c.step_weight == "equal" else None
    weighted = t.advantage if weight is None else t.advantage * weight
    if c.baseline == "stein":
        loss, metrics = score_function_loss(log_prob, weighted)
        loss = loss + stein.slope_loss(law, t.x_next, stein.slopes(agent, t.x_next), weight)
    elif c.surrogate == "clip":
        loss, metrics = clipped_loss(log_prob, t.old_log_prob, weighted, c.clip_range)
    else:
        loss, metrics = score_function_loss(log_prob, weighted)
    if c.surrogate == "regression":
        metrics["effective_sample_size"] = effective_sample_size(t.advantage)
    if first:
        metrics["ratio_error"] = ratio_error(log_prob, t.old_log_prob)
    return agent.with_kl((loss, metrics), law, t.x, t.k)


def diagnostics(agent: IPMAgent) -> dict[str, float]:
    """As `IPMAgent.diagnostics`; with the clipped surrogate its clip_range too."""
    clip = {"train/clip_range": options(agent).clip_range} if options(agent).surrogate == "clip" else {}
    return {**IPMAgent.diagnostics(agent), **clip}


def score_function_loss(log_prob: Tensor, advantage: Tensor) -> Loss:
    """- mean[A log p], whose gradient is the policy gradient (Fan & Lee 2023, theorem 4.1 and algorithm 1, line 12).

    ``log_prob`` and ``advantage`` have one shape; no gradient flows into the advantage.
    """
    check_shapes(log_prob=(log_prob, "..."), advantage=(advantage, "..."))
    loss = -(advantage.detach() * log_prob).mean()
    return loss, {"policy_gradient_loss": loss.detach(), "advantage_std": advantage.detach().std(correction=0)}


def clipped_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip_range: float) -> Loss:
    """- mean[min(r A, clip(r, 1 - c, 1 + c) A)] (Schulman et al. 2017, eq. 7), all of one shape.

    At r = 1 its gradient is `score_function_loss`'s. The ratio is of log-probabilities summed over the event, so
    ``clip_range`` has one meaning whatever the data's dimension.
    """
    check_shapes(log_prob=(log_prob, "..."), old_log_prob=(old_log_prob, "..."), advantage=(advantage, "..."))
    advantage, gap = advantage.detach(), log_prob - old_log_prob.detach()
    ratio = gap.exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
    metrics = {
        "policy_gradient_loss": loss.detach(),
        "advantage_std": advantage.std(correction=0),
        "clip_fraction": ((ratio.detach() - 1).abs() > clip_range).float().mean(),
        "approx_kl": (gap.detach().expm1() - gap.detach()).mean(),
        "effective_sample_size": effective_sample_size(ratio.detach()),
    }
    return loss, metrics


Agent = TypeVar("Agent", bound=type[IPMAgent])


def score_function(cls: Agent) -> Agent:
    """Class decorator: ``cls`` takes its joints from this file and its defaults from the preset with its name."""
    default = PRESETS[cls.name].config

    def default_config(cls: type[IPMAgent]) -> AgentConfig:
        """The preset with the agent's name."""
        return default

    def uses_value(agent: IPMAgent) -> bool:
        """Whether a value baseline is subtracted, V(x[k], k) or V(x[k+1], k+1); at K = 1 the latter is f itself."""
        baseline = options(agent).baseline
        return baseline == "value" or (baseline == "stein" and (len(agent.steps) > 1 or not agent.has_slope))

    joints = {
        "config_class": PolicyGradientConfig,
        "default_config": classmethod(default_config),
        "check": check,
        "uses_value": property(uses_value),
        "start": start,
        "advantages": step_advantages,
        "policy_loss": policy_loss,
        "diagnostics": diagnostics,
    }
    for name, joint in joints.items():
        setattr(cls, name, joint)
    return cls


@score_function
class Reinforce(IPMAgent):
    """No value baseline: what is subtracted, the mean score of data, is the same for every trajectory and removes no
    noise from the gradient. The advantage that V or a group brings is measured against this."""

    name = "reinforce"


@score_function
class SFTPG(IPMAgent):
    """Shortcut fine-tuning with policy gradient (Fan & Lee, ICML 2023, arXiv 2301.13362, algorithm 1).

    Ours differs from the paper where it was measured to matter: every transition of the buffer is used, A is a
    lambda-average, step sizes decay, the sampler is averaged; the preset `sft_pg_paper` is the published setting.

    Example::

        agent = SFTPG("DDPMShortcut-v0", num_envs=128, env_kwargs=dict(num_steps=10), seed=0, tensorboard_log="runs")
        agent.learn(total_timesteps=2_000_000, progress_bar=True)
        x0 = agent.sample(10_000)
    """

    name = "sft_pg"


@score_function
class DPOK(IPMAgent):
    """A KL penalty, in closed form and differentiated, keeps theta near the pretrained sampler (Fan et al., NeurIPS
    2023). Its optimum is not the data: the penalty also preserves what the pretrained few-step sampler gets wrong. The
    KL of a step is |mean - mean'|^2 / (2 std[k]^2); the official one is not weighted by the std."""

    name = "dpok"


@score_function
class DDPO(IPMAgent):
    """Several steps on each batch, kept near the policy that made it by PPO's clipped ratio (DDPO-IS of Black et al.,
    ICLR 2024, arXiv 2305.13301). The authors' clip_range of 1e-4 belongs to log p averaged over the event and to
    images. There are no prompts here, so the whole batch is normalised together."""

    name = "ddpo"


@score_function
class GRPO(IPMAgent):
    """Trajectories that share x[0] are compared with each other; no V (after Shao et al. 2024).

    Sharing x[0] and dividing by the group's own std is DanceGRPO's form (Xue et al. 2025, arXiv 2505.07818). Flow-GRPO
    (Liu et al. 2025, arXiv 2505.05470) gives a group different starts and divides by one std for all; of it there is
    the KL penalty. A sampler without prompts is given nothing but x[0], so that is what a group shares.
    ``num_envs`` must be a multiple of ``group_size``."""

    name = "grpo"


@score_function
class RWR(IPMAgent):
    """Reward-weighted regression: the sampler imitates its own samples, weighted by the critic (Peters & Schaal, ICML
    2007). With one step on each batch its gradient is a policy gradient with the advantage exp(A / temperature) - 1,
    because the mean of grad log p over the policy's own samples is 0. The RWR of Black et al. 2024 is another loss:
    the denoising loss on x_0 that is noised forward, weighted."""

    name = "rwr"
