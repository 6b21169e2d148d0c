"""The 2-D distributions, each as one function ``draw(n, rng) -> (n, 2) float64`` of independent points.

``rng`` is a numpy ``RandomState`` because scikit-learn's functions accept no newer generator. The points are in data
units; the constants that standardise them are in ``named.DATASETS``.
"""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

Points = NDArray[np.float64]

RING8 = 4.0 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1) / 1.414
RING8_STD = 0.5 / 1.414
GRID25 = np.stack(np.meshgrid(np.arange(-4, 5, 2), np.arange(-4, 5, 2)), axis=-1).reshape(25, 2) / 2.828
GRID25_STD = 0.05 / 2.828


def swiss_roll(n: int, rng: RandomState) -> Points:
    """scikit-learn's roll, noise 0.05, columns 0 and 2, divided by 20 (SFT-PG, Fan & Lee 2023)."""
    from sklearn.datasets import make_swiss_roll

    return make_swiss_roll(n, noise=0.05, random_state=rng)[0][:, [0, 2]] / 20.0


def moons(n: int, rng: RandomState) -> Points:
    """scikit-learn's two moons, noise 0.05, with the angle drawn at random.

    ``make_moons`` puts its points on a fixed grid of angles, so two of its sets are closer to each other than
    two independent sets are, and no sampler could reach the floor they give.
    """
    angle = rng.uniform(0.0, np.pi, n)
    outer = rng.randint(0, 2, n).astype(bool)
    x = np.where(outer, np.cos(angle), 1.0 - np.cos(angle))
    y = np.where(outer, np.sin(angle), 0.5 - np.sin(angle))
    return np.stack([x, y], axis=1) + rng.normal(0.0, 0.05, (n, 2))


def gaussians8(n: int, rng: RandomState) -> Points:
    """Eight equal Gaussians on a circle: radius 4, std 0.5, divided by 1.414 (DxMI, Yoon et al. 2024)."""
    return RING8[rng.randint(0, 8, n)] + rng.normal(0.0, RING8_STD, (n, 2))


def gaussians25(n: int, rng: RandomState) -> Points:
    """A 5 x 5 grid of equal Gaussians: spacing 2, std 0.05, divided by 2.828."""
    return GRID25[rng.randint(0, 25, n)] + rng.normal(0.0, GRID25_STD, (n, 2))


def checkerboard(n: int, rng: RandomState) -> Points:
    """Uniform on the eight dark unit squares of a 4 x 4 board over [-2, 2]^2."""
    row = rng.randint(0, 4, n)
    column = 2 * rng.randint(0, 2, n) + row % 2
    return np.stack([column, row], axis=1) + rng.uniform(0.0, 1.0, (n, 2)) - 2.0


def pinwheel(n: int, rng: RandomState) -> Points:
    """Five curved arms: radius ~ N(1, 0.3^2), width 0.1, twist 0.25 exp(radius) (Johnson et al. 2016)."""
    radius = 1.0 + 0.3 * rng.normal(size=n)
    width = 0.1 * rng.normal(size=n)
    angle = rng.randint(0, 5, n) * 2.0 * np.pi / 5.0 + 0.25 * np.exp(radius)
    x = radius * np.cos(angle) - width * np.sin(angle)
    y = radius * np.sin(angle) + width * np.cos(angle)
    return np.stack([x, y], axis=1)


def rings(n: int, rng: RandomState) -> Points:
    """Three circles around the origin, radii 1, 2 and 3, equal mass on each, noise 0.05 across."""
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    radius = rng.randint(1, 4, n) + rng.normal(0.0, 0.05, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def spirals(n: int, rng: RandomState) -> Points:
    """Two arms r = angle / (2 pi), turned by half a circle against each other, one and a half turns, noise 0.03."""
    angle = 3.0 * np.pi * np.sqrt(rng.uniform(0.0, 1.0, n))
    side = 2.0 * rng.randint(0, 2, n) - 1.0
    radius = side * angle / (2.0 * np.pi)
    arms = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return arms + rng.normal(0.0, 0.03, (n, 2))
