"""Denoising as a reinforcement-learning environment: importing this package registers ``DDPMShortcut-v0``."""

import gymnasium as gym

ENV_ID = "DDPMShortcut-v0"

if ENV_ID not in gym.registry:
    gym.register(
        id=ENV_ID,
        entry_point="diffusion_env.env:DDPMShortcutEnv",
        vector_entry_point="diffusion_env.vector_env:DDPMShortcutVectorEnv",
    )
