"""From a name, keywords, a path or a function to a critic."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_env.checkpoints import CheckpointError, Header, save_checkpoint, save_object
from diffusion_env.critics import CRITICS, Critic, EnergyCritic, load_critic, make_critic

NAMES = ["baseline", "energy", "gradient_penalty", "mmd", "spectral_norm", "weight_clipping"]


def test_the_names() -> None:
    assert sorted(CRITICS) == sorted([*NAMES, "frozen"])
    assert all(CRITICS[name].name == name for name in CRITICS)


@pytest.mark.parametrize("name", ["wgan", "frozen", "energy "])
def test_unknown_name_lists_the_names(check_paragraph: Callable[..., Any], name: str) -> None:
    with pytest.raises(ValueError) as error:
        make_critic(name, (2,))
    check_paragraph(error, repr(name), *NAMES, "frozen:path")


def test_critic_of_another_shape(check_paragraph: Callable[..., Any], tmp_path: Path) -> None:
    critic = EnergyCritic((3,))
    for given in (critic, critic.save(tmp_path / "c")):
        with pytest.raises(ValueError) as error:
            make_critic(given, (2,))
        check_paragraph(error, "(3,)", "(2,)", "make_critic")


def test_checkpoints_that_hold_no_critic(check_paragraph: Callable[..., Any], tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path / "policy", {}, {"kind": "agent"})
    for given, word in ((tmp_path / "absent", "absent"), (other, "'agent'"), (f"frozen:{other}", "'agent'")):
        with pytest.raises(CheckpointError) as error:
            make_critic(given, (2,))
        check_paragraph(error, word)


def test_critic_file_whose_weights_do_not_fit_its_configuration(
    check_paragraph: Callable[..., Any], tmp_path: Path
) -> None:
    small, large = EnergyCritic((2,), width=8), EnergyCritic((2,), width=16)
    path = save_object(tmp_path / "c", Header("critic", "energy", large.config), small.state_dict())
    with pytest.raises(CheckpointError) as error:
        make_critic(path, (2,))
    check_paragraph(error, "(8, 130)", "(16, 130)")


def test_keywords_build_a_named_critic() -> None:
    critic = make_critic("energy", (2,), seed=3, kwargs={"gamma": 0.7, "width": 24, "depth": 2})
    assert isinstance(critic, EnergyCritic) and critic.gamma == 0.7
    expected = EnergyCritic((2,), seed=3, gamma=0.7, width=24, depth=2)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(critic(x), expected(x))
    assert not torch.equal(critic(x), make_critic("energy", (2,), seed=3)(x))


@pytest.mark.parametrize("name", NAMES)
def test_the_config_builds_the_same_critic(name: str) -> None:
    """So a saved critic comes back with the keywords it was made with, the body that the shape chose among them."""
    keywords: dict[str, Any] = {"bandwidths": [0.5, 2]} if name == "mmd" else {"width": 16, "depth": 1}
    critic = make_critic(name, (1, 8, 8), seed=5, kwargs=keywords)
    assert keywords.items() <= critic.config.items()
    assert name == "mmd" or critic.config["body"] == "conv"
    constructor: Callable[..., Critic] = CRITICS[name]
    again = constructor(**critic.config)
    assert again.config == critic.config == json.loads(json.dumps(critic.config))
    assert all(torch.equal(a, b) for a, b in zip(critic.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "keywords", "error", "words"),
    [
        ("energy", {"gama": 0.3}, ValueError, ["['gama']", "gamma: a finite number >= 0 (0.3)", "body: None or a str"]),
        ("energy", {"seed": 1}, ValueError, ["['seed']", "width: an integer in [1, 8192] (256)"]),
        ("energy", {"width": 0}, ValueError, ["width must be an integer in [1, 8192]", "received 0"]),
        ("energy", {"width": "wide"}, TypeError, ["width must be an integer", "'wide'"]),
        ("baseline", {"gamma": 1.0}, ValueError, ["['gamma']", "value_weight: a finite number >= 0 (1.0)"]),
        ("mmd", {"bandwidths": [1.0, -2.0]}, ValueError, ["bandwidths must be", "None or a tuple", "[1.0, -2.0]"]),
        ("mmd", {"bandwidths": "wide"}, TypeError, ["None or a tuple, each entry a finite number > 0", "'wide'"]),
        ("mmd", {"body": "conv"}, ValueError, ["['body']", "max_references: an integer >= 1 (512)"]),
        ("energy", {"body": "unet"}, ValueError, ["'unet'", "['conv', 'mlp']"]),
        ("energy", {"body": "conv"}, ValueError, ["(2,)", "images (C, H, W)"]),
    ],
)
def test_wrong_keywords_are_refused_with_the_right_ones(
    check_paragraph: Callable[..., Any], name: str, keywords: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        make_critic(name, (2,), kwargs=keywords)
    check_paragraph(caught, *words)


def test_keywords_need_a_name(check_paragraph: Callable[..., Any], tmp_path: Path) -> None:
    critic = EnergyCritic((2,))
    path = critic.save(tmp_path / "critic")
    for given in (critic, path, str(path), f"frozen:{path}", lambda x: x[..., 0]):
        with pytest.raises(ValueError) as error:
            make_critic(given, (2,), kwargs={"gamma": 0.3})
        check_paragraph(error, "{'gamma': 0.3}", "leave critic_kwargs out")
        assert make_critic(given, (2,), kwargs={}).shape == (2,)


@pytest.mark.parametrize(
    ("name", "config", "word"),
    [
        ("os.system", {"shape": [2], "seed": 0}, "CRITICS['os.system'] = YourCritic"),
        ("energy", {"shape": [2], "seed": 0, "command": "ls"}, "['command']"),
        ("energy", {"shape": 2, "seed": 0}, "'energy'"),
        ("energy", {"seed": 0}, "'shape'"),
        ("frozen", {"name": "frozen", "config": {}}, "no critic inside"),
        ("frozen", {"name": "sys.exit", "config": {"shape": [2]}}, "'sys.exit'"),
        ("frozen", {}, "no critic inside"),
    ],
)
def test_forged_headers_are_refused(tmp_path: Path, name: str, config: dict[str, Any], word: str) -> None:
    path = save_object(tmp_path / "c", Header("critic", name, config), EnergyCritic((2,)).state_dict())
    with pytest.raises(CheckpointError) as error:
        make_critic(path, (2,))
    assert word in str(error.value)


def test_a_critic_of_one_s_own_works_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Shifted(EnergyCritic):
        name = "shifted"

    monkeypatch.setitem(CRITICS, "shifted", Shifted)
    critic = make_critic("shifted", (2,), kwargs={"gamma": 0.5})
    assert isinstance(critic, Shifted) and critic.gamma == 0.5
    path = critic.save(tmp_path / "own")
    assert isinstance(load_critic(path), Shifted)
    monkeypatch.delitem(CRITICS, "shifted")
    with pytest.raises(CheckpointError, match="holds a critic 'shifted', which is none of baseline"):
        load_critic(path)


@pytest.mark.parametrize("critic", [3, None, ["energy"], b"energy", EnergyCritic])
def test_what_is_no_critic_is_refused_in_words(critic: Any) -> None:
    with pytest.raises(TypeError, match=r"A critic is a name, a path, a Critic or a reward function.*Names: baseline"):
        make_critic(critic, (2,))


@pytest.mark.parametrize("shape", [None, 3, "ab", (2.5,), (0,), (), (10**9, 10**9)])
def test_what_is_no_shape_is_refused_in_words(shape: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="shape"):
        make_critic("energy", shape)


@pytest.mark.parametrize("name", ["energy", "gradient_penalty", "mmd"])
@pytest.mark.parametrize("change", [{"width": 8_000}, {"depth": 126}, {"num_features": 10**6}, {"shape": [10**6]}])
def test_a_header_asks_for_no_larger_network_than_the_file_holds(
    tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    critic = make_critic(name, (2,), kwargs={} if name == "mmd" else {"width": 8})
    path = save_object(tmp_path / "c", Header("critic", name, {**critic.config, **change}), critic.state_dict())
    with pytest.raises(CheckpointError, match=f"{next(iter(change))} is [0-9]*, which is too large for the file"):
        load_critic(path)
