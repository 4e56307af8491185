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

import hashlib
import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm.artifact import write_atomic
from dtmm.data.dataset import Dataset, Images, Labels
from dtmm.data.fashion_mnist import CLASSES as ITEMS
from dtmm.data.fashion_mnist import load_fashion_mnist
from dtmm.device.cache import cache_dir
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
_MARGIN = 8
"""Pixels around a scene while it is made: what is laid over its border may reach into them."""
_HALF = np.repeat(np.arange(28) < 14, 28).reshape(28, 28)
_ONE = 256
"""Bilinear weights are multiples of 1 / _ONE."""

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


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
    name = hashlib.sha256(f"{VERSION} {SEED} {source.hash}".encode()).hexdigest()[:16]
    path = cache_dir() / "data" / f"fashion_scenes-{name}.npz"
    arrays = _read(path)
    if arrays is None:
        train = make_scenes(_crop(source.train_images), source.train_labels, (SEED, 0), FOLDS)
        test = make_scenes(_crop(source.test_images), source.test_labels, (SEED, 1))
        arrays = (train.images, train.labels, test.images, test.labels)
        content = io.BytesIO()
        np.savez(content, *arrays)
        write_atomic(path, content.getvalue())
    return Dataset("fashion_scenes", *arrays, classes=CLASSES, mean=MEAN, std=STD)


def _read(path: Path) -> tuple[Images, Labels, Images, Labels] | None:
    """What a finished earlier run left; None also where the file is damaged."""
    try:
        with np.load(path) as file:
            train, train_labels, test, test_labels = (file[f"arr_{n}"] for n in range(4))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return train, train_labels, test, test_labels


def _crop(padded: Images) -> Images:
    """[N, 28, 28] of Fashion-MNIST's [N, 32, 32, 1]."""
    return padded[:, 2:-2, 2:-2, 0]


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
    canvas = _background(count, rng)
    for piece in range(PIECES - 1):
        _put_piece(canvas, images[sources[:, 1 + piece]], rng)
    angle = math.pi * (upside_down + rng.uniform(-35, 35, count) / 180)
    scale = rng.uniform(1.1, 2.0, count)
    centre = SIZE / 2 + rng.uniform(-1, 1, (count, 2)) * (SIZE / 2 + 4 - 14 * scale)[:, None]
    item = warp(images[sources[:, 0]], angle, scale, centre, SIZE)
    inner = canvas[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    inner[:] = _over(inner, item, rng.integers(130, 256, count))
    _put_piece(canvas, images[sources[:, PIECES]], rng)
    noise = rng.standard_normal(inner.shape, dtype=np.float32)
    noise *= rng.uniform(2, 14, (count, 1, 1)).astype(np.float32)
    gain = rng.integers(128, 257, (count, 1, 1), dtype=np.int32)
    scenes: npt.NDArray[np.uint8] = np.clip(
        inner * gain // 256 + noise.astype(np.int32), 0, 255
    ).astype(np.uint8)
    return scenes


def _background(count: int, rng: np.random.Generator) -> Ints:
    """[count, side, side], a margin around each scene: a level and a slope of its own for each."""
    level, down, across = (
        rng.integers(low, high, (count, 1, 1), dtype=np.int32)
        for low, high in ((10, 100), (-40, 41), (-40, 41))
    )
    line = np.arange(SIZE + 2 * _MARGIN, dtype=np.int32) - (SIZE // 2 + _MARGIN)
    shades: Ints = level + (down * line[:, None] + across * line) // SIZE
    return shades


def _put_piece(canvas: Ints, sources: Images, rng: np.random.Generator) -> None:
    """Half of each source image, cut along its middle, small and anywhere in its scene."""
    count, side = len(canvas), 32
    halves = np.stack([_HALF, ~_HALF, _HALF.T, ~_HALF.T])[rng.integers(0, 4, count)]
    angle = rng.uniform(0, 2 * math.pi, count)
    middle = np.full((count, 2), side / 2)
    piece = warp(sources * halves, angle, rng.uniform(0.6, 1.1, count), middle, side)
    corner = _MARGIN + rng.integers(-8, SIZE - side + 9, (2, count, 1))
    rows, columns = corner + np.arange(side)
    window = (np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :])
    canvas[window] = _over(canvas[window], piece, rng.integers(90, 256, count))


def _over(below: Ints, items: Ints, brightness: npt.NDArray[np.int64]) -> Ints:
    """[N, h, w] with items (0: transparent) laid over it; their edges are soft."""
    alpha = np.minimum(items * 4, 255)
    light = items * brightness[:, None, None].astype(np.int32) // 255
    return below + (light - below) * alpha // 255


def warp(images: Images, angle: Floats, scale: Floats, centre: Floats, side: int) -> Ints:
    """[N, side, side] bilinear samples of turned, scaled and moved images; 0 outside of them.

    Args:
        images: [N, 28, 28].
        angle: [N] radians. scale: [N], output pixels per input pixel.
        centre: [N, 2] row and column of the output where an image's middle comes to lie.
    """
    border = np.pad(images, ((0, 0), (1, 2), (1, 2)))
    most = images.shape[1] + 1
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    line = np.arange(side) + 0.5
    down, across = line - centre[:, :1], line - centre[:, 1:]
    middle = most / 2  # of the bordered image, between pixels 0 and most

    def position(by_row: Floats, by_column: Floats) -> tuple[Ints, Ints]:
        rows = (by_row[:, None] * down + middle)[:, :, None]
        place = np.clip(rows + (by_column[:, None] * across)[:, None, :], 0, most)
        fixed = np.rint(place * _ONE).astype(np.int32)
        return fixed // _ONE, fixed % _ONE

    (y, wy), (x, wx) = position(cosine, -sine), position(sine, cosine)
    width = border.shape[2]
    base = (np.arange(len(images), dtype=np.int32) * width * width)[:, None, None] + y * width + x
    flat = border.ravel()

    def pixel(offset: int) -> Ints:
        values: Ints = flat[base + offset].astype(np.int32)
        return values

    top = pixel(0) * (_ONE - wx) + pixel(1) * wx
    bottom = pixel(width) * (_ONE - wx) + pixel(width + 1) * wx
    total = np.asarray(top * (_ONE - wy) + bottom * wy, dtype=np.int32)
    return np.floor_divide(total + _ONE * _ONE // 2, _ONE * _ONE, dtype=np.int32)
