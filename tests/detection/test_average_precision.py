"""Mean average precision by hand, against brute force, and what must not matter to it."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.detection.average_precision import average_precisions, mean_average_precision
from dtmm.detection.grid import Detections

CLASSES = 3


def detections(*rows: tuple[int, int, float, tuple[float, ...]]) -> Detections:
    """Of (image, class, score, box)."""
    images, classes, scores, boxes = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Detections(
        np.array(images, np.int64),
        np.array(classes, np.int64),
        np.array(scores, np.float64),
        np.array(boxes, np.float64).reshape(-1, 4),
    )


def objects(*images: list[tuple[int, tuple[float, ...]]]) -> np.ndarray:
    """[N, M, 5] of each image's (class, box)."""
    found = np.full((len(images), 4, 5), -1, np.float32)
    for n, each in enumerate(images):
        for m, (label, box) in enumerate(each):
            found[n, m] = (label, *box)
    return found


BOX, FAR, HALF = (0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 30.0, 30.0), (0.0, 0.0, 10.0, 6.0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], 0.0),
        ([(0, 0, 0.9, BOX), (1, 0, 0.8, FAR)], 1.0),
        # a miss above the hits: precision 1/2 at recall 1/2, 2/3 at 1
        ([(0, 0, 0.9, FAR), (0, 0, 0.8, BOX), (1, 0, 0.7, FAR)], 2 / 3),
        # a miss between them: 1 at 1/2, 2/3 at 1
        ([(0, 0, 0.9, BOX), (0, 0, 0.8, FAR), (1, 0, 0.7, FAR)], (1 + 2 / 3) / 2),
        # the second detection of an object is a miss, and only one object is found
        ([(0, 0, 0.9, BOX), (0, 0, 0.8, BOX)], 0.5),
        # of another class, or in the other image
        ([(0, 1, 0.9, BOX), (1, 0, 0.8, BOX)], 0.0),
        # equal scores: one point, precision 1/2 at recall 1/2
        ([(0, 0, 0.9, BOX), (0, 0, 0.9, FAR)], 0.25),
        # overlaps by 0.6
        ([(0, 0, 0.9, HALF), (1, 0, 0.8, FAR)], 1.0),
    ],
)
def test_by_hand(found: list[tuple[int, int, float, tuple[float, ...]]], expected: float) -> None:
    truth = objects([(0, BOX)], [(0, FAR)])
    assert average_precisions(detections(*found), truth, (0.5,)) == pytest.approx(expected)


def test_thresholds_of_overlap() -> None:
    precision = mean_average_precision(detections((0, 2, 0.5, HALF)), objects([(2, BOX)]))
    assert precision.at_50 == 1.0
    assert precision.coco == pytest.approx(0.3)  # 0.5, 0.55 and 0.6 of ten


def brute_force(found: Detections, truth: np.ndarray, label: int, threshold: float) -> float:
    """The area under the best precision at or beyond each recall, all anew for each score."""
    points = [(0.0, 0.0)]
    total = int((truth[..., 0] == label).sum())
    for least in sorted(set(found.scores[found.classes == label].tolist()), reverse=True):
        hits = shown = 0
        for image, rows in enumerate(truth):
            free = [tuple(row[1:].tolist()) for row in rows if row[0] == label]
            mine = [
                (-score, tuple(box.tolist()))
                for i, c, score, box in zip(
                    found.images, found.classes, found.scores, found.boxes, strict=True
                )
                if i == image and c == label and score >= least
            ]
            for _, box in sorted(mine, key=lambda each: (each[0], each[1][::-1])):
                shown += 1
                overlaps = [overlap(box, other) for other in free]
                if overlaps and max(overlaps) >= threshold:
                    hits += 1
                    free.pop(overlaps.index(max(overlaps)))
        points.append((hits / total, hits / shown))
    recalls = sorted({recall for recall, _ in points})
    area = 0.0
    for before, recall in itertools.pairwise(recalls):
        area += (recall - before) * max(p for r, p in points if r >= recall)
    return area


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """By counting the unit squares of whole-numbered boxes."""
    cells = [
        {(x, y) for x in range(int(left), int(right)) for y in range(int(top), int(bottom))}
        for left, top, right, bottom in (a, b)
    ]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


def random_case(seed: int) -> tuple[Detections, np.ndarray]:
    """Whole-numbered boxes near each other, with few different scores."""
    rng = np.random.default_rng(seed)

    def box() -> tuple[float, ...]:
        left, top = rng.integers(0, 6, 2)
        width, height = rng.integers(2, 5, 2)
        return float(left), float(top), float(left + width), float(top + height)

    truth = objects(
        *([(int(rng.integers(CLASSES)), box()) for _ in range(rng.integers(1, 5))] for _ in "abc")
    )
    rows = [
        (int(rng.integers(3)), int(rng.integers(CLASSES)), float(rng.integers(1, 6)) / 5, box())
        for _ in range(rng.integers(0, 16))
    ]
    return detections(*rows), truth


@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.5, 0.75]))
def test_against_brute_force(seed: int, threshold: float) -> None:
    found, truth = random_case(seed)
    labels = np.unique(truth[..., 0][truth[..., 0] >= 0])
    expected = [brute_force(found, truth, int(label), threshold) for label in labels]
    assert average_precisions(found, truth, (threshold,))[0] == pytest.approx(expected)


@given(st.integers(0, 10**6))
def test_no_order_matters(seed: int) -> None:
    found, truth = random_case(seed)
    rng = np.random.default_rng(seed)
    order, images = rng.permutation(len(found.scores)), rng.permutation(len(truth))
    shuffled = Detections(
        *(getattr(found, field.name)[order] for field in dataclasses.fields(Detections))
    )
    moved = dataclasses.replace(shuffled, images=np.argsort(images)[shuffled.images])
    assert mean_average_precision(moved, truth[images]) == mean_average_precision(found, truth)


@given(st.integers(0, 10**6))
def test_perfect_detections_give_one(seed: int) -> None:
    _, truth = random_case(seed)
    truth = truth[:, :1]  # one object per image: none covers another
    images, slots = np.nonzero(truth[..., 0] >= 0)
    there = truth[images, slots]
    scores = np.random.default_rng(seed).random(len(there))
    found = Detections(
        images, there[:, 0].astype(np.int64), scores, there[:, 1:].astype(np.float64)
    )
    assert mean_average_precision(found, truth).coco == pytest.approx(1.0)
    half = dataclasses.replace(found, classes=found.classes + CLASSES)
    assert mean_average_precision(half, truth).coco == 0.0
