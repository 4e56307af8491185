"""Images of a user's folder, a subfolder per class, brought to one size."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from dtmm.data.dataset import Dataset, Images
from dtmm.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp")
TEST_PERCENT = 10
"""Of the files of a folder without its own split; which ones depends on their names alone."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels; right and bottom excluded."""


def read_image(path: Path, size: tuple[int, int], box: Box | None = None) -> Images:
    """[H, W, 3] uint8: the picture, or its part `box`, stretched to `size` (H, W) bilinearly.

    Raises:
        DataError: missing, or no picture.
    """
    return _stretched(path, size, "RGB", box)[0]


def read_grey(path: Path, size: tuple[int, int]) -> tuple[Images, tuple[int, int]]:
    """[H, W, 1] uint8: the picture in grey, stretched to `size` (H, W); and its own (H, W).

    Raises:
        DataError: missing, or no picture.
    """
    image, original = _stretched(path, size, "L", None)
    return image[..., None], original


def _stretched(
    path: Path, size: tuple[int, int], mode: str, box: Box | None
) -> tuple[Images, tuple[int, int]]:
    try:
        with Image.open(path) as picture:
            # resize's own `box` would blend in the pixels around it
            part = picture.convert(mode).crop(box)
            stretched = part.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(stretched), (picture.height, picture.width)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the picture {path}: {error}") from None


def load_class_folders(
    name: str, folder: Path, size: tuple[int, int], classes: Sequence[str] | None = None
) -> Dataset:
    """A dataset of folder/<class>/<pictures>, or of folder/train/<class> and folder/test/<class>.

    Args:
        size: (H, W) that every picture is stretched to.
        classes: the subfolders, in the order of their labels; None: all, by name.

    Raises:
        DataError: a class or its pictures are missing, or a picture cannot be read.
    """
    split = (folder / "train").is_dir() and (folder / "test").is_dir()
    roots = (folder / "train", folder / "test") if split else (folder,)
    names = tuple(classes or sorted(each.name for each in roots[0].iterdir() if each.is_dir()))
    if not names:
        raise DataError(f"dataset folder {roots[0]} has no subfolder, expected one per class")
    files = [_pictures(root / each) for root in roots for each in names]
    labels = [n % len(names) for n, paths in enumerate(files) for _ in paths]
    test = (
        [n >= len(names) for n, paths in enumerate(files) for _ in paths]
        if split
        else [held_out(path.name) for paths in files for path in paths]
    )
    images = np.stack([read_image(path, size) for paths in files for path in paths])
    return in_two(name, images, np.array(labels, np.int64), np.array(test), names)


def in_two(
    name: str,
    images: Images,
    labels: npt.NDArray[np.int64],
    test: npt.NDArray[np.bool_],
    classes: tuple[str, ...],
    mirror: bool = True,
) -> Dataset:
    """A dataset whose test images are those of `test`; mean and deviation of the others' pixels.

    Raises:
        DataError: as Dataset.
    """
    pixels = images[~test] if (~test).any() else images
    return Dataset(
        name,
        images[~test],
        labels[~test],
        images[test],
        labels[test],
        classes=classes,
        mean=round(float(pixels.mean()) / 255, 4),
        std=round(float(pixels.std()) / 255, 4) or 1.0,
        mirror=mirror,
    )


def held_out(name: str) -> bool:
    """Whether a file of this name is a test file: always the same, wherever it lies."""
    return zlib.crc32(name.encode()) % 100 < TEST_PERCENT


def _pictures(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else iter(())
    paths = sorted(path for path in found if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(f"{folder} has no pictures, expected files like *{SUFFIXES[0]}")
    return paths
