"""Critics: learned rewards that tell samples from data."""

from diffusion_env.critics.base import Critic, Penalty
from diffusion_env.critics.baseline import BaselineCritic
from diffusion_env.critics.energy import EnergyCritic
from diffusion_env.critics.factory import CRITICS, load_critic, make_critic
from diffusion_env.critics.frozen import FrozenCritic
from diffusion_env.critics.mmd import MMDCritic
from diffusion_env.critics.trained import TrainedCritic
from diffusion_env.critics.wasserstein import GradientPenaltyCritic, SpectralNormCritic, WeightClippingCritic

__all__ = [
    "CRITICS",
    "BaselineCritic",
    "Critic",
    "EnergyCritic",
    "FrozenCritic",
    "GradientPenaltyCritic",
    "MMDCritic",
    "Penalty",
    "SpectralNormCritic",
    "TrainedCritic",
    "WeightClippingCritic",
    "load_critic",
    "make_critic",
]
