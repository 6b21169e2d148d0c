r"""SFT-PG: shortcut fine-tuning with policy gradient (Fan & Lee, ICML 2023, arXiv 2301.13362, algorithm 1).

    repeat
        n_critic times:     roll out B trajectories; one step on f: maximise mean f(data) - mean f(x_0);
                            one step on V: mean over k of (V(x[k], k) - f(x_0))^2                    `IPMAgent.iterate`
        n_generator times:  one step on theta: - mean[ A log p_theta(x[k+1] | x[k]) ],
                            A = f(x_0) - V(x[k], k), f and V of now                         `PolicyGradient.policy_loss`

The theorem (4.1): the IPM's gradient is -E[ f(x_0) sum_k grad log p_theta(x[k+1] | x[k]) ], so maximising f by policy
gradient minimises the IPM. Ours differs from the paper where it was measured to matter: every transition of the buffer
is used, A is a lambda-average, step sizes decay, the sampler is averaged; the preset `sft_pg_paper` is the
published setting.
"""

from __future__ import annotations

from agents.algorithms.policy_gradient import PolicyGradient


class SFTPG(PolicyGradient):
    """Policy gradient with a value baseline and a critic that learns beside it; see `Agent` for the verbs.

    Example::

        agent = SFTPG("DDPMShortcut-v0", num_envs=128, env_kwargs=dict(num_steps=10), seed=0, tensorboard_log="runs")
        agent.learn(total_timesteps=2_000_000, progress_bar=True)
        x0 = agent.sample(10_000)
    """

    name = "sft_pg"
