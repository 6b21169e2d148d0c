"""The two-sample test: chance for equal laws, certain for parted ones, and sharp where distances are blind."""

import pytest
import torch

from diffusion_env.data.named import load_dataset
from diffusion_env.evaluation.metrics import sliced_wasserstein
from diffusion_env.evaluation.two_sample import CLASSIFIERS, classifier_auc


def normal(n: int, *shape: int, seed: int = 0, mean: float = 0.0) -> torch.Tensor:
    return mean + torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("shape", [(2,), (1, 6, 6)])
def test_equal_laws_cannot_be_told_apart(classifier: str, shape: tuple[int, ...]) -> None:
    found = [
        classifier_auc(normal(2_000, *shape, seed=s), normal(2_000, *shape, seed=s + 50), classifier) for s in (1, 2)
    ]
    assert sum(found) / 2 == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_parted_laws_are_told_apart(classifier: str) -> None:
    assert classifier_auc(normal(500, 2), normal(500, 2, seed=1, mean=8.0), classifier) > 0.999
    between = classifier_auc(normal(2_000, 2), normal(2_000, 2, seed=1, mean=0.5), classifier)
    # The best classifier of N(0, I) against N((d, d), I) has AUC Phi(d): Phi(0.5) = 0.691.
    assert 0.63 < between < 0.71


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_thin_noise_is_seen_where_sliced_w2_is_blind(classifier: str) -> None:
    data = load_dataset("swiss_roll")
    reference, spare = data.fresh(8_000, 3).split(4_000)
    blurred = spare + 0.05 * data.scale * normal(4_000, 2, seed=9)

    def distance(points: torch.Tensor) -> float:
        return sliced_wasserstein(points, reference, torch.Generator().manual_seed(0))

    assert distance(blurred) < 1.5 * distance(spare)
    assert classifier_auc(blurred, reference, classifier) > 0.7
    assert classifier_auc(spare, reference, classifier) == pytest.approx(0.5, abs=0.04)


def test_a_seed_fixes_the_answer() -> None:
    x, y = normal(300, 2), normal(300, 2, seed=1, mean=0.3)
    assert classifier_auc(x, y, "boosting", 4) == classifier_auc(x, y, "boosting", 4)


def test_unusable_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown classifier 'svm'. Choose one of \['boosting', 'neighbours'\]"):
        classifier_auc(normal(50, 2), normal(50, 2), "svm")
    with pytest.raises(ValueError, match=r"samples of shape \(50, 2\) and data of shape \(50, 3\)"):
        classifier_auc(normal(50, 2), normal(50, 3), "boosting")
    with pytest.raises(ValueError, match="at least 20 points"):
        classifier_auc(normal(50, 2), normal(19, 2), "boosting")
