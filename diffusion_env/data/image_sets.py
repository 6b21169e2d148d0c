"""The table of named image sets: shapes, how each is read, where it is looked for, and how to get it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_env.data.cifar import WAYS as CIFAR10_WAYS
from diffusion_env.data.cifar import read_cifar10
from diffusion_env.data.idx import read_fashion_mnist, read_fashion_mnist_16
from diffusion_env.data.pixels import WHITE, ImageSource
from diffusion_env.data.places import CACHE_VARIABLE, cache_folder

Part = NDArray[np.uint8] | ImageSource
Parts = tuple[Part, Part | None]
"""Training images (N, C, H, W) and test images; None where the set has no test images of its own."""

FASHION_MNIST = "fashion-mnist"
"""The folder with the IDX files, below `cache_folder` too."""
SYSTEM_FOLDER = Path("/usr/share/datasets") / FASHION_MNIST
"""Where Debian's package dataset-fashion-mnist puts them."""
FASHION_MNIST_WAYS = (
    "On Debian and Ubuntu: `ddpm-shortcut data fashion_mnist`, without root, or apt-get install dataset-fashion-mnist. "
    "Elsewhere take the files train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz of "
    "https://github.com/zalandoresearch/fashion-mnist (folder data/fashion)."
)


@dataclass(frozen=True)
class ImageSet:
    """A named set of images."""

    read: Callable[[Path], Any]  # from a place to `Parts`
    shape: tuple[int, int, int]  # (C, H, W)
    sizes: tuple[int, int]  # how many training and held-out images the published set has
    places: tuple[Path, ...] = ()  # where it is looked for, after the cache folder; relative ones lie there
    ways: str = ""  # how to get it
    highest: float = WHITE  # the value that becomes 1 in network units; 0 becomes -1
    flips: bool = False  # whether training images are mirrored with probability 1/2, as published
    installed: bool = False  # whether it comes with a library, so that no file is looked for

    def candidates(self) -> list[Path]:
        """The places that are looked at, in this order."""
        return [cache_folder() / place for place in self.places]

    def place(self) -> Path | None:
        """The first place that exists, or None."""
        return next((place for place in self.candidates() if place.exists()), None)

    def found(self, name: str, given: Path | None = None) -> Path:
        """The place of the set called ``name``, or the ``given`` one; ValueError where there is none.

        The error says where the set was looked for and how to get it.
        """
        if self.installed:
            if given is not None:
                raise ValueError(f"{name} comes with a library and takes no path; received {given}. Leave it out.")
            return Path()
        if (place := given or self.place()) is None:
            looked = ", ".join(map(str, self.candidates()))
            raise ValueError(
                f"The images of {name} are not here: looked for {looked}. {self.ways} Put them there (the environment "
                f"variable {CACHE_VARIABLE} chooses another cache folder), or say where they are: {name}:PATH."
            )
        return place


def read_digits(place: Path) -> Parts:
    """scikit-learn's 1,797 handwritten digits, (1797, 1, 8, 8) with values 0 ... 16; ``place`` is not used."""
    from sklearn.datasets import load_digits

    return load_digits().images[:, None].astype(np.uint8), None


def read_celeba(place: Path) -> Parts:
    """See `diffusion_env.data.celeba.read_celeba`."""
    from diffusion_env.data import celeba  # needs Pillow

    return celeba.read_celeba(place)


FASHION_MNIST_PLACES = (Path(FASHION_MNIST), SYSTEM_FOLDER)
IMAGE_SETS: dict[str, ImageSet] = {
    "digits": ImageSet(read_digits, (1, 8, 8), (1_437, 360), highest=16.0, installed=True),
    "fashion_mnist": ImageSet(
        read_fashion_mnist, (1, 28, 28), (60_000, 10_000), FASHION_MNIST_PLACES, FASHION_MNIST_WAYS
    ),
    "fashion_mnist_16": ImageSet(
        read_fashion_mnist_16, (1, 16, 16), (60_000, 10_000), FASHION_MNIST_PLACES, FASHION_MNIST_WAYS
    ),
    "cifar10": ImageSet(
        read_cifar10,
        (3, 32, 32),
        (50_000, 10_000),
        tuple(map(Path, ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "cifar-10-batches-py", "cifar10"))),
        f"It is published at https://www.cs.toronto.edu/~kriz/cifar.html. {CIFAR10_WAYS}",
        flips=True,
    ),
    "celeba": ImageSet(
        read_celeba,
        (3, 64, 64),
        (162_770, 19_962),
        (Path("celeba"),),
        "It is published at https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html. Give the folder of the aligned .jpg "
        "files, img_align_celeba, with list_eval_partition.txt inside or beside it.",
        flips=True,
    ),
}
