"""Keywords of a named critic through `gym.make` and `gym.make_vec`: used, kept in the spec, refused where wrong."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium.envs.registration import EnvSpec

from diffusion_env.critics import EnergyCritic, make_critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.networks.layers import Convolution
from diffusion_env.vector_env import DDPMShortcutVectorEnv

ID = "DDPMShortcut-v0"
KEYWORDS = {"gamma": 0.7, "width": 24, "body": "mlp"}


def critic_of(env: Any) -> EnergyCritic:
    critic = env.unwrapped.critic
    assert isinstance(critic, EnergyCritic)
    return critic


@pytest.mark.parametrize("batched", [False, True])
def test_the_named_critic_is_made_with_them(batched: bool) -> None:
    def make(**keywords: Any) -> Any:
        kwargs: dict[str, Any] = {"num_steps": 1, "dataset": "gaussians8", **keywords}
        return gym.make_vec(ID, num_envs=3, **kwargs) if batched else gym.make(ID, **kwargs)

    critic = critic_of(make(critic="energy", critic_kwargs=KEYWORDS))
    assert KEYWORDS.items() <= critic.config.items()
    assert critic.gamma != critic_of(make(critic="energy")).gamma
    assert critic_of(make(critic_kwargs={"gamma": 0.7})).gamma == 0.7  # "energy" is the default


def test_the_spec_with_them_survives_json() -> None:
    made = gym.make(ID, dataset="gaussians8", num_steps=2, critic="energy", critic_kwargs=KEYWORDS)
    assert made.spec is not None
    again = gym.make(EnvSpec.from_json(made.spec.to_json()))
    assert again.spec == made.spec and critic_of(again).config == critic_of(made).config


@pytest.mark.parametrize("make", [DDPMShortcutEnv, DDPMShortcutVectorEnv])
def test_wrong_ones_are_refused(make: Any, ring: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"critic_kwargs.*\['gama'\].*gamma: a finite number >= 0 \(0.3\)"):
        make(dataset=ring, critic="energy", critic_kwargs={"gama": 0.3})
    critic = make_critic("energy", ring.shape)
    for given in (critic, critic.save(tmp_path / "critic")):
        with pytest.raises(ValueError, match="leave critic_kwargs out, or give a name"):
            make(dataset=ring, critic=given, critic_kwargs={"gamma": 0.3})


@pytest.mark.parametrize("make", [DDPMShortcutEnv, DDPMShortcutVectorEnv])
def test_they_stand_beside_the_critic(make: Any) -> None:
    code = make.__init__.__code__
    names = code.co_varnames[: code.co_argcount]
    assert names[names.index("critic") + 1] == "critic_kwargs"


def test_images_get_a_convolutional_critic_that_learns() -> None:
    points = torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = Dataset("images", points[:300], points[300:], torch.zeros(1, 8, 8), 1.0)
    envs = DDPMShortcutVectorEnv(128, data, num_steps=1, critic_kwargs={"width": 16}, array_type="torch")
    assert any(isinstance(layer, Convolution) for layer in envs.critic.modules())
    envs.reset(seed=0)
    before = [weight.clone() for weight in envs.critic.parameters()]
    *_, infos = envs.step(torch.zeros(128, 1, 8, 8))
    assert infos["final_info"]["critic_score"].isfinite().all()
    assert not any(torch.equal(a, b) for a, b in zip(before, envs.critic.parameters(), strict=True))
