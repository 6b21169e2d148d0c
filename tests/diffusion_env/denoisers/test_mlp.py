"""Denoisers: the exact one against the score of its density, the network's interface, files and shipped weights."""

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from diffusion_env.checkpoints import CheckpointError, Header, save_checkpoint, save_object
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.loading import load_denoiser, shipped_weights
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.evaluation.metrics import sliced_wasserstein
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import from_betas, make_schedule
from diffusion_env.samplers.walk import sample

NAMES = ["swiss_roll", "moons", "gaussians8", "gaussians25", "checkerboard", "pinwheel"]
COSINE = make_schedule("cosine")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(shape=(2,), seed=0, width=16):
    return EpsMLP(shape, COSINE, width=width, depth=2, generator=torch.Generator().manual_seed(seed))


def noised_density(means, std, alpha_bar):
    """The exact law of x_t for an equal mixture of N(means[m], std^2 I)."""
    scale = torch.full_like(means, math.sqrt(alpha_bar * std**2 + 1 - alpha_bar))
    components = Independent(Normal(math.sqrt(alpha_bar) * means, scale), means.ndim - 1)
    return MixtureSameFamily(Categorical(logits=torch.zeros(len(means), dtype=means.dtype)), components)


@pytest.fixture(scope="module")
def mixture():
    mixture = load_dataset("gaussians8").mixture
    assert mixture is not None
    return mixture[0].double(), mixture[1]


def score(density, x):
    x = x.requires_grad_()
    return torch.autograd.grad(density.log_prob(x).sum(), x)[0]


@pytest.mark.parametrize("level", [1, 50, 500, 979])
def test_the_exact_denoiser_is_the_score_of_the_noised_mixture(mixture, level):
    alpha_bar = COSINE.alpha_bar[level]
    means, std = mixture
    density, denoiser = noised_density(means, std, alpha_bar), MixtureDenoiser(means, std, COSINE).double()
    x = 1.5 * normal(64, 2).double()
    eps = denoiser(x, torch.tensor(float(level)).double())
    expected = -math.sqrt(1 - alpha_bar) * score(density, x)
    torch.testing.assert_close(eps, expected, rtol=1e-4, atol=1e-5)
    other = denoiser(x, torch.tensor(300.0).double())
    assert not torch.allclose(other, expected, rtol=1e-2, atol=1e-3)  # the tolerance tells levels apart


def test_the_exact_denoiser_of_an_image_mixture():
    means = normal(3, 1, 4, 4).double()
    denoiser = MixtureDenoiser(means, 0.3, COSINE).double()
    x = normal(5, 1, 4, 4, seed=1).double()
    eps = denoiser(x, torch.tensor(400.0).double())
    expected = -math.sqrt(1 - COSINE.alpha_bar[400]) * score(noised_density(means, 0.3, COSINE.alpha_bar[400]), x)
    torch.testing.assert_close(eps, expected, rtol=1e-4, atol=1e-5)


def test_exact_eps_at_one_point_mass_recovers_the_noise():
    x0, eps = normal(1, 2), normal(20, 2, seed=1)
    a = COSINE.alpha_bar[300]
    x = math.sqrt(a) * x0 + math.sqrt(1 - a) * eps
    torch.testing.assert_close(MixtureDenoiser(x0, 0.0, COSINE)(x, torch.tensor(300.0)), eps, rtol=1e-4, atol=1e-4)


def make_mixture_denoiser(shape):
    return MixtureDenoiser(normal(3, *shape), 0.2, COSINE)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 2)])
def test_levels_picked_by_row_are_the_levels_of_each_sample(shape):
    net, x, row = network(shape), normal(7, *shape), torch.tensor([0, 2, 1, 1, 0, 2, 2])
    times = torch.tensor([900.0, 40.0, 3.5])
    torch.testing.assert_close(net(x, times, row), net(x, times[row]))
    assert not torch.allclose(net(x, times, row.flip(0)), net(x, times[row]), atol=1e-3)


@pytest.mark.parametrize("make", [network, make_mixture_denoiser])
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_time_is_shared_per_row_or_per_sample(make, shape):
    denoiser = make(shape)
    x, time = normal(4, 6, *shape), torch.tensor([[979.0], [500.5], [20.25], [1.0]])
    rows = denoiser(x, time)  # (K, 1) against (K, B)
    assert rows.shape == x.shape
    torch.testing.assert_close(rows, denoiser(x, time.expand(4, 6)), rtol=1e-5, atol=1e-5)
    for k in range(4):
        torch.testing.assert_close(rows[k], denoiser(x[k], time[k, 0]), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(rows[k, 2], denoiser(x[k, 2], time[k, 0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [network, make_mixture_denoiser])
def test_fractional_times_lie_between_levels_and_the_ends_hold(make):
    denoiser, x = make((2,)), normal(50, 2)
    low, middle, high = (denoiser(x, torch.tensor(time)) for time in (400.0, 400.5, 401.0))
    torch.testing.assert_close(middle, (low + high) / 2, rtol=0, atol=1e-4)
    assert (high - low).abs().max() > 1e-3
    for inside, outside in ((1.0, 0.2), (1000.0, 1500.0)):
        assert torch.equal(denoiser(x, torch.tensor(inside)), denoiser(x, torch.tensor(outside)))


def test_the_network_answers_x_itself_at_pure_noise():
    x = normal(50, 2)
    torch.testing.assert_close(network()(x, torch.tensor(1000.0)), x, rtol=0, atol=1e-3)
    assert (network()(x, torch.tensor(500.0)) - x).abs().max() > 0.1


def test_weights_come_from_the_generator_alone():
    before = torch.get_rng_state()
    first, again, other = network(), network(), network(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
        assert not torch.equal(weight, other.state_dict()[name])


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_a_saved_network_comes_back(tmp_path, shape):
    saved = network(shape, seed=3)
    path = saved.save(tmp_path / "net", {"note": "mine"})
    loaded = EpsMLP.load(path)
    x = normal(5, *shape)
    assert torch.equal(loaded(x, torch.tensor(300.5)), saved(x, torch.tensor(300.5)))
    assert (loaded.shape, loaded.width, loaded.depth) == (shape, 16, 2)
    assert (loaded.schedule.name, loaded.schedule.num_levels) == ("cosine", 1000)
    assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize(
    "schedule", [COSINE.up_to(979), from_betas("mine", COSINE.alpha_bar[1:3] / 2), replace(COSINE, name="linear")]
)
def test_a_schedule_that_its_name_does_not_give_back_is_not_saved(tmp_path, schedule):
    with pytest.raises(ValueError, match=r"is not the schedule of that name\. .*'cosine', .*'linear'"):
        EpsMLP((2,), schedule).save(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    path = save_checkpoint(tmp_path / "critic", {"weights": {}}, {"kind": "critic"})
    with pytest.raises(CheckpointError, match=r"holds 'critic', but a 'denoiser' was to be loaded"):
        EpsMLP.load(path)
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*nowhere"):
        EpsMLP.load(tmp_path / "nowhere")


def test_a_checkpoint_of_another_width_is_refused(tmp_path):
    small = network()
    config = {"shape": [2], "schedule": "cosine", "num_levels": 1000, "width": 32, "depth": 2}
    path = save_object(tmp_path / "net", Header("denoiser", "mlp", config), {"weights": dict(small.state_dict())})
    with pytest.raises(CheckpointError, match=r"\(16, 2\) where \(32, 2\)"):
        EpsMLP.load(path)


def test_a_denoiser_is_found_by_name_path_or_as_it_is(tmp_path, monkeypatch):
    mine = network((3,))
    mine.save(tmp_path / "swiss_roll")
    for given in (tmp_path / "swiss_roll", str(tmp_path / "swiss_roll.safetensors")):
        assert load_denoiser(given, "points", (3,)).shape == (3,)
    assert load_denoiser(mine, "points", (3,)) is mine
    monkeypatch.chdir(tmp_path)  # a file here that bears a shipped name must not replace what is shipped
    assert load_denoiser(None, "swiss_roll", (2,)).shape == (2,)
    assert load_denoiser("swiss_roll", "points", (2,)).shape == (2,)


@pytest.mark.parametrize(
    ("denoiser", "error", "message"),
    [
        (None, FileNotFoundError, r"for 'points': .* shipped \['checkerboard', .*'swiss_roll'\].*pretrain"),
        ("nowhere.safetensors", FileNotFoundError, r"'nowhere.safetensors': it is neither a file nor one"),
        ("moons", ValueError, r"shape \(2,\) but the data have shape \(1, 8, 8\)"),
        (network(), ValueError, r"shape \(2,\) but the data have shape \(1, 8, 8\)"),
        (torch.nn.Linear(2, 2), TypeError, r"attributes .shape .* and .schedule .*; received Linear"),
        (17, TypeError, r"received int"),
    ],
)
def test_what_is_no_denoiser_for_the_data_is_refused(denoiser, error, message):
    with pytest.raises(error, match=message):
        load_denoiser(denoiser, "points", (1, 8, 8))


def test_the_shipped_weights_are_small():
    files = {path.stem: path.stat().st_size for path in shipped_weights("x").parent.glob("*")}
    assert set(files) == set(NAMES)
    assert sum(files.values()) < 2_000_000


@pytest.mark.parametrize("name", NAMES)
def test_shipped_networks_sample_their_data(name):
    data = load_dataset(name)
    denoiser = load_denoiser(None, name, data.shape)

    def distance(net, num_steps):
        table = make_table("ddpm", net.schedule, num_steps)
        drawn = sample(table, net, 4_000, torch.Generator().manual_seed(100))
        reference = data.sample(4_000, torch.Generator().manual_seed(101), held_out=True)
        return sliced_wasserstein(drawn, reference, torch.Generator().manual_seed(102))

    # Network units. The floor at this count is 0.03, for gaussians25 0.07: shares of modes are drawn too.
    few, many = distance(denoiser, 4), distance(denoiser, 100)
    assert many < 0.075 and many < 0.8 * few
    assert distance(EpsMLP((2,), denoiser.schedule), 10) > 2 * many  # negative control: untrained
