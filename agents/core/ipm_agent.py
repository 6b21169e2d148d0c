r"""Algorithm 1 of Fan & Lee (ICML 2023) with the step on theta left open: the one class below every algorithm.

Letters: theta the sampler's weights; B trajectories per rollout, n = n_critic * B in the buffer, K steps; x[k] the
state after k steps, x_0 = x[K] the sample; f the critic, high on data; V(x[k], k) the value baseline.

Read `IPMAgent.iterate` first, then the joints below it, in the order in which it calls them. The verbs are at the end;
their work is done in `agents.core.learning` and `agents.core.persistence`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import fields
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from agents.core import learning, persistence, together
from agents.core.compilation import compile_forward
from agents.core.config import AgentConfig, checked_config
from agents.core.diagnostics import (
    critic_diagnostics,
    exploration,
    has_gradient,
    kl_to_pretrained,
    weights_without_gradient,
)
from agents.core.learning import MaybeCallback, StopTraining
from agents.core.logs import log_state
from agents.core.losses import Loss, Metrics, value_loss
from agents.core.optimization import LaterChecks, averaging, decayed, descend, refuse_non_finite, set_learning_rate
from agents.core.policy import DenoisingPolicy, all_steps
from agents.core.ranks import RankFailed, Ranks
from agents.core.rollout import Trajectories, collect, concatenated, make_envs, required_denoiser
from agents.core.sanity import SanityChecks, with_warning
from agents.core.task import Task
from agents.core.value import ValueNet
from diffusion_env import ENV_ID
from diffusion_env.critics import Critic
from diffusion_env.critics.base import Penalty
from diffusion_env.critics.trained import TrainedCritic
from diffusion_env.data.dataset import Dataset
from diffusion_env.evaluation.protocol import EvaluationConfig, evaluate
from diffusion_env.fields import Count, Seed, checked
from diffusion_env.samplers.law import GaussianStep
from diffusion_env.samplers.walk import sample
from diffusion_env.seeds import stream
from diffusion_env.vector_env import DDPMShortcutVectorEnv


class IPMAgent:
    """Rollouts teach critic and value, then the sampler takes its steps. An algorithm is a subclass with `policy_loss`.

    The verbs are stable-baselines3's (learn, predict, evaluate, save, load) plus ``sample`` and ``resume``.
    """

    name: ClassVar[str]
    """What a saved run is known by; the class's own name where a class gives none."""
    config_class: ClassVar[type[AgentConfig]] = AgentConfig
    """The only class of configurations that is taken."""
    needs_density: ClassVar[bool] = True
    """Whether `policy_loss` uses the log-probability of steps. Where it does, steps without noise are refused."""
    uses_value: bool = True
    """Whether `policy_loss` or `advantages` use V; without it V is not trained."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in vars(cls):
            cls.name = cls.__name__

    @classmethod
    def default_config(cls) -> AgentConfig:
        """The configuration taken where none is given."""
        return cls.config_class()

    def __init__(
        self,
        env_id: str = ENV_ID,
        config: AgentConfig | None = None,
        num_envs: int = 128,
        env_kwargs: Mapping[str, Any] | None = None,
        seed: int | None = None,
        tensorboard_log: str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Make the environments and the networks.

        ``config``: of ``config_class``, None for the defaults; TypeError for another algorithm's. ``num_envs``: B,
        trajectories per rollout, of all ranks. ``env_kwargs``: keywords of the environment (dataset, num_steps,
        sampler, denoiser, critic, ...), see `agents.core.rollout.make_envs`. ``seed``: of everything; None draws one.
        ``tensorboard_log``: a folder; runs are numbered inside it. Raises ValueError where the data set has no
        pretrained denoiser, and where the algorithm needs densities that the sampler's steps do not have.
        """
        if all(getattr(type(self), joint) is getattr(IPMAgent, joint) for joint in ("policy_loss", "iterate")):
            raise NotImplementedError(
                f"{type(self).__name__} has no loss on theta. Write policy_loss(self, batch, advantage, first), or "
                "iterate(self) for another order altogether."
            )
        num_envs, seed = checked(num_envs, Count, "num_envs"), checked(seed, Seed | None, "seed")
        self.config = checked_config(config, self.config_class, type(self).__name__) or self.default_config()
        self.env_id, self.num_envs, self.device = env_id, num_envs, torch.device(device)
        self.env_kwargs = dict(env_kwargs or {})
        self.seed = int.from_bytes(os.urandom(4), "little") >> 1 if seed is None else seed
        self.tensorboard_log = tensorboard_log
        self.ranks, self.later = Ranks.from_environment(), None if self.device.type == "cpu" else LaterChecks()
        together.check_parts(self.ranks, num_envs, seed)
        self.envs = make_envs(env_id, num_envs, self.env_kwargs, self.device, self.ranks)
        self.pretrained = required_denoiser(self.envs)
        self.generator = stream(self.seed, "rollout", self.device)
        self.minibatch_generator = stream(self.seed, "minibatch", self.device)
        self.sample_generator = stream(self.seed, "sampling", self.device)
        self.num_timesteps, self.iteration, self.total_timesteps = 0, 0, 0
        # The next rollout's start; None while one is under way, so that whatever interrupts it restarts the episodes.
        self.next_start: Tensor | None = self.envs.reset(seed=self.seed)[0]["x"]
        self.newest: Trajectories | None = None
        self.sanity = SanityChecks()
        self.callbacks: BaseCallback = CallbackList([])
        self.metrics: learning.Metrics | None = None  # of the newest iteration of this ``learn``
        self.began = 0.0, 0  # when ``learn`` did: perf_counter's seconds, and environment steps
        self._logger: Logger | None = None
        self._log_name: str | None = None  # of the run that ``learn`` numbered; None for a logger of the user
        self.loaded_log: Mapping[str, Any] | None = log_state(None)
        self.saved_ranks = self.ranks.size  # of the file that was loaded
        self.build(stream(self.seed, "weights"))
        together.check_beginning(self)

    def build(self, generator: torch.Generator) -> None:
        """The sampler (a copy of the pretrained network), its average, V, and their optimizers. Weights are drawn from
        ``generator``, the same on all ranks."""
        c, table = self.config, self.envs.table
        policy = partial(DenoisingPolicy, table=table, min_std=c.min_std, deployed_std=c.deployed_std)
        self.policy = policy(copy.deepcopy(self.pretrained), learn_std=c.std == "learned").to(self.device)
        self.policy.requires_grad_(True)
        self.reference = policy(self.pretrained)  # the pretrained sampler, with the same std
        self.check()
        self.average = AveragedModel(self.policy, multi_avg_fn=averaging(c.ema_decay or 0.0, c.ema_width))
        value = partial(ValueNet, width=c.value_width, depth=c.value_depth, generator=generator, body=c.value_body)
        self.value = value(self.dataset.shape, table.num_steps).to(self.device)
        groups: list[dict[str, Any]] = [{"params": list(self.policy.net.parameters())}]
        if self.policy.log_std_ratio is not None:
            groups.append({"params": [self.policy.log_std_ratio], "lr_scale": c.std_lr_scale})
        adam = partial(torch.optim.Adam, betas=(c.adam_beta1, c.adam_beta2), fused=True)
        self.n_critic: int
        self.learning_rate: float
        self.n_critic, self.learning_rate = c.at_steps(table.num_steps)
        self.policy_optimizer = adam(groups, lr=self.learning_rate)
        self.value_optimizer = adam(self.value.parameters(), lr=c.value_learning_rate)
        self.steps = all_steps(table.num_steps, self.device)  # (K, 1)
        compile_forward(self.policy.net, self.value, self.critic, wanted=c.compile)

    def check(self) -> None:
        """ValueError where this configuration cannot run here: densities are needed, and a step has std 0."""
        if not self.policy.noiseless_steps or not (self.needs_density or self.config.kl_coef > 0):
            return
        why = "uses the log-probability of steps" if self.needs_density else "has kl_coef > 0, a KL between steps"
        raise ValueError(
            f"{type(self).__name__} {why}, but the sampler {self.envs.table.name!r} has std 0 at step(s) "
            f"{self.policy.noiseless_steps}, which have no density. Give noise to every step: a configuration with "
            "min_std > 0 (for example min_std=0.05), or a step table with eta > 0 and final_std > 0; or take an "
            "algorithm that needs no density, for example Pathwise with kl_coef = 0."
        )

    # --- one iteration -------------------------------------------------------------------------------------------

    def iterate(self) -> dict[str, float | Tensor]:
        """One iteration of algorithm 1; returns metrics, each a scalar, under stable-baselines3's names.

        By theorem 4.1 the gradient of the IPM is - E[ f(x_0) sum_k grad log p_theta(x[k+1] | x[k]) ]: raising f by
        policy gradient lowers the IPM between the samples and the data.
        """
        self.set_learning_rates()
        buffer: list[Trajectories] = []  # emptied at every iteration
        with self.unchanged():  # theta moves below alone
            for _ in range(self.n_critic):
                newest = self.rollout()  # B trajectories of the sampler, x[0] ~ N(0, I), x[k+1] ~ p_theta(. | x[k])
                for part in newest.parts(self.ranks.size):  # of about 128 trajectories: as many steps on f for any B
                    critic_metrics, value_metrics = self.teach(part)  # f: up on data, down on x_0; V: to f(x_0)
                buffer.append(newest)
        self.newest, batch = newest, concatenated(buffer)
        advantage, policy_metrics = self.advantages(batch), Metrics()  # A[k] = f(x_0) - V(x[k], k), f and V of now
        for step in range(self.config.n_generator):
            policy_metrics |= self.update_policy(batch, advantage, first=step == 0)  # theta: down - mean[A log p_theta]
            self.after_step()
        if self.later is not None:
            self.later.settle(self.iteration, self.ranks)
        return {
            **{f"critic/{key}": value for key, value in critic_metrics.items()},
            **{f"train/{key}": value for key, value in (value_metrics | policy_metrics).items()},
            "rollout/ep_rew_mean": -critic_metrics["ipm"],
            "train/learning_rate": self.policy_optimizer.param_groups[0]["lr"],
        }

    def set_learning_rates(self) -> None:
        """The three step sizes of now, by their schedules, and the critic's slope penalty."""
        c, left = self.config, self.progress_remaining
        set_learning_rate(self.policy_optimizer, decayed(self.learning_rate, c.lr_schedule, left))
        set_learning_rate(self.value_optimizer, decayed(c.value_learning_rate, c.lr_schedule, left))
        self.critic.set_learning_rate(decayed(c.critic_learning_rate, c.critic_lr_schedule or c.lr_schedule, left))
        if c.critic_slope_penalty is not None:
            weight = c.critic_slope_penalty / self.envs.table.num_steps
            self.critic.set_slope_penalty(decayed(weight, c.lr_schedule, left))

    @property
    def behaviour(self) -> DenoisingPolicy:
        """The policy that acts in the environments: the newest, on-policy."""
        return self.policy

    def unchanged(self) -> AbstractContextManager[None]:
        """Inside, the weights of `behaviour` stay as they are, see `Levels.unchanged`."""
        return self.behaviour.levels.unchanged()

    def start(self) -> Tensor:
        """Where the next rollout begins, (B, *shape)."""
        assert self.next_start is not None
        return self.next_start

    def rollout(self) -> Trajectories:
        """B trajectories of `behaviour`; scored where `needs_density`. Raises StopTraining when a callback says so."""
        start, self.next_start = self.start(), None
        try:
            newest, next_start = collect(
                self.envs, self.behaviour, start, self.generator, self.on_step, self.needs_density, self.ranks
            )
        except RankFailed:
            raise
        except FloatingPointError:
            self.ranks.fail()  # the other ranks wait in their on_step: they stop at this step too
            raise
        if newest is None:
            raise StopTraining
        self.next_start = next_start
        return newest

    def teach(self, newest: Trajectories) -> tuple[dict[str, float], Metrics]:
        """One step on f, then one on V.

        V is regressed on the scores of the newest f. A critic with ``wants_value_penalty`` is the exception: its
        penalty and V's regression are one loss, so both use the scores from before f's step. With the scores from
        after it, the penalty would no longer bound f, and f and V would grow without end.
        """
        joint = self.critic.wants_value_penalty
        score = self.score(newest) if joint else None
        critic_metrics = self.update_critic(newest)
        if not (self.uses_value or joint):
            return critic_metrics, {}
        return critic_metrics, self.update_value(newest, self.score(newest) if score is None else score)

    @torch.no_grad()
    def score(self, batch: Trajectories) -> Tensor:
        """What the sampler raises, (n,) of the samples x_0: `AgentConfig.reward` of the critic of now.

        The letter f(x_0) stands for it below.
        """
        return self.reward_of(batch.x0)

    def reward_of(self, x: Tensor) -> Tensor:
        """`Critic.reward` or f, as ``config.reward`` says, (*batch,) of events x (*batch, *shape); differentiable."""
        scores: Tensor = self.critic.reward(x) if self.config.reward == "derivative" else self.critic(x)
        return scores

    @cached_property
    def has_slope(self) -> bool:
        """Whether autograd finds a gradient through the reward; a function of numpy arrays has none. Looked at once."""
        x = torch.zeros(2, *self.dataset.shape, device=self.device)
        return isinstance(self.critic, TrainedCritic) or has_gradient(self.reward_of, x)

    def update_critic(self, newest: Trajectories) -> dict[str, float]:
        """One step on f: maximise mean f(data) - mean f(x_0), within the critic's regulariser; its metrics.

        Where the critic does not learn, only the distance "ipm" is measured.
        """
        if not self.critic_learns:
            return {"ipm": self.critic.distance(self.envs.data_batch(), newest.x0)}
        return self.envs.update_critic(newest.x0, self.value_penalty(newest), self.config.critic_data_batch)

    def value_penalty(self, newest: Trajectories) -> Penalty | None:
        """For critics with ``wants_value_penalty``, the error of V as a function of the scores f(x_0) (B,), else None.

        Variant (B) of SFT-PG: the gradient of the value error also reaches the critic.
        """
        if not self.critic.wants_value_penalty:
            return None
        with torch.no_grad():
            value = self.value(newest.xs[:-1], self.steps)  # (K, B)
        return lambda score: self.config.value_loss_weight * (value - score).square().mean()

    def update_value(self, newest: Trajectories, score: Tensor) -> Metrics:
        """One step on V: mean squared error to `value_target` of ``score`` f(x_0) (B,), at every step of the batch."""
        target = self.value_target(newest, score)
        refuse_non_finite(self.iteration, self.ranks, self.later, critic_score=target)
        loss, metrics = value_loss(self.value(newest.xs[:-1], self.steps), target)
        norm = descend("value", loss, self.value_optimizer, self.iteration, None, self.ranks, self.later)
        return {**metrics, "value_grad_norm": norm}

    def value_target(self, newest: Trajectories, score: Tensor) -> Tensor:
        """What V regresses, (K, B), from ``score`` f(x_0) (B,): the score itself at every step."""
        return score.expand(len(self.steps), -1)

    def advantages(self, batch: Trajectories) -> Tensor | None:
        """A (K, n) for the n_generator steps on theta, with f and V of now: f(x_0) - V(x[k], k).

        None for an algorithm that differentiates f or V instead.
        """
        if not self.uses_value:
            return None
        with torch.no_grad():
            return self.value_target(batch, self.score(batch)) - self.value(batch.xs[:-1], self.steps)

    def update_policy(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Metrics:
        """One step on theta; arguments as `policy_loss`, ``advantage`` (K, n) or None; returns scalars."""
        loss, metrics = self.policy_loss(batch, advantage, first)
        c = self.config
        norm = descend("policy", loss, self.policy_optimizer, self.iteration, c.max_grad_norm, self.ranks, self.later)
        return {**metrics, "loss": loss.detach(), "grad_norm": norm}

    def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
        """The loss (0-d) of one step on theta and its metrics, on the whole buffer ``batch`` of n trajectories.

        ``advantage`` (K, n) as `advantages` gave it; ``first``: theta is still the one that made the buffer.
        """
        raise NotImplementedError

    def with_kl(self, loss: Loss, law: GaussianStep, x: Tensor, k: Tensor) -> Loss:
        """``loss`` plus kl_coef * mean KL of ``law`` to the pretrained sampler's law at x[k] (Fan et al. 2023).

        ``x`` (*batch, *shape); steps ``k`` broadcast to (*batch,).
        """
        if self.config.kl_coef == 0:
            return loss
        with torch.no_grad():
            reference = self.reference(x, k)
        kl = law.kl(reference).mean()
        return loss[0] + self.config.kl_coef * kl, {**loss[1], "kl_penalty": kl.detach()}

    def after_step(self) -> None:
        """What follows each step on theta: the average takes it in."""
        self.average.update_parameters(self.policy)

    @property
    def parts(self) -> dict[str, Any]:
        """What is saved by name beside critic and environments, each with ``state_dict`` and ``load_state_dict``."""
        names = ("policy", "average", "value", "policy_optimizer", "value_optimizer")
        return {name: getattr(self, name) for name in names}

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """Every generator that draws for the algorithm, saved and resumed with it."""
        return self.generator, self.minibatch_generator, self.sample_generator

    # --- what can be read ----------------------------------------------------------------------------------------

    @property
    def sampler(self) -> DenoisingPolicy:
        """The averaged policy, which predict, sample and evaluate use."""
        return cast(DenoisingPolicy, self.average.module)

    @property
    def task(self) -> Task:
        """What the agent is trained on."""
        return Task.of_environment(self.env_kwargs, self.num_envs, str(self.device))

    @property
    def iteration_timesteps(self) -> int:
        """Environment steps of an iteration: n_critic rollouts."""
        return self.n_critic * self.num_envs * self.envs.table.num_steps

    @property
    def critic(self) -> Critic:
        """The environments' critic f."""
        return self.envs.critic

    @property
    def dataset(self) -> Dataset:
        """The environments' data."""
        return self.envs.dataset

    @property
    def critic_learns(self) -> bool:
        """``env_kwargs["train_critic"]``: False keeps the critic as it is given."""
        return bool(self.env_kwargs.get("train_critic", True))

    @property
    def network_evaluations(self) -> int:
        """Evaluations of the denoising network in training so far, one per state; measurements are not counted."""
        return self.policy.num_evaluations + self.reference.num_evaluations

    @property
    def progress_remaining(self) -> float:
        """1 at the start of the run, 0 at its end: what learning-rate schedules follow."""
        return max(0.0, 1.0 - self.num_timesteps / max(self.total_timesteps, 1))

    def diagnostics(self) -> dict[str, float]:
        """Metrics that cost something and are computed only when they are logged; see `agents.core.diagnostics`."""
        assert self.newest is not None
        return {
            **kl_to_pretrained(self.policy, self.reference, self.newest.xs),
            **critic_diagnostics(self.critic, self.dataset, self.newest.x0, self.seed, self.iteration),
            **exploration(self.policy),
            "rollout/ep_len_mean": self.policy.table.num_steps,
            "train/n_updates": self.iteration * self.config.n_generator,
            "train/weights_without_gradient": weights_without_gradient(self.policy_optimizer),
            "time/network_evaluations": self.network_evaluations,
        }

    # --- the verbs -----------------------------------------------------------------------------------------------

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 10,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train until ``total_timesteps`` environment steps (num_envs * K a rollout) are done.

        Arguments as in stable-baselines3: with ``reset_num_timesteps=False`` the steps are added to those done, and
        the learning rate follows the whole. ``callback``: none, one or a list, each an object or a plain function
        ``(locals, globals) -> bool``. ``log_interval`` counts iterations; None leaves it to callbacks. Each call starts
        a new numbered log folder ``tb_log_name``_N, unless it adds to the steps done under the same name. A value that
        is not finite stops the run with FloatingPointError, which names it, and saves the state beside the logs. A run
        that was stopped inside an episode goes on with new episodes.
        """
        learning.prepare(self, total_timesteps, callback, reset_num_timesteps, progress_bar)
        self.saved_ranks = self.ranks.size
        name = tb_log_name or self._log_name or type(self).__name__
        if self._logger is None or (self._log_name is not None and (reset_num_timesteps or name != self._log_name)):
            if self._logger is not None:
                self._logger.close()
            self.set_logger(learning.new_logger(self.tensorboard_log, name, self.ranks))
            self._log_name = name
        learning.run(self, log_interval)
        return self

    def resume(self, callback: MaybeCallback = None, log_interval: int = 10, progress_bar: bool = False) -> Self:
        """Do what is left of the interrupted ``learn``; its end is bit for bit that of an uninterrupted run (CPU).
        ValueError where another number of ranks has saved it."""
        together.check_resumable(self.saved_ranks, self.ranks.size)
        left = self.total_timesteps - self.num_timesteps
        return self if left <= 0 else self.learn(left, callback, log_interval, None, False, progress_bar)

    @torch.no_grad()
    def predict(
        self,
        observation: Mapping[str, Any],
        state: None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], None]:
        """The "step" action for one observation or a batch: x (*shape) or (n, *shape), step () or (n,).

        Returns ``(action, None)`` as stable-baselines3 does; the two arguments in the middle are for recurrent
        policies and not used. ``deterministic`` takes the mean. Raises ValueError on a finished sample.
        """
        x = torch.as_tensor(np.asarray(observation["x"]), dtype=torch.float32, device=self.device)
        k = torch.as_tensor(np.asarray(observation["step"]), dtype=torch.int64, device=self.device)
        if bool((k >= self.policy.table.num_steps).any()):
            raise ValueError(f"A finished sample (step {self.policy.table.num_steps}) has no next action; reset first.")
        law = self.sampler.deployed(x, k)
        x_next = law.mean if deterministic else law.sample(self.sample_generator)
        return self.policy.action(x, x_next, k).numpy(force=True), None

    def sample(self, n: int, seed: int | None = None) -> Tensor:
        """n samples (n, *shape) in data units, on the agent's device; ``seed`` None goes on with the agent's own.
        RuntimeWarning where some are not finite."""
        n, seed = checked(n, Count, "n"), checked(seed, Seed | None, "seed")
        generator = self.sample_generator if seed is None else stream(seed, "sampling", self.device)
        return with_warning(self.sample_with(n, generator))

    def sample_with(self, n: int, generator: torch.Generator) -> Tensor:
        """n samples (n, *shape) in data units from the noise of ``generator``."""
        return self.dataset.to_data(sample(self.sampler.deployed_table, self.sampler.net, n, generator))

    def evaluate(self, config: EvaluationConfig | None = None) -> dict[str, Any]:
        """The metrics of `diffusion_env.evaluation.protocol.evaluate`, in data units, of the current sampler."""
        return evaluate(self.sample_with, self.dataset, config)

    def save(self, path: str | Path) -> Path:
        """Write everything a bit-exact resume needs to one safetensors file with a JSON header, atomically.

        Exact between iterations: after ``learn``, or from a callback's ``on_rollout_start`` and ``on_rollout_end``.
        What a callback saves inside an episode is whole, but goes on with new episodes.
        """
        return persistence.save_agent(self, path)

    @classmethod
    def load(
        cls,
        path: str | Path,
        env_kwargs: Mapping[str, Any] | None = None,
        tensorboard_log: str | Path | None = None,
        device: str | torch.device = "cpu",
        num_envs: int | None = None,
        trust_paths: bool = False,
        **changes: Any,
    ) -> Self:
        """The agent that ``save`` wrote to ``path``, ready to sample or to go on learning exactly where it was.

        ``path`` may be the folder of a run. ``env_kwargs`` replaces keywords; those that were objects (a Dataset, a
        Critic), and paths unless ``trust_paths``, must be given again: see `agents.core.headers`. ``num_envs``: another
        B, with which the episodes begin anew. ``changes``: fields of the configuration by name, such as
        learning_rate=1e-4. Raises CheckpointError for a file that is not such an agent, or that the changes do not fit
        (those of a network's size); ValueError for a name that is no field, which lists them.
        """
        return persistence.load_agent(cls, path, env_kwargs, tensorboard_log, device, num_envs, changes, trust_paths)

    # --- what stable-baselines3's callbacks look for -------------------------------------------------------------

    @property
    def logger(self) -> Logger:
        """stable-baselines3's logger; present once ``learn`` or ``set_logger`` was called."""
        if self._logger is None:
            raise RuntimeError("There is no logger yet: call learn() or set_logger() first.")
        return self._logger

    def set_logger(self, logger: Logger) -> None:
        """Log to ``logger`` (see stable_baselines3.common.logger.configure) from now on."""
        self._logger, self._log_name = logger, None

    @property
    def logged(self) -> Mapping[str, Any] | None:
        """`agents.core.logs.log_state` of the present logger; before there is one, of the file that was loaded."""
        return self.loaded_log if self._logger is None else log_state(self._logger)

    def dump_logs(self) -> None:
        """Write a line of metrics now (LogEveryNTimesteps asks)."""
        learning.log(self)

    gamma = 1.0
    """Rewards are not discounted."""

    if not TYPE_CHECKING:  # the type checker knows the fields of ``config``

        def __getattr__(self, name: str) -> Any:
            """A field of ``config``: models of stable-baselines3 have their hyper-parameters as attributes."""
            config = vars(self).get("config")
            if config is None or name not in (f.name for f in fields(config)):
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}, and its config no such field.")
            return getattr(config, name)

    def get_env(self) -> DDPMShortcutVectorEnv:
        """The training environments."""
        return self.envs

    def get_vec_normalize_env(self) -> None:
        """None: observations and rewards are never normalised (EvalCallback asks)."""
        return None

    def on_step(self, ended: bool, reward: Tensor) -> bool:
        """After each step of the environments, whose episodes all ``ended`` or none; reward (B,); False to stop."""
        self.num_timesteps += self.num_envs
        return self.ranks.agree(learning.told(self.callbacks, ended, reward, self.policy.table.num_steps))

    def restart(self) -> None:
        """Begin new episodes if a rollout was interrupted."""
        if self.next_start is None:
            self.next_start = self.envs.reset()[0]["x"]
