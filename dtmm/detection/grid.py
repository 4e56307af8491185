"""What a one-stage detector's outputs mean: a box for each cell of a grid, as in YOLO.

A cell is STRIDE pixels wide and its vector, [5 + C], holds logits and logarithms:

- objectness: the logit of "the middle of an object lies in this cell",
- x, y: logits of where in the cell, 0 to 1,
- width, height: logarithms of the sides over PRIOR,
- C class logits.

That is YOLOv2's output (Redmon and Farhadi 2017, "YOLO9000: better, faster, stronger", section 2)
with one square anchor, so that two objects with their middles in one cell are one too many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

STRIDE = 8
"""Pixels along a side of a cell."""
PRIOR = 20.0
"""Pixels along a side of a box whose width and height outputs are 0."""
BOX = 5
"""Outputs of a cell before the classes'."""
LEAST_SCORE = 0.01
OVERLAP = 0.5
"""Of two detections of a class that overlap more, the weaker one goes."""
_CHUNK = 250
"""Images at a time: bounds the memory of comparing each cell's box with each other's."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Detections:
    """K boxes found in some images, in any order.

    Attributes:
        images: [K] row of the image. classes: [K].
        scores: [K] 0 to 1. boxes: [K, 4] left, top, right, bottom, pixels.
    """

    images: Ints
    classes: Ints
    scores: Floats
    boxes: Floats


def detect(
    outputs: npt.NDArray[np.floating], least: float = LEAST_SCORE, overlap: float = OVERLAP
) -> Detections:
    """The detections of a network's outputs [N, S, S, 5 + C].

    A cell's class is its likeliest one, its score the probability of an object and of that class.
    """
    found = [
        _detect(outputs[start : start + _CHUNK].astype(np.float64), start, least, overlap)
        for start in range(0, len(outputs), _CHUNK)
    ]
    columns = zip(*found, strict=True)
    return Detections(*(np.concatenate(parts) for parts in columns))


def _detect(
    outputs: Floats, first: int, least: float, overlap: float
) -> tuple[Ints, Ints, Floats, Floats]:
    boxes = decode(outputs).reshape(len(outputs), -1, 4)
    cells = outputs.reshape(len(outputs), -1, outputs.shape[3])
    likely = softmax(cells[..., BOX:], axis=2)
    classes = likely.argmax(axis=2)
    scores = expit(cells[..., 0]) * likely.max(axis=2)
    order = np.argsort(-scores, axis=1, kind="stable")
    scores, classes = (np.take_along_axis(each, order, axis=1) for each in (scores, classes))
    boxes = np.take_along_axis(boxes, order[..., None], axis=1)
    alive = suppress(boxes, classes, scores >= least, overlap)
    images, _ = np.nonzero(alive)
    return images + first, classes[alive], scores[alive], boxes[alive]


def decode(outputs: Floats) -> Floats:
    """[N, S, S, 4] left, top, right, bottom in pixels of each cell's box."""
    line = np.arange(outputs.shape[1]), np.arange(outputs.shape[2])
    rows, columns = np.meshgrid(*line, indexing="ij")
    middle = np.stack([columns, rows], axis=2) + expit(outputs[..., 1:3])
    # a box beyond 50 times the prior is larger than any image; exp must not overflow
    half = PRIOR / 2 * np.exp(np.minimum(outputs[..., 3:5], 4.0))
    return np.concatenate([STRIDE * middle - half, STRIDE * middle + half], axis=3)


def suppress(
    boxes: Floats, classes: Ints, alive: npt.NDArray[np.bool_], overlap: float
) -> npt.NDArray[np.bool_]:
    """[N, K] what stays of K boxes per image, strongest first: greedy, within a class.

    Args:
        boxes: [N, K, 4]. classes: [N, K]. alive: [N, K] candidates.
    """
    kept = alive.copy()
    rivals = (iou(boxes, boxes) > overlap) & (classes[:, :, None] == classes[:, None, :])
    for n in range(1, boxes.shape[1]):
        kept[:, n] &= ~(kept[:, :n] & rivals[:, :n, n]).any(axis=1)
    return kept


def iou(first: Floats, second: Floats) -> Floats:
    """[..., K, L] intersection over union of boxes [..., K, 4] and [..., L, 4]."""
    a, b = first[..., :, None, :], second[..., None, :, :]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    union = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1)
    found: Floats = shared / np.maximum(union - shared, np.finfo(np.float64).tiny)
    return found
