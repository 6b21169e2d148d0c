"""Can a classifier tell samples from data? The classifier two-sample test, which sees what distances miss.

A distance such as sliced W2 hardly moves when every sample carries a little noise of its own; a classifier, which looks
at one point at a time, finds it at once. Source: Friedman 2003; Lopez-Paz & Oquab, ICLR 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

MIN_POINTS = 20
MAX_POINTS = 20_000
"""The most points of each side that are used: more cost time and tell little more."""
NEIGHBOURS = 15


def classifier_auc(samples: Tensor, data: Tensor, classifier: str, seed: int = 0) -> float:
    """Area under the ROC curve of a classifier of samples (N, *shape) against data (M, *shape), on the host.

    It learns on the first half of each side and is judged on the other half: 0.5 means that it cannot tell them apart,
    1 that it always can. Chance alone moves it by about 0.3 / sqrt(N / 2) around 0.5. Points must be in random order.

    Args:
        classifier: a name in `CLASSIFIERS`.
        seed: of the classifier's own draws.

    Raises:
        ValueError: an unknown classifier, points of two shapes, or fewer than 20 on a side.
    """
    if classifier not in CLASSIFIERS:
        raise ValueError(f"Unknown classifier {classifier!r}. Choose one of {sorted(CLASSIFIERS)}.")
    if samples.shape[1:] != data.shape[1:] or min(len(samples), len(data)) < MIN_POINTS:
        raise ValueError(
            f"A two-sample test got samples of shape {tuple(samples.shape)} and data of shape {tuple(data.shape)}. "
            f"Both must be (count, *shape) with one shape and at least {MIN_POINTS} points."
        )
    from sklearn.metrics import roc_auc_score

    fake, real = (side[:MAX_POINTS].flatten(1).numpy(force=True).astype(np.float64) for side in (samples, data))
    learned, judged = (_labelled(part(fake), part(real)) for part in (_first_half, _second_half))
    model = CLASSIFIERS[classifier](seed, len(learned[0])).fit(*learned)
    return float(roc_auc_score(judged[1], model.predict_proba(judged[0])[:, 1]))


def _boosting(seed: int, count: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed)


def _neighbours(seed: int, count: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(min(NEIGHBOURS, count))


CLASSIFIERS: dict[str, Callable[[int, int], Any]] = {
    "boosting": _boosting,  # gradient boosting of trees: any dimension, sees the shape of the support
    "neighbours": _neighbours,  # the label of the nearest 15 points: sees small distances
}
"""From a seed and the number of training points to a classifier of scikit-learn's."""


def _first_half(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[: len(points) // 2]


def _second_half(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[len(points) // 2 :]


def _labelled(fake: NDArray[np.float64], real: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All points, and 0 for each of data, 1 for each sample."""
    return np.concatenate([real, fake]), np.repeat([0.0, 1.0], [len(real), len(fake)])
