"""A harder task made from Fashion-MNIST: which garment stands out of the clutter, and which way up?

A scene is 64x64x1: one whole item, turned by up to 35 degrees, 31 to 56 pixels large, lit at
random, among four pieces torn from other items (the last lies before it), on a sloped background,
with noise. Its class is the item's and whether it is upright or upside down: 20 classes.

Every image of Fashion-MNIST is the item of exactly one scene, so there are 60,000 training and
10,000 test scenes and equally many of each class. Test scenes are made of test images alone. The
training scenes come in FOLDS consecutive parts that share no source image, clutter included: hold
out the last (or any) part for validation.

All is a function of the source images and SEED; after the geometry, arithmetic is in integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm.data.composition import (
    Splits,
    background,
    cached_splits,
    crop,
    develop,
    inside,
    over,
    put_piece,
    warp,
)
from dtmm.data.dataset import Dataset, Images, Labels
from dtmm.data.fashion_mnist import CLASSES as ITEMS
from dtmm.data.fashion_mnist import load_fashion_mnist
from dtmm.errors import DataError

SIZE = 64
"""Pixels along a side of a scene."""
FOLDS = 10
SEED = 0
VERSION = 1
"""Raise it when scenes change, so that cached ones are not used."""
CLASSES = tuple(f"{item}, {way}" for item in ITEMS for way in ("upright", "upside down"))
# Mean and standard deviation of all training pixels / 255.
MEAN, STD = 0.2070, 0.1434

PIECES = 4
_CHUNK = 500
"""Scenes made at a time: bounds the memory that making them takes."""


@dataclass(frozen=True)
class Scenes:
    """Images [N, 64, 64, 1] uint8, labels [N], and the sources [N, 1 + PIECES] of each scene: the
    row of the source image of the item, then of the pieces."""

    images: Images
    labels: Labels
    sources: npt.NDArray[np.int64]


def load_fashion_scenes(folder: Path | None = None) -> Dataset:
    """The scenes made of the Fashion-MNIST in `folder` (None: where Debian's package puts it).

    Making them takes a minute; they are kept in the user's cache folder.

    Raises:
        DataError: see `load_fashion_mnist`.
        ToolchainError: the cache folder cannot be made. ArtifactError: it cannot be written.
    """
    source = load_fashion_mnist(folder)

    def make() -> Splits:
        train = make_scenes(crop(source.train_images), source.train_labels, (SEED, 0), FOLDS)
        test = make_scenes(crop(source.test_images), source.test_labels, (SEED, 1))
        return train.images, train.labels, test.images, test.labels

    arrays = cached_splits("fashion_scenes", VERSION, SEED, source.hash, make)
    return Dataset("fashion_scenes", *arrays, classes=CLASSES, mean=MEAN, std=STD)


def make_scenes(images: Images, labels: Labels, seed: tuple[int, ...], folds: int = 1) -> Scenes:
    """A scene for each source image, fold after fold, in random order within a fold.

    Args:
        images: [N, 28, 28] uint8. labels: [N], 0 to 9.
        folds: parts that share no source; each gets the same share of every class.

    Raises:
        DataError: a class has too few images for every fold to hold both ways up.
    """
    rng = np.random.default_rng(seed)
    parts: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(folds)]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if len(rows) < 2 * folds:
            raise DataError(
                f"class {label} has {len(rows)} images, expected {2 * folds} or more: "
                f"two for each of {folds} folds"
            )
        for part, some in zip(parts, np.array_split(rows, folds), strict=True):
            part.append(some)
    made = []
    for part in parts:
        # neighbours in a class differ in which way up they are
        upside_down = np.concatenate([np.arange(len(rows)) % 2 for rows in part])
        sources = np.concatenate(part)
        order = rng.permutation(len(sources))
        made.append(_fold(images, labels, sources[order], upside_down[order], rng))
    return Scenes(*(np.concatenate(parts) for parts in zip(*made, strict=True)))


def _fold(
    images: Images,
    labels: Labels,
    rows: npt.NDArray[np.int64],
    upside_down: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[Images, Labels, npt.NDArray[np.int64]]:
    """Scenes whose items are the source images `rows` and whose pieces come from among them."""
    pieces = rows[rng.integers(0, len(rows), (len(rows), PIECES))]
    sources = np.column_stack([rows, pieces])
    scenes = [
        _compose(images, sources[start : start + _CHUNK], upside_down[start : start + _CHUNK], rng)
        for start in range(0, len(rows), _CHUNK)
    ]
    return np.concatenate(scenes)[..., None], 2 * labels[rows] + upside_down, sources


def _compose(
    images: Images,
    sources: npt.NDArray[np.int64],
    upside_down: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """[N, 64, 64] scenes."""
    count = len(sources)
    canvas = background(count, SIZE, rng)
    for piece in range(PIECES - 1):
        put_piece(canvas, images[sources[:, 1 + piece]], rng)
    angle = math.pi * (upside_down + rng.uniform(-35, 35, count) / 180)
    scale = rng.uniform(1.1, 2.0, count)
    centre = SIZE / 2 + rng.uniform(-1, 1, (count, 2)) * (SIZE / 2 + 4 - 14 * scale)[:, None]
    item = warp(images[sources[:, 0]], angle, scale, centre, SIZE)
    inner = inside(canvas)
    inner[:] = over(inner, item, rng.integers(130, 256, count))
    put_piece(canvas, images[sources[:, PIECES]], rng)
    return develop(inner, rng)
