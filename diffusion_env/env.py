"""``DDPMShortcut-v0``: the sampling of a diffusion model as a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from diffusion_env.assembly import (
    RENDER_MODES,
    EnvArguments,
    ObservationKind,
    ProcessViews,
    action_space,
    build_process,
    checked_render_mode,
    flat_observation,
    observation_space,
)
from diffusion_env.checks import START, check_finite_start, checked_options, checked_seed, tensor_of
from diffusion_env.critics import Critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.process import ActionMode
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.tables import StepTable

Observation = Any
"""Dict(x=..., step=...), or one array; see ``observation``."""


class DDPMShortcutEnv(ProcessViews, gym.Env[Observation, Any]):
    """Draw one sample with a few-step diffusion sampler; be rewarded by a critic that tells samples from data.

    ## Description

    A sampler of a diffusion model is a table of K steps (`StepTable`), from noise to data:

        x[k+1] = x_coef[k] * x[k] + eps_coef[k] * eps(x[k], time[k]) + std[k] * z,    z ~ N(0, I)

    with eps a pretrained network. Here an agent takes the place of the network and the noise: one denoising step is
    one environment step, and an episode is one sample. The only reward comes at the end, from a critic f that is high
    on data and low on samples; the environment trains it on its finished episodes. To raise the mean return is to
    lower the integral probability metric (IPM) between samples and data. The sampler need not follow the backward
    diffusion: it may find a shortcut (Fan & Lee, "Optimizing DDPM Sampling with Shortcut Fine-Tuning", ICML 2023).

    >>> import gymnasium as gym
    >>> import numpy as np
    >>> import diffusion_env
    >>> env = gym.make("DDPMShortcut-v0", num_steps=5, action_mode="residual")
    >>> obs, info = env.reset(seed=0)
    >>> obs["x"].shape, int(obs["step"])
    ((2,), 0)
    >>> rng = np.random.default_rng(0)
    >>> terminated = False
    >>> while not terminated:  # standard normal actions: the pretrained sampler
    ...     action = rng.standard_normal(2).astype(np.float32)
    ...     obs, reward, terminated, truncated, info = env.step(action)
    >>> int(obs["step"]), sorted(info)
    (5, ['critic_score', 'data_score'])
    >>> bool(np.isclose(reward, info["critic_score"] - info["data_score"]))
    True
    >>> env.unwrapped.dataset.to_data(obs["x"]).shape
    (2,)

    `gymnasium.make_vec` makes n environments as one batch, in numpy or torch: see `DDPMShortcutVectorEnv`.

    ## Action Space

    `Box(-10, 10, shape, float32)`, of the shape of one data point.

    - `action_mode="step"`: x[k+1] = x_coef[k] * x[k] + sqrt(eps_coef[k]^2 + std[k]^2) * action. Needs no network. The
      pretrained sampler's own actions have about unit variance (1.0 at step 0, 0.5 to 0.9 at the other steps, with
      "ddpm", K = 10, on the swiss roll).
    - `action_mode="residual"`: x[k+1] = (pretrained mean) + std[k] * action. Actions drawn from N(0, I) give the
      pretrained sampler, and the action 0 gives its mean. If std[k] = 0 (DDIM), actions have no effect.

    Any array or list of numbers is taken and converted to float32; NaN, infinity and other shapes are refused. The box
    has bounds because some algorithms need them; the environment never clips. In "residual" mode a component of the
    pretrained sampler's action leaves the box with probability 1.5e-23. In "step" mode none of 2.0e7 components left it
    ("ddpm", K = 10, swiss roll): a share of 7.5e-6 was beyond 6, of 7.5e-7 beyond 8, and the largest was 9.3.

    ## Observation Space

    `Dict(x=Box(-inf, inf, shape, float32), step=Discrete(K + 1))`: the particle in network units (data standardised to
    about unit variance, images in [-1, 1]; `dataset.to_data(x)` gives data units) and the number of denoising steps
    done. The terminal observation has step = K, and its x is the finished sample x_0.

    `observation="flat"`, which is what the id `DDPMShortcutFlat-v0` stands for, is for algorithms that take no Dict:
    one `Box` of shape (D + 1,), float32, x flattened to its D components and then step / K in [0, 1].

    >>> flat = gym.make("DDPMShortcutFlat-v0", num_steps=4)
    >>> obs, _ = flat.reset(options={"x": np.array([0.5, -1.0])})
    >>> obs.tolist(), flat.step([0.0, 0.0])[0][-1].item()
    ([0.5, -1.0, 0.0], 0.25)

    ## Rewards

    0 before the last step, then f(x_0) minus the mean of f over a fresh batch of data. The batch has 128 points (in a
    vector of n environments n points, but at least 128 and at most 512). The mean return is minus the critic's
    estimate of the IPM between data and sampler, so it rises towards 0.

    With `train_critic=True` the environment collects its finished samples. As soon as there are 128, the critic makes
    one step on all of them against as many data points, and then it scores the sample that completed them: a reward
    always comes from the newest critic. A vector of 128 or more environments makes a critic step at the end of every
    episode.

    The `info` of the last step holds `critic_score`, f(x_0), and `data_score`, the mean of f over data; their
    difference is the reward. All other infos are empty.

    ## Starting State

    x[0] ~ N(0, I), step = 0.

    `reset(seed=...)` fixes all that the environment draws from then on: starts, data batches and critic batches. It
    also forgets the samples collected for the critic, and it resets a critic that was given by name to the weights of
    that seed. So the same seed and the same actions give the same bits. A `Critic` object that you pass is never
    reset, because it is yours: what it has learned stays. The same seed then gives the same bits only if the critic
    has the same weights. `reset()` without a seed continues with the same generator and the same critic.

    `reset(options={"x": start})` starts at a copy of `start` (*shape), a finite array in network units, and draws
    nothing for it; `start` has the shape of a data point, also where observations are flat. With a stored x[0] and the
    same actions an episode is replayed. A `seed` given with it still fixes every later draw. Other options are refused.

    ## Episode End

    Terminated after K steps, always; never truncated.

    ## Arguments

    - `dataset` = "swiss_roll": a name ("swiss_roll", "moons", "gaussians8", "gaussians25", "checkerboard", "pinwheel",
      "rings", "spirals", "digits", "fashion_mnist", "fashion_mnist_16", "cifar10", "celeba"), NAME:PATH that says where
      the files of such an image set lie ("cifar10:cifar-10-python.tar.gz"), a path to a `.npz` or `.npy` file of points
      (N, D) or of uint8 images (N, C, H, W), to a folder of images, or a `Dataset`.
    - `num_steps` = 10: K >= 1.
    - `sampler` = "ddpm": "ddpm", "ddim", "fastdpm", "fastdpm_step", "published_toy", or a `StepTable` of K rows.
    - `action_mode` = "step": "step" or "residual".
    - `denoiser` = None: the pretrained network of "residual": a data set's name, a path (a file of ours, a folder of
      diffusers, a .ckpt or .pth file of FastDPM or SFT-PG), or a module with attributes `shape` and `schedule`; None
      takes the weights shipped for the data set. Its noise schedule makes the table.
    - `critic` = "energy": "energy", "gradient_penalty", "spectral_norm", "weight_clipping", "baseline", "mmd",
      "frozen:PATH" or the path of a saved critic, whose weights then stay fixed, or a `Critic`.
    - `critic_kwargs` = None: a dict of keywords for a critic given by name, such as `dict(gamma=0.3, width=512,
      body="conv")`. "energy" takes `gamma`, "gradient_penalty" `gradient_weight`, "weight_clipping" `clip`, "baseline"
      `value_weight`; each of these and "spectral_norm" takes `width`, `depth`, `learning_rate` and `body`, which is
      "mlp", "conv" or None (by shape: "conv" for images whose sides have at least 8 pixels, "mlp" for all else). "mmd"
      takes `bandwidths` and `max_references`. A wrong keyword raises an error that lists the right ones.
      A reward function of your own may stand for the critic: it takes a tensor (N, *shape), float32, of any size N and
      gives one score per event, a tensor (N,).
    - `train_critic` = True: whether the environment trains the critic on its own finished episodes.
    - `observation` = "dict": "dict" or "flat", one array of x and step / K.
    - `render_mode` = None: "rgb_array" draws the particle and its path over the data's density, images as images.

    The vector environment takes `array_type` = "numpy" (or "torch"), `device` = "cpu", `autoreset_mode` =
    AutoresetMode.SAME_STEP and `max_episode_steps` = None too. `critic`, `dataset`, `table` and `denoiser` are
    attributes of `env.unwrapped`.

    ## Version History

    - v0: first version.
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": 10}

    def __init__(
        self,
        dataset: str | Path | Dataset = "swiss_roll",
        num_steps: int = 10,
        sampler: str | StepTable = "ddpm",
        action_mode: ActionMode = "step",
        denoiser: str | Path | Denoiser | None = None,
        critic: str | Path | Critic = "energy",
        critic_kwargs: Mapping[str, Any] | None = None,
        train_critic: bool = True,
        observation: ObservationKind = "dict",
        render_mode: str | None = None,
    ) -> None:
        """See the class, section Arguments."""
        self.render_mode = checked_render_mode(render_mode)
        arguments = EnvArguments(
            1, dataset, num_steps, sampler, action_mode, denoiser, critic, critic_kwargs, train_critic, observation
        )
        self.process, self.observation = build_process(arguments), arguments.observation
        self.observation_space = observation_space(self.process, self.observation)
        self.action_space = action_space(self.process)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start a new sample at x[0] ~ N(0, I), or at ``options["x"]``; see the class, section Starting State."""
        seed = checked_seed(seed)
        start = self._start(checked_options(options, ["x"]))
        super().reset(seed=seed)
        self.seed_process(seed, self.np_random)
        self.process.reset(start=start)
        return self._observation(), {}

    def _start(self, options: dict[str, Any]) -> Tensor | None:
        if "x" not in options:
            return None
        start = tensor_of(START, options["x"], self.process.shape, self.process.device)[None]
        check_finite_start(start)
        return start

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One denoising step under ``action`` (*shape)."""
        outcome = self.process.step(tensor_of("The action", action, self.process.shape, self.process.device)[None])
        finished = outcome.finished is not None
        info = {}
        if finished:
            info = {"critic_score": float(outcome.critic_score[0]), "data_score": float(outcome.data_score[0])}
        return self._observation(), float(outcome.reward[0]), finished, False, info

    def render(self) -> NDArray[np.uint8] | None:
        """The particle's path so far over the data's density, (H, W, 3); None without a render mode."""
        if self.render_mode is None:
            return None
        from diffusion_env.rendering import render_particles

        return render_particles(self.process)

    def _observation(self) -> Observation:
        if self.observation == "flat":
            return flat_observation(self.process, self.process.x)[0].numpy()
        # A copy: an observation that was returned must not change in later steps.
        return {"x": self.process.x[0].numpy().copy(), "step": np.int64(self.process.k[0])}
