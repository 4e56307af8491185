"""From a detector's outputs to boxes."""

from __future__ import annotations

import numpy as np
import pytest

from dtmm.detection.grid import BOX, PRIOR, STRIDE, detect, iou, suppress


def cell(x: float, y: float, width: float, height: float, label: int) -> np.ndarray:
    """The outputs of a cell, of 3 classes, that show such a box (pixels within the cell)."""
    place = np.array([x, y]) / STRIDE
    sides = np.log(np.array([width, height]) / PRIOR)
    scores = np.where(np.arange(3) == label, 10.0, 0.0)
    return np.concatenate([[4.0], np.log(place / (1 - place)), sides, scores])


def test_a_cell_shows_its_box() -> None:
    outputs = np.zeros((2, 4, 4, BOX + 3))
    outputs[..., 0] = -20
    outputs[1, 2, 3] = cell(2, 6, 10, 14, label=2)
    found = detect(outputs)
    assert found.images.tolist() == [1]
    assert found.classes.tolist() == [2]
    np.testing.assert_allclose(found.boxes, [[3 * 8 + 2 - 5, 2 * 8 + 6 - 7, 31, 29]])
    likely = np.exp(10) / (np.exp(10) + 2)
    assert found.scores == pytest.approx([likely / (1 + np.exp(-4))])


def test_images_beyond_the_first_chunk_keep_their_number() -> None:
    outputs = np.full((600, 1, 1, BOX + 1), -20.0)
    outputs[[0, 251, 599], 0, 0, 0] = 20
    assert detect(outputs).images.tolist() == [0, 251, 599]


def test_the_weaker_of_two_that_overlap_goes_within_a_class() -> None:
    boxes = np.array([[[0, 0, 10, 10], [0, 1, 10, 11], [0, 2, 10, 12], [30, 0, 40, 10]]], float)
    alive = np.ones((1, 4), np.bool_)
    same = suppress(boxes, np.zeros((1, 4), np.int64), alive, 0.65)
    assert same.tolist() == [[True, False, False, True]]  # the third meets the first with 2/3
    same = suppress(boxes, np.zeros((1, 4), np.int64), alive, 0.7)
    assert same.tolist() == [[True, False, True, True]]  # only the second, which is gone
    classes = np.array([[0, 1, 0, 0]])
    assert suppress(boxes, classes, alive, 0.5).tolist() == [[True, True, False, True]]


def test_overlap_of_boxes() -> None:
    a = np.array([[0, 0, 4, 4], [10, 10, 12, 12]], float)
    b = np.array([[2, 0, 6, 4], [0, 0, 4, 4], [4, 0, 8, 4]], float)
    np.testing.assert_allclose(iou(a, b), [[1 / 3, 1, 0], [0, 0, 0]])


def test_any_output_is_a_box() -> None:
    found = detect(np.full((1, 2, 2, BOX + 2), 1e4))
    assert np.isfinite(found.boxes).all()
