"""Critics: learned rewards that tell samples from data."""

from diffusion_env.critics.base import Critic, Penalty
from diffusion_env.critics.energy import EnergyCritic
from diffusion_env.critics.factory import CRITICS, make_critic

__all__ = ["CRITICS", "Critic", "EnergyCritic", "Penalty", "make_critic"]
