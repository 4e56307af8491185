"""Datasets with boxes: composed scenes, FDDB from a folder made here, and what moves boxes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtmm.data import DetectionDataset, load_dataset, load_detection
from dtmm.data.fashion_boxes import SIZE, BoxScenes, bounding_boxes, make_box_scenes
from dtmm.data.fddb import LISTS, PICTURES, boxes_around
from dtmm.data.samples import Moves
from dtmm.errors import DataError

ITEMS = 96


@pytest.fixture(scope="module")
def scenes() -> BoxScenes:
    """Of bright squares of the whole 28x28 pixels."""
    images = np.full((ITEMS, 28, 28), 255, np.uint8)
    return make_box_scenes(images, np.arange(ITEMS) % 10, seed=(0, 0))


def test_every_item_is_in_one_scene_under_its_class(scenes: BoxScenes) -> None:
    there = scenes.sources >= 0
    assert np.array_equal(np.sort(scenes.sources[there]), np.arange(ITEMS))
    assert there.sum(axis=1)[:8].tolist() == [1, 2, 3, 4, 1, 2, 3, 4]
    assert np.array_equal(scenes.boxes[..., 0] >= 0, there)
    assert np.array_equal(scenes.boxes[there][:, 0], scenes.sources[there] % 10)


def test_boxes_lie_in_the_scene_and_hardly_overlap(scenes: BoxScenes) -> None:
    there = scenes.boxes[scenes.boxes[..., 0] >= 0]
    sides = there[:, 3:] - there[:, 1:3]
    assert there[:, 1:].min() >= 0
    assert there[:, 1:].max() <= SIZE
    assert 15 <= sides.min() <= sides.max() <= 28 * 1.1 * np.sqrt(2)
    for boxes in scenes.boxes:
        boxes = boxes[boxes[:, 0] >= 0]
        cells = {tuple(((box[1:3] + box[3:]) / 2 // 8).tolist()) for box in boxes}
        assert len(cells) == len(boxes)  # one object per cell of the detector's grid


def test_scenes_are_a_function_of_their_seed(scenes: BoxScenes) -> None:
    images = np.full((ITEMS, 28, 28), 255, np.uint8)
    again, other = (make_box_scenes(images, np.arange(ITEMS) % 10, (0, n)) for n in (0, 1))
    assert np.array_equal(again.images, scenes.images)
    assert not np.array_equal(other.images, scenes.images)


def test_a_box_holds_its_item() -> None:
    """A lone bright item on darker ground: what stands out lies in the box and fills it."""
    images = np.zeros((10, 28, 28), np.uint8)
    images[:, 4:24, 8:20] = 255
    scenes = make_box_scenes(images, np.zeros(10, np.int64), seed=(3,))
    lone = scenes.boxes[0, 0, 1:].astype(int)
    assert scenes.boxes[0, 1, 0] == -1
    image = scenes.images[0, ..., 0].astype(float)
    left, top, right, bottom = lone
    inside = image[top:bottom, left:right]
    assert inside.mean() > image.mean()
    assert 12 * 0.6 <= right - left <= 28 * 1.1
    assert 20 * 0.6 * np.cos(np.pi / 6) <= bottom - top <= 24 * 1.1


def test_bounding_boxes() -> None:
    shapes = np.zeros((2, 5, 6), np.bool_)
    shapes[0, 1:3, 2] = shapes[0, 3, 4] = True
    assert bounding_boxes(shapes).tolist() == [[2, 1, 5, 4], [0, 0, 0, 0]]


@pytest.fixture
def dataset() -> DetectionDataset:
    images = np.zeros((3, 8, 10, 1), np.uint8)
    boxes = np.full((3, 2, 5), -1, np.float32)
    boxes[:, 0] = (1, 2, 1, 5, 4)
    return DetectionDataset("made", images, boxes, images[:1], boxes[:1], ("a", "b"), 0.0, 1.0)


def test_boxes_follow_their_image(dataset: DetectionDataset) -> None:
    moves = Moves(np.array([False, True, False]), np.array([1, 0, -2]), np.array([-1, 2, 9]))
    moved = dataset.moved(dataset.train_boxes, moves)
    assert moved[0, 0].tolist() == [1, 1, 2, 4, 5]
    assert moved[1, 0].tolist() == [1, 7, 1, 10, 4]  # mirrored 5..8, then shifted
    assert moved[2, 0, 0] == -1  # gone to the right
    assert (moved[:, 1, 0] == -1).all()
    assert moved.dtype == np.float32


def test_a_box_that_leaves_is_cut_off_while_its_middle_is_there(dataset: DetectionDataset) -> None:
    moves = Moves(np.zeros(3, np.bool_), np.array([-2, 0, 5]), np.zeros(3, np.int64))
    moved = dataset.moved(dataset.train_boxes, moves)
    assert moved[0, 0].tolist() == [1, 2, 0, 5, 2]
    assert moved[2, 0].tolist() == [1, 2, 6, 5, 8]


def test_holding_out_keeps_boxes_with_images(dataset: DetectionDataset) -> None:
    boxes = dataset.train_boxes.copy()
    boxes[:, 0, 1] = [0, 1, 2]
    images = dataset.train_images.copy()
    images[:, 0, 0, 0] = [0, 1, 2]
    split = dataclasses.replace(dataset, train_images=images, train_boxes=boxes).hold_out(0.4, 0)
    assert len(split.test_boxes) == 1
    for found, shown in ((split.train_boxes, split.train_images),
                         (split.test_boxes, split.test_images)):  # fmt: skip
        assert np.array_equal(found[:, 0, 1], shown[:, 0, 0, 0])
    assert split.hash != dataset.hash


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([2, 0, 0, 1, 1], r"made: training boxes have class 2, expected 0\.\.1"),
        ([0, 3, 0, 3, 1], r"hold \[3\.0, 0\.0, 3\.0, 1\.0\], expected left < right within 0\.\.10"),
        ([0, 0, 0, 1, 9], r"top < bottom within 0\.\.8"),
    ],
)
def test_boxes_that_do_not_fit(boxes: list[int], message: str, dataset: DetectionDataset) -> None:
    wrong = dataset.train_boxes.copy()
    wrong[1, 1] = boxes
    with pytest.raises(DataError, match=message):
        dataclasses.replace(dataset, train_boxes=wrong)
    with pytest.raises(DataError, match=r"shape \(2, 2, 5\), expected \(3, M, 5\)"):
        dataclasses.replace(dataset, train_boxes=wrong[:2])


def test_boxes_and_labels_are_not_mixed_up() -> None:
    with pytest.raises(DataError, match="dataset fddb has boxes, expected one with labels: cam"):
        load_dataset("fddb")
    with pytest.raises(DataError, match="unknown detection dataset 'gtsrb'; known: fashion_boxes"):
        load_detection("gtsrb")


FACE = "20.0 10.0 {angle} 50 30  1"


@pytest.fixture
def fddb(tmp_path: Path) -> Path:
    """A picture of 100x50 pixels per fold, with one or two faces."""
    (tmp_path / LISTS).mkdir()
    for fold in range(1, 11):
        name = f"2002/08/{fold:02}/big/img_{fold}"
        path = tmp_path / PICTURES / f"{name}.jpg"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (100, 50), (20 * fold,) * 3).save(path)
        faces = [FACE.format(angle="0.0")] + [FACE.format(angle="1.5707963")] * (fold == 2)
        text = "\n".join([name, str(len(faces)), *faces]) + "\n"
        (tmp_path / LISTS / f"FDDB-fold-{fold:02}-ellipseList.txt").write_text(text)
    return tmp_path


def test_fddb_boxes_are_around_the_ellipses(fddb: Path) -> None:
    data = load_detection("fddb", fddb)
    assert data.train_images.shape == (8, 112, 112, 1)
    assert len(data.test_images) == 2
    assert data.train_images[0].mean() == pytest.approx(20, abs=2)
    assert data.test_images[1].mean() == pytest.approx(200, abs=2)
    wide = [0, 30 * 1.12, 20 * 2.24, 70 * 1.12, 40 * 2.24]
    tall = [0, 40 * 1.12, 10 * 2.24, 60 * 1.12, 50 * 2.24]
    np.testing.assert_allclose(data.train_boxes[0, 0], wide, rtol=1e-5)
    np.testing.assert_allclose(data.train_boxes[1], [wide, tall], rtol=1e-5)
    assert (data.train_boxes[2:, 1, 0] == -1).all()
    assert data.classes == ("face",)


def test_a_tilted_ellipse_touches_its_box() -> None:
    t = np.linspace(0, 2 * np.pi, 10_000)
    major, minor, angle = 7.0, 3.0, 0.6
    x = 20 + major * np.cos(t) * np.cos(angle) - minor * np.sin(t) * np.sin(angle)
    y = 9 + major * np.cos(t) * np.sin(angle) + minor * np.sin(t) * np.cos(angle)
    (box,) = boxes_around(np.array([[major, minor, angle, 20, 9]]))
    np.testing.assert_allclose(box, [x.min(), y.min(), x.max(), y.max()], atol=1e-4)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (1, "many", r"fold-03-ellipseList\.txt: line 2 is 'many', expected the number of faces of"),
        (2, "20 10 0 50 1", r"line 3 is '20 10 0 50 1', expected two radii above 0"),
        (2, "20 x 0 50 30 1", "line 3 is '20 x 0 50 30 1'"),
        (1, "2", "the file ends, expected two radii"),
        (0, "2002/gone", r"cannot read the picture .*2002/gone\.jpg"),
        (2, "20 10 0 500 30 1", r"img_3\.jpg is 100x50 pixels, a face lies outside of it"),
    ],
)
def test_fddb_names_what_is_broken(line: int, text: str, message: str, fddb: Path) -> None:
    path = fddb / LISTS / "FDDB-fold-03-ellipseList.txt"
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        load_detection("fddb", fddb)


def test_fddb_without_its_files_says_what_belongs_there(fddb: Path) -> None:
    with pytest.raises(DataError, match=r"fddb needs data\.folder, a folder that holds FDDB-folds"):
        load_detection("fddb")
    (fddb / LISTS / "FDDB-fold-10-ellipseList.txt").unlink()
    with pytest.raises(DataError, match=r"cannot read the dataset list .*fold-10"):
        load_detection("fddb", fddb)
