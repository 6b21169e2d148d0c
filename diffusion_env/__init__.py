"""Denoising as a reinforcement-learning environment: importing this package registers `ENV_ID` and `FLAT_ENV_ID`."""

import gymnasium as gym

ENV_ID = "DDPMShortcut-v0"
FLAT_ENV_ID = "DDPMShortcutFlat-v0"
"""The same with ``observation="flat"``: one array of x and step / K, for algorithms that take no Dict."""

for _id, _kwargs in ((ENV_ID, {}), (FLAT_ENV_ID, {"observation": "flat"})):
    if _id not in gym.registry:
        gym.register(
            id=_id,
            entry_point="diffusion_env.env:DDPMShortcutEnv",
            vector_entry_point="diffusion_env.vector_env:DDPMShortcutVectorEnv",
            kwargs=_kwargs,
        )
