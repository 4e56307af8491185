"""What composed scenes are made of: warped items, pieces torn from them, backgrounds, noise.

Geometry is in floating point, everything behind it in integers. Images that are laid over each
other are int32 [N, h, w], 0 where they are transparent.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm.artifact import write_atomic
from dtmm.data.samples import Images, Targets
from dtmm.device.cache import cache_dir

MARGIN = 8
"""Pixels around a scene while it is made: what is laid over its border may reach into them."""
_HALF = np.repeat(np.arange(28) < 14, 28).reshape(28, 28)
_ONE = 256
"""Bilinear weights are multiples of 1 / _ONE."""

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Splits = tuple[Images, Targets, Images, Targets]
"""Training images and targets, test images and targets."""


def cached_splits(
    name: str, version: int, seed: int, source: str, make: Callable[[], Splits]
) -> Splits:
    """What `make` made once, kept in the user's cache folder; a damaged file is made again.

    Args:
        name: of the dataset. version, seed, source: all that the splits depend on besides; the
            source is the hash of the dataset whose images are composed.

    Raises:
        ToolchainError: the cache folder cannot be made. ArtifactError: it cannot be written.
    """
    of = hashlib.sha256(f"{version} {seed} {source}".encode()).hexdigest()[:16]
    path = cache_dir() / "data" / f"{name}-{of}.npz"
    splits = _read(path)
    if splits is None:
        splits = make()
        content = io.BytesIO()
        np.savez(content, *splits)
        write_atomic(path, content.getvalue())
    return splits


def _read(path: Path) -> Splits | None:
    """What a finished earlier run left; None also where the file is damaged."""
    try:
        with np.load(path) as file:
            train, train_targets, test, test_targets = (file[f"arr_{n}"] for n in range(4))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return train, train_targets, test, test_targets


def crop(padded: Images) -> Images:
    """[N, 28, 28] of Fashion-MNIST's [N, 32, 32, 1]."""
    return padded[:, 2:-2, 2:-2, 0]


def background(count: int, size: int, rng: np.random.Generator) -> Ints:
    """[count, side, side], a margin around each scene: a level and a slope of its own for each."""
    level, down, across = (
        rng.integers(low, high, (count, 1, 1), dtype=np.int32)
        for low, high in ((10, 100), (-40, 41), (-40, 41))
    )
    line = np.arange(size + 2 * MARGIN, dtype=np.int32) - (size // 2 + MARGIN)
    shades: Ints = level + (down * line[:, None] + across * line) // size
    return shades


def inside(canvas: Ints) -> Ints:
    """The scenes [N, size, size] on a canvas with margins, not copied."""
    return canvas[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def put_piece(canvas: Ints, sources: Images, rng: np.random.Generator) -> None:
    """Half of each source image, cut along its middle, small and anywhere in its scene."""
    count, side = len(canvas), 32
    size = canvas.shape[1] - 2 * MARGIN
    halves = np.stack([_HALF, ~_HALF, _HALF.T, ~_HALF.T])[rng.integers(0, 4, count)]
    angle = rng.uniform(0, 2 * math.pi, count)
    middle = np.full((count, 2), side / 2)
    piece = warp(sources * halves, angle, rng.uniform(0.6, 1.1, count), middle, side)
    corner = MARGIN + rng.integers(-8, size - side + 9, (2, count, 1))
    rows, columns = corner + np.arange(side)
    window = (np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :])
    canvas[window] = over(canvas[window], piece, rng.integers(90, 256, count))


def over(below: Ints, items: Ints, brightness: npt.NDArray[np.int64]) -> Ints:
    """[N, h, w] with items (0: transparent) laid over it; their edges are soft."""
    alpha = np.minimum(items * 4, 255)
    light = items * brightness[:, None, None].astype(np.int32) // 255
    return below + (light - below) * alpha // 255


def develop(scenes: Ints, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Exposure and noise of their own for each of the [N, h, w] scenes."""
    count = len(scenes)
    noise = rng.standard_normal(scenes.shape, dtype=np.float32)
    noise *= rng.uniform(2, 14, (count, 1, 1)).astype(np.float32)
    gain = rng.integers(128, 257, (count, 1, 1), dtype=np.int32)
    developed: npt.NDArray[np.uint8] = np.clip(
        scenes * gain // 256 + noise.astype(np.int32), 0, 255
    ).astype(np.uint8)
    return developed


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
