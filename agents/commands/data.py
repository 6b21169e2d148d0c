"""``ddpm-shortcut data``: which data sets there are, and fetching one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tqdm import tqdm

from agents.commands.options import Data
from diffusion_env.data.image_sets import FASHION_MNIST, FASHION_MNIST_WAYS, IMAGE_SETS, SYSTEM_FOLDER
from diffusion_env.data.named import DATASET_NAMES, DATASETS, HELD_OUT_POINTS, TRAIN_POINTS, load_dataset
from diffusion_env.data.places import cache_folder, name_and_place

PACKAGE = f"dataset-{FASHION_MNIST}"
CELEBA = "celeba"
TOOLS = ("apt-get", "dpkg-deb")
COLUMNS = ("name", "shape", "training", "held out", "found")


def run(options: Data, command: str) -> None:
    """Print the list, or make ``options.name`` ready and print what it holds."""
    if not options.name:
        print(listing())
        return
    name, place = name_and_place(options.name)
    if name not in DATASET_NAMES:
        raise ValueError(f"Unknown data set {name!r}. Choose one of {', '.join(DATASET_NAMES)}.")
    images = IMAGE_SETS.get(name)
    if images is not None and Path(FASHION_MNIST) in images.places and (place or images.place()) is None:
        print(f"Wrote {fetch_fashion_mnist()}")
    if name == CELEBA and place is not None:
        print(f"Wrote {pack(place)}")
        place = None
    data = load_dataset(name if place is None else options.name)
    print(f"{name}: {len(data.train)} training and {len(data.held_out)} held-out points of shape {data.shape}")


def listing() -> str:
    """A table of all named data sets: shape, published numbers of points, and where the files are."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    for name, law in DATASETS.items():
        lines.append((name, str((len(law.center),)), f"{TRAIN_POINTS:,}", f"{HELD_OUT_POINTS:,}", "generated"))
    for name, images in IMAGE_SETS.items():
        found = "installed" if images.installed else str(images.place() or "not here")
        lines.append((name, str(images.shape), *(f"{size:,}" for size in images.sizes), found))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    note = f"Files are looked for in {cache_folder()} too. NAME:PATH says where they are, such as cifar10:PATH."
    return "\n".join([*rows, note])


def fetch_fashion_mnist() -> Path:
    """Download Debian's package into the cache folder, without root; returns the folder of the IDX files.

    Raises ValueError, with what to do instead, where apt or dpkg-deb is missing or fails.
    """
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise ValueError(
            f"fashion_mnist is fetched as a Debian package, and this machine has no {' and no '.join(missing)}. "
            f"{FASHION_MNIST_WAYS} Put them into {cache_folder() / FASHION_MNIST}."
        )
    target = cache_folder() / FASHION_MNIST
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        folder = Path(temporary)
        _run(["apt-get", "download", PACKAGE], folder)
        packages = list(folder.glob(f"{PACKAGE}_*.deb"))
        if len(packages) != 1:
            raise ValueError(f"`apt-get download {PACKAGE}` left {len(packages)} packages and not one. Try it by hand.")
        _run(["dpkg-deb", "-x", packages[0].name, "content"], folder)
        os.replace(folder / "content" / SYSTEM_FOLDER.relative_to("/"), target)
    return target


def pack(place: Path) -> Path:
    """Decode CelebA at ``place`` once into the cache folder, with a progress bar; returns the folder."""
    from diffusion_env.data.celeba import pack_celeba  # needs Pillow

    folder = cache_folder() / CELEBA
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(unit="images") as bar:
        pack_celeba(place, folder, bar.update)
    return folder


def _run(words: list[str], folder: Path) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(
            f"`{' '.join(words)}` failed ({reason}). If apt does not know the package, run `apt-get update` as root "
            f"once. {FASHION_MNIST_WAYS}"
        )
