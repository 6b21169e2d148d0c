"""Images as uint8, in memory or on the disk, that become network units only as they are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WHITE = 255.0


class ImageSource(Protocol):
    """Images that stay on the disk and are read as they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images (n, C, H, W) at ``rows`` (n,)."""

    def part(self, rows: NDArray[np.int64]) -> ImageSource:
        """A source of the images at ``rows`` (n,) alone, in this order."""


@dataclass(frozen=True, eq=False)
class MappedImages:
    """Images in a ``.npy`` file of uint8 (M, C, H, W) that the system maps into memory page by page.

    Only the path and the rows are kept, so a copy of it for another process is small.
    """

    path: Path
    rows: NDArray[np.int64]  # (N,)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return (len(self.rows), *map_array(self.path).shape[1:])

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images (n, C, H, W) at ``rows`` (n,)."""
        return np.array(map_array(self.path)[self.rows[rows]])

    def part(self, rows: NDArray[np.int64]) -> MappedImages:
        """A source of the images at ``rows`` (n,) alone, in this order."""
        return MappedImages(self.path, self.rows[rows])


def map_array(path: Path) -> NDArray[np.uint8]:
    """The uint8 array (M, C, H, W) of a ``.npy`` file as a read-only map; (M, H, W) gets its one channel."""
    array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array[:, None] if array.ndim == 3 else array


@dataclass(frozen=True, eq=False)
class Pixels:
    """Images (N, C, H, W) with values 0 ... ``highest``; ``pixels[index]`` gives some of them in network units.

    A tensor lies on its device as uint8, a quarter of float32. What stays on the disk is read at each index and put on
    ``target``.
    """

    stored: Tensor | ImageSource  # (N, C, H, W) uint8
    highest: float = WHITE
    target: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        """ValueError for anything but uint8 images (N, C, H, W), N > 0."""
        if isinstance(self.stored, Tensor) and self.stored.dtype != torch.uint8:
            raise ValueError(
                f"Images are kept as uint8; received {self.stored.dtype}. Round values 0 ... 255 and convert them, "
                "images.round().to(torch.uint8), or make a Dataset of float32 points."
            )
        if len(self.shape) != 4 or 0 in self.shape:
            raise ValueError(
                f"Images have the shape (N, C, H, W), N > 0; received {self.shape}. Grey images have C = 1."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return tuple(self.stored.shape)

    @property
    def device(self) -> torch.device:
        """Where drawn images lie."""
        return self.stored.device if isinstance(self.stored, Tensor) else torch.device(self.target)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """The images at a slice or at integers (n,), as float32 (n, C, H, W) in [-1, 1]."""
        if isinstance(self.stored, Tensor):
            chosen = self.stored[index]
        else:
            rows = np.arange(len(self))[index.numpy(force=True) if isinstance(index, Tensor) else index]
            chosen = torch.from_numpy(self.stored.read(rows)).to(self.target)
        return chosen.to(torch.float32) / (self.highest / 2.0) - 1.0

    def to(self, device: torch.device | str) -> Pixels:
        """The same images, drawn on ``device``; a tensor (N, C, H, W) moves there, files stay where they are."""
        stored = self.stored.to(device) if isinstance(self.stored, Tensor) else self.stored
        return replace(self, stored=stored, target=device)
