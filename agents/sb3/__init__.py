"""The bridge to stable-baselines3; every name is imported from its module when first used."""

from importlib import import_module
from typing import Any

_HOME = {
    "SB3_ALGORITHMS": "registry",
    "CriticSchedule": "callbacks",
    "DDPMShortcutVecEnv": "vec_env",
    "DenoisingActorCriticPolicy": "policies",
    "NetworkEvaluations": "counting",
    "NewestReward": "relabelling",
    "RelabellingReplayBuffer": "relabelling",
    "SB3Run": "run",
    "denoising_policy_kwargs": "policies",
    "make_sb3": "registry",
    "relabelling_kwargs": "relabelling",
    "sb3_sampler": "samplers",
    "start_at_pretrained": "starts",
    "unit_noise": "starts",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    # PEP 562: importing the agents' other parts must not wait for stable-baselines3.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}.")
    return getattr(import_module(f"agents.sb3.{_HOME[name]}"), name)
