"""The named algorithms: a table of configurations, each with the paper it stands for.

Presets differ only where the papers differ. Where a paper's own numbers (batch, step size) belong to images, the preset
keeps the step sizes of `sft_pg`; `sft_pg_paper` is the one preset that repeats a published setting in full.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from agents.algorithms.config import DxDPConfig, PathwiseConfig, PolicyGradientConfig
from agents.core.config import AgentConfig


@dataclass(frozen=True)
class Preset:
    """One named algorithm."""

    agent: str
    """Name of the agent, a key of `AGENTS`."""
    config: AgentConfig
    """Its hyper-parameters."""
    source: str
    """Where it comes from."""


_FAMILY = "agents.algorithms.policy_gradient"

AGENTS: dict[str, str] = {
    "reinforce": f"{_FAMILY}:Reinforce",
    "sft_pg": f"{_FAMILY}:SFTPG",
    "ddpo": f"{_FAMILY}:DDPO",
    "dpok": f"{_FAMILY}:DPOK",
    "grpo": f"{_FAMILY}:GRPO",
    "rwr": f"{_FAMILY}:RWR",
    "dxdp": "agents.algorithms.dxdp:DxDP",
    "pathwise": "agents.algorithms.pathwise:Pathwise",
}
"""Name of an agent, and its class as "module:Class"."""

_PLAIN = PolicyGradientConfig()

EVERY_K: dict[str, Any] = {
    "n_critic": 1,
    "n_critic_exponent": 0.5,
    "learning_rate": 3e-3,
    "learning_rate_exponent": 0.7,
    "critic_learning_rate": 5e-3,
    "critic_lr_schedule": "constant",
    "critic_data_batch": 512,
    "critic_slope_penalty": 0.03,
    "ema_decay": None,
    "ema_width": 0.1,
}
"""Settings of `sft_pg` and `pathwise` that need no tuning at any K from 1 to 20; benchmarks/DEFAULTS.md has what each
is worth."""

PRESETS: dict[str, Preset] = {
    "reinforce": Preset(
        "reinforce",
        replace(_PLAIN, baseline="none"),
        "Williams 1992; DDPO-SF of Black et al., ICLR 2024, arXiv 2305.13301",
    ),
    "sft_pg": Preset(
        "sft_pg",
        replace(_PLAIN, baseline="stein", **EVERY_K),
        "Fan & Lee, ICML 2023, arXiv 2301.13362, algorithm 1, with the baseline V(x[k+1], k+1) and our settings",
    ),
    "sft_pg_paper": Preset(
        "sft_pg",
        PolicyGradientConfig(
            minibatch_size=128,
            gae_lambda=1.0,
            learning_rate=5e-5,
            critic_learning_rate=1e-3,
            value_learning_rate=1e-3,
            adam_beta1=0.9,
            adam_beta2=0.999,
            lr_schedule="constant",
            max_grad_norm=None,
            ema_decay=0.0,
            value_width=256,
        ),
        "Fan & Lee, ICML 2023, the swiss-roll setting of their code: 4,800 policy steps of 128 transitions",
    ),
    "ddpo": Preset(
        "ddpo",
        replace(_PLAIN, baseline="none", surrogate="clip", advantage_normalization="batch", n_generator=4),
        "DDPO-IS of Black et al., ICLR 2024, arXiv 2305.13301",
    ),
    "dpok": Preset(
        "dpok",
        replace(_PLAIN, kl_coef=0.01),
        "Fan et al., NeurIPS 2023, arXiv 2305.16381; the KL of a step is weighted by its std, the official one is not",
    ),
    "grpo": Preset(
        "grpo",
        replace(
            _PLAIN,
            baseline="group",
            group_size=8,
            surrogate="clip",
            advantage_normalization="group",
            kl_coef=0.001,
            n_generator=4,
        ),
        "DanceGRPO, Xue et al. 2025, arXiv 2505.07818: a group shares x[0] and is normalised by its own std. Flow-GRPO "
        "(Liu et al. 2025, arXiv 2505.05470) has different starts and one std for all; its KL penalty is added here",
    ),
    "rwr": Preset(
        "rwr",
        replace(_PLAIN, baseline="none", surrogate="regression", advantage_normalization="batch"),
        "Peters & Schaal, ICML 2007, on the sampler's own steps; not the RWR of Black et al., ICLR 2024, which is a "
        "denoising loss on x_0 that is noised forward",
    ),
    "dxdp": Preset(
        "dxdp",
        DxDPConfig(),
        "The value gradient of DxMI, Yoon et al., NeurIPS 2024, arXiv 2407.00626, "
        "without its K sequential TD steps, its time cost and its adaptive velocity",
    ),
    "pathwise": Preset(
        "pathwise",
        PathwiseConfig(**EVERY_K),
        "DRaFT and DRaFT-K, Clark et al., ICLR 2024, arXiv 2309.17400; "
        "not ShortFT, which needs a second, distilled model",
    ),
}


def preset(name: str, **changes: Any) -> AgentConfig:
    """The configuration of the algorithm called ``name``, with ``changes``; ValueError lists the names there are."""
    if name not in PRESETS:
        raise ValueError(f"Unknown algorithm {name!r}. Choose one of {list(PRESETS)}.")
    return replace(PRESETS[name].config, **changes)
