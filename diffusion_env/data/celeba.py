"""CelebA (Liu et al. 2015), aligned and cropped as in SFT-PG (Fan & Lee 2023) and DDIM: 64 x 64 around the face."""

from __future__ import annotations

from pathlib import Path

from diffusion_env.data.pictures import Crop, ImageFiles

SIDE = 64
CENTER_ROW, CENTER_COLUMN, REACH = 121, 89, 64
FACE = Crop((178, 218), (CENTER_COLUMN - REACH, CENTER_ROW - REACH, CENTER_COLUMN + REACH, CENTER_ROW + REACH), SIDE)
"""Rows 57 ... 185 and columns 25 ... 153 of the aligned images, 178 x 218 (width x height)."""
PARTITION = "list_eval_partition.txt"
TRAIN, TEST = "0", "2"
FOLDERS = ("img_align_celeba", "Img/img_align_celeba")
WAYS = f"Give the folder of the aligned .jpg files, img_align_celeba, with {PARTITION} inside or beside it."


def read_celeba(place: Path) -> tuple[ImageFiles, ImageFiles | None]:
    """Training and test images, (N, 3, 64, 64), decoded as they are drawn; None for the test images without a list.

    The list of partitions lies in the folder, above it, or in Eval/ there. Without it the caller splits.

    Raises ValueError: no folder, no image, or a list that names images that are not there.
    """
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder. {WAYS}")
    folder = next((place / name for name in FOLDERS if (place / name).is_dir()), place)
    files = {file.name: file for file in sorted(folder.glob("*.jpg"))}
    if not files:
        raise ValueError(f"The folder {folder} holds no .jpg file. {WAYS}")
    lists = [above / name for above in (folder, *folder.parents[:2]) for name in (PARTITION, f"Eval/{PARTITION}")]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        return _faces(list(files.values())), None
    parts = _partition(found, files)
    return _faces(parts[TRAIN]), _faces(parts[TEST])


def _faces(files: list[Path]) -> ImageFiles:
    return ImageFiles(tuple(files), (3, SIDE, SIDE), FACE)


def _partition(path: Path, files: dict[str, Path]) -> dict[str, list[Path]]:
    """The images of each part, of lines "000001.jpg 0"."""
    lines = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    parts: dict[str, list[Path]] = {TRAIN: [], TEST: []}
    for words in lines:
        if len(words) != 2 or words[0] not in files:
            raise ValueError(
                f"{path} has the line {' '.join(words)[:100]!r}, and each line is the name of one of the images and 0, "
                f"1 or 2. {WAYS}"
            )
        parts.setdefault(words[1], []).append(files[words[0]])
    if not (parts[TRAIN] and parts[TEST]):
        raise ValueError(f"{path} names no training image (0) or no test image (2). {WAYS}")
    return parts
