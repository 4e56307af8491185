"""Mean average precision of detections.

Detections are matched as in COCO's evaluation: of each image and class in order of their scores,
each to the free object that it overlaps most, if that is at least the threshold. Average precision
is the area under the precision's upper envelope over recall, at every recall there is (PASCAL VOC
2010 on). Equal scores count together, so that no order among them matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.detection.grid import Detections, Floats, iou

COCO_THRESHOLDS = tuple(np.arange(10) / 20 + 0.5)
"""0.5 to 0.95."""


@dataclass(frozen=True)
class Precision:
    """Mean average precisions, 0 to 1: at an overlap of 0.5, and the mean of COCO's thresholds."""

    at_50: float
    coco: float


def mean_average_precision(found: Detections, truth: npt.NDArray[np.floating]) -> Precision:
    """Over the classes that `truth`, [N, M, 5] (class or -1, left, top, right, bottom), has."""
    values = average_precisions(found, truth, COCO_THRESHOLDS).mean(axis=1)
    return Precision(float(values[0]), float(values.mean()))


def average_precisions(
    found: Detections, truth: npt.NDArray[np.floating], thresholds: tuple[float, ...]
) -> Floats:
    """[T, C] at each threshold, of each class that has an object in `truth`, ascending."""
    right = matches(found, truth, thresholds)
    labels, counts = np.unique(truth[..., 0][truth[..., 0] >= 0], return_counts=True)
    values = np.zeros((len(thresholds), len(labels)))
    for c, (label, count) in enumerate(zip(labels, counts, strict=True)):
        of_class = found.classes == label
        for t in range(len(thresholds)):
            values[t, c] = _area(found.scores[of_class], right[t, of_class], int(count))
    return values


def matches(
    found: Detections, truth: npt.NDArray[np.floating], thresholds: tuple[float, ...]
) -> npt.NDArray[np.bool_]:
    """[T, K]: which detections have an object of their own, at each threshold."""
    right = np.zeros((len(thresholds), len(found.scores)), np.bool_)
    least = np.array(thresholds)[:, None]
    keys = (*found.boxes.T, found.classes, -found.scores, found.images)
    order = np.lexsort(keys)
    starts = np.searchsorted(found.images[order], np.arange(len(truth) + 1))
    for image, objects in enumerate(truth):
        rows = order[starts[image] : starts[image + 1]]
        overlaps = iou(found.boxes[rows], objects[:, 1:].astype(np.float64))
        overlaps = np.where(found.classes[rows, None] == objects[:, 0], overlaps, -1.0)
        free = np.ones((len(thresholds), len(objects)), np.bool_)
        for row, overlap in zip(rows, overlaps, strict=True):
            usable = np.where(free & (overlap >= least), overlap, -1.0)
            best = usable.argmax(axis=1)
            hit = usable[np.arange(len(least)), best] >= 0
            right[:, row] = hit
            free[hit, best[hit]] = False
    return right


def _area(scores: Floats, right: npt.NDArray[np.bool_], objects: int) -> float:
    """Under the envelope of precision over recall, a point for each distinct score."""
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(right[order])[last]
    precision = hits / (np.flatnonzero(last) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(hits / objects, prepend=0.0) * envelope))
