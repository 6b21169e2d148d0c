"""Bodies by name and by shape: what is chosen, what comes out, where the weights come from."""

import math

import pytest
import torch
from torch import nn

from diffusion_env.networks.bodies import BODIES, POINT_FEATURES, body_name, make_body, make_conditioned_body
from diffusion_env.networks.layers import Conditioned, Fourier, FourierFeatures, Stack, dense
from tests.support import has_convolutions, seeded

SHAPES = [(2,), (1, 4, 4), (1, 8, 8), (3, 16, 16), (3, 9, 20)]
TAKEN = [(name, shape) for shape in SHAPES for name in BODIES if name == "mlp" or min(shape[1:], default=0) >= 8]


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((2,), "mlp"),
        ((64,), "mlp"),
        ((8, 8), "mlp"),
        ((1, 4, 4), "mlp"),
        ((1, 7, 8), "mlp"),
        ((1, 8, 8), "conv"),
        ((3, 64, 48), "conv"),
    ],
)
def test_the_shape_chooses_unless_a_name_is_given(shape: tuple[int, ...], name: str) -> None:
    assert body_name(shape) == name
    assert body_name(shape, "mlp") == "mlp"
    assert has_convolutions(make_body(shape, 1, seeded())) is (name == "conv")


@pytest.mark.parametrize(("name", "shape"), TAKEN)
def test_every_body_takes_any_batch(name: str, shape: tuple[int, ...]) -> None:
    network = make_body(shape, 3, seeded(), body=name, width=16, depth=2)
    x = torch.randn(4, 5, *shape, generator=seeded())
    out = network(x)
    assert out.shape == (4, 5, 3) and network(x[:0]).shape == (0, 5, 3)
    torch.testing.assert_close(network(x[1]), out[1])
    torch.testing.assert_close(network(x[1, 2]), out[1, 2])


@pytest.mark.parametrize(("name", "shape"), TAKEN)
def test_every_conditioned_body_tells_conditions_apart(name: str, shape: tuple[int, ...]) -> None:
    network = make_conditioned_body(shape, 1, 6, seeded(), body=name, width=16, depth=2)
    x, cond = torch.randn(6, 5, *shape, generator=seeded()), torch.eye(6).unsqueeze(1)
    out = network(x, cond)
    assert out.shape == (6, 5, 1)
    torch.testing.assert_close(out[2], network(x[2], cond[2]))
    assert not torch.allclose(network(x, cond.flip(0)), out)
    out.square().mean().backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in network.parameters())


@pytest.mark.parametrize(("name", "shape"), TAKEN)
def test_weights_come_from_the_generator_alone(name: str, shape: tuple[int, ...]) -> None:
    def bodies(seed: int) -> list[nn.Module]:
        fourier = Fourier(4, 2.0)
        made = make_body(shape, 1, seeded(seed), body=name, width=8, depth=1, fourier=fourier)
        return [made, make_conditioned_body(shape, 1, 3, seeded(seed), body=name, width=8, depth=1)]

    before = torch.get_rng_state()
    for first, again, other in zip(bodies(0), bodies(0), bodies(1), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_fourier_features_of_points() -> None:
    def inputs(num_features: int | None) -> int:
        first = make_body((2,), 1, seeded(), width=8, depth=1, fourier=Fourier(num_features, 4.0))[0]
        return first.out_dim if isinstance(first, FourierFeatures) else 2

    assert inputs(None) == 2 + 2 * POINT_FEATURES and inputs(3) == 8 and inputs(0) == 2


def test_a_body_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function and a line in the table: then critics, value functions and evaluation know the name."""

    def row_stack(
        shape: tuple[int, ...], width: int, depth: int, fourier: Fourier | None, generator: torch.Generator
    ) -> Stack:
        return Stack([nn.Flatten(-len(shape)), nn.LayerNorm(math.prod(shape), elementwise_affine=False)],
                     dense([math.prod(shape), *[width] * depth], generator))  # fmt: skip

    monkeypatch.setitem(BODIES, "normed", row_stack)
    network = make_body((1, 8, 8), 1, seeded(), body="normed", width=8, depth=1)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(network(5 * x), network(x), rtol=1e-3, atol=1e-4)
    assert isinstance(make_conditioned_body((2,), 1, 3, seeded(), body="normed", width=8, depth=1), Conditioned)


@pytest.mark.parametrize("sizes", [{"width": 0}, {"depth": 0}, {"width": -3, "depth": 2}])
def test_sizes_below_one_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one hidden layer"):
        make_body((2,), 1, seeded(), **sizes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one hidden layer"):
        make_conditioned_body((2,), 1, 3, seeded(), **sizes)  # type: ignore[arg-type]


def test_unknown_bodies_are_refused() -> None:
    with pytest.raises(ValueError, match=r"There is no body 'unet'.*\['conv', 'mlp'\], or None"):
        make_body((2,), 1, seeded(), body="unet")
    with pytest.raises(ValueError, match="'conv' was asked for events of shape"):
        make_conditioned_body((1, 4, 4), 1, 3, seeded(), body="conv")
