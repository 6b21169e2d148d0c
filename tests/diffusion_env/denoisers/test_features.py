"""What a network sees of the training level."""

import torch

from diffusion_env.denoisers.features import LevelFeatures
from diffusion_env.samplers.schedules import make_schedule
from tests.support import normal


def test_they_have_the_given_shape_and_no_weights() -> None:
    features = LevelFeatures()
    assert features(normal(3, 1)).shape == (3, 1, LevelFeatures.dim) and not features.state_dict()


def test_neighbouring_levels_differ() -> None:
    log_snr = torch.tensor(make_schedule("cosine").log_snr, dtype=torch.float32)
    seen = LevelFeatures()(log_snr)
    assert (seen[1:] - seen[:-1]).norm(dim=-1).min() > 0.01
    assert torch.cdist(seen[::20], seen[::20]).fill_diagonal_(9).min() > 0.1  # nor do distant levels look the same
