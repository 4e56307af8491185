"""Object detection made from Fashion-MNIST: which garments are where?

A scene is 64x64x1: one to four whole items, 17 to 31 pixels large, turned by up to 30 degrees, lit
at random, which hardly overlap, over two pieces torn from other items, on a sloped background, with
noise. An item's box is the smallest one around its visible pixels, also where a later item
covers some of them. The 10 classes are Fashion-MNIST's.

Every image of Fashion-MNIST is an item of exactly one scene, so there are 24,000 training and 4,000
test scenes (a fourth each with one, two, three and four items). Test scenes are made of test images
alone, pieces included. All is a function of the source images and SEED.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm.data.composition import (
    Floats,
    Ints,
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
from dtmm.data.detection import NOTHING, Boxes, DetectionDataset
from dtmm.data.fashion_mnist import CLASSES, load_fashion_mnist
from dtmm.data.samples import Images, Rows

SIZE = 64
"""Pixels along a side of a scene."""
MOST = 4
"""Items in a scene; their numbers follow each other: 1, 2, 3, 4, 1, ..."""
SEED = 0
VERSION = 1
"""Raise it when scenes change, so that cached ones are not used."""
# Mean and standard deviation of all training pixels / 255.
MEAN, STD = 0.1941, 0.1341

PIECES = 2
TRIES = 24
"""Places drawn for an item; the first that is free is taken, else the one that is freest."""
VISIBLE = 32
"""An item's pixels from this grey on are its box: fainter ones are hardly drawn."""
_CHUNK = 500
"""Scenes made at a time: bounds the memory that making them takes."""


@dataclass(frozen=True)
class BoxScenes:
    """Images [N, 64, 64, 1] uint8, boxes [N, MOST, 5], and the sources [N, MOST] of each scene's
    items: rows of the source images, -1 where there is none."""

    images: Images
    boxes: Boxes
    sources: Rows


def load_fashion_boxes(folder: Path | None = None) -> DetectionDataset:
    """The scenes made of the Fashion-MNIST in `folder` (None: where Debian's package puts it).

    Making them takes a minute; they are kept in the user's cache folder.

    Raises:
        DataError: see `load_fashion_mnist`.
        ToolchainError: the cache folder cannot be made. ArtifactError: it cannot be written.
    """
    source = load_fashion_mnist(folder)

    def make() -> Splits:
        train = make_box_scenes(crop(source.train_images), source.train_labels, (SEED, 0))
        test = make_box_scenes(crop(source.test_images), source.test_labels, (SEED, 1))
        return train.images, train.boxes, test.images, test.boxes

    arrays = cached_splits("fashion_boxes", VERSION, SEED, source.hash, make)
    return DetectionDataset("fashion_boxes", *arrays, classes=CLASSES, mean=MEAN, std=STD)


def make_box_scenes(images: Images, labels: Rows, seed: tuple[int, ...]) -> BoxScenes:
    """Scenes that use each source image once, in random order.

    Args:
        images: [N, 28, 28] uint8. labels: [N].
    """
    rng = np.random.default_rng(seed)
    sources = _dealt(len(images), rng)
    pieces = rng.integers(0, len(images), (len(sources), PIECES))
    made = [
        _compose(images, labels, sources[start : start + _CHUNK],
                 pieces[start : start + _CHUNK], rng)
        for start in range(0, len(sources), _CHUNK)
    ]  # fmt: skip
    scenes, boxes = (np.concatenate(parts) for parts in zip(*made, strict=True))
    return BoxScenes(scenes[..., None], boxes, sources)


def _dealt(count: int, rng: np.random.Generator) -> Rows:
    """[N, MOST] rows of `count` images, each once, 1 to MOST to a scene in turn, -1 elsewhere."""
    rows = rng.permutation(count)
    round_of_all = MOST * (MOST + 1) // 2
    scenes = MOST * -(-count // round_of_all)
    held = np.arange(scenes) % MOST + 1
    there = np.arange(MOST) < held[:, None]
    dealt = np.full((scenes, MOST), -1, dtype=np.int64)
    dealt[there] = np.concatenate([rows, np.full(there.sum() - count, -1)])
    return dealt[(dealt >= 0).any(axis=1)]


def _compose(
    images: Images, labels: Rows, sources: Rows, pieces: Rows, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Boxes]:
    """[N, 64, 64] scenes and their boxes."""
    count = len(sources)
    canvas = background(count, SIZE, rng)
    for piece in pieces.T:
        put_piece(canvas, images[piece], rng)
    scale = rng.uniform(0.6, 1.1, (count, MOST))
    centres = _places(14 * scale, sources >= 0, rng)
    scenes = inside(canvas)
    boxes = np.full((count, MOST, 5), NOTHING, dtype=np.float32)
    for n in range(MOST):
        angle = math.pi * rng.uniform(-30, 30, count) / 180
        light = rng.integers(130, 256, count)
        there = np.flatnonzero(sources[:, n] >= 0)
        rows = sources[there, n]
        item = warp(images[rows], angle[there], scale[there, n], centres[there, n], SIZE)
        scenes[there] = over(scenes[there], item, light[there])
        around = bounding_boxes(item >= VISIBLE)
        seen = around[:, 2] > around[:, 0]  # a source image may be all but black
        boxes[there[seen], n, 0] = labels[rows[seen]]
        boxes[there[seen], n, 1:] = around[seen]
    return develop(scenes, rng), boxes


def _places(radius: Floats, there: npt.NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    """[N, MOST, 2] row and column of the items' middles, one after the other where it is free.

    Args:
        radius: [N, MOST] half an item's side, pixels. there: [N, MOST].
    """
    count = len(radius)
    centres = np.zeros((count, MOST, 2))
    for n in range(MOST):
        reach = SIZE / 2 - radius[:, n, None, None]
        drawn = SIZE / 2 + reach * rng.uniform(-1, 1, (count, TRIES, 2))
        distance = np.abs(drawn[:, :, None] - centres[:, None, :n]).max(axis=3)
        gap = distance - (radius[:, :n] + radius[:, n, None])[:, None]
        gap = np.where(there[:, None, :n], gap, np.inf).min(axis=2, initial=np.inf)
        free = gap >= 0
        chosen = np.where(free.any(axis=1), free.argmax(axis=1), gap.argmax(axis=1))
        centres[:, n] = drawn[np.arange(count), chosen]
    return centres


def bounding_boxes(shapes: npt.NDArray[np.bool_]) -> Ints:
    """[N, 4] left, top, right, bottom around what is True in [N, h, w]; all 0 where nothing is."""

    any_of = np.logical_or.reduce

    def span(line: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
        first, last = line.argmax(axis=1), line.shape[1] - line[:, ::-1].argmax(axis=1)
        some = line.any(axis=1)
        return np.where(some, first, 0), np.where(some, last, 0)

    (left, right), (top, bottom) = span(any_of(shapes, axis=1)), span(any_of(shapes, axis=2))
    return np.stack([left, top, right, bottom], axis=1).astype(np.int32)
