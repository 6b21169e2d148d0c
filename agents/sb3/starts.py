"""Starting the off-policy algorithms near the pretrained sampler, in ``action_mode="residual"``.

There an action ~ N(0, I) is the pretrained sampler. SB3's SAC and TD3 act in [-1, 1], which is stretched to the
environment's box [-b, b]: N(0, 1 / b^2) around 0 is what they need.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from agents.sb3.vec_env import DDPMShortcutVecEnv


def unit_noise(env: DDPMShortcutVecEnv) -> NormalActionNoise:
    """TD3's exploration that stands for N(0, I) in the environment's units: around mean 0, its pretrained sampler."""
    mean = np.zeros(env.dataset.shape)
    return NormalActionNoise(mean, mean + 1 / _bound(env))


def unit_entropy(env: DDPMShortcutVecEnv) -> float:
    """The entropy, in nats, of an action N(0, I) scaled to [-1, 1]: as SAC's target it keeps the noise as it is."""
    return math.prod(env.dataset.shape) * (0.5 * math.log(2 * math.pi * math.e) - math.log(_bound(env)))


@torch.no_grad()
def start_at_pretrained(model: SAC | TD3) -> None:
    """Set the actor's last layers so that it starts at mean 0 and, for SAC, at std 1 in the environment's units.

    SAC's tanh leaves a small difference from N(0, I); TD3 needs `unit_noise` as its action noise.
    """
    env = model.get_env()
    assert env is not None
    if isinstance(model, SAC):
        _constant(cast(nn.Linear, model.actor.mu), 0.0)
        _constant(cast(nn.Linear, model.actor.log_std), -math.log(_bound(env)))
        return
    for actor in (model.actor, model.actor_target):
        _constant([layer for layer in actor.mu.modules() if isinstance(layer, nn.Linear)][-1], 0.0)


def _constant(layer: nn.Linear, value: float) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)


def _bound(env: VecEnv) -> float:
    assert isinstance(env.action_space, spaces.Box)
    return float(env.action_space.high.max())
