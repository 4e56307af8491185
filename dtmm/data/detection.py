"""An object detection dataset in memory: images and the boxes of what they show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from dtmm.data.samples import Images, Moves, Rows, Samples
from dtmm.errors import DataError

Boxes = npt.NDArray[np.float32]
"""[N, M, 5] per image M rows (class, left, top, right, bottom): pixels, a pixel reaching from its
number to the next; class -1 in rows without an object."""

NOTHING = -1


@dataclass(frozen=True)
class DetectionDataset(Samples):
    """Images [N, H, W, C] uint8 and boxes [N, M, 5] float32, split into training and test.

    `mirror`: a mirrored object keeps its class, so training may flip images.

    Raises:
        DataError: a split is empty, or its images and boxes do not fit together.
    """

    task = "detection"

    name: str
    train_images: Images
    train_boxes: Boxes
    test_images: Images
    test_boxes: Boxes
    classes: tuple[str, ...]
    mean: float
    std: float
    mirror: bool = True

    def __post_init__(self) -> None:
        for split, images, boxes in (
            ("training", self.train_images, self.train_boxes),
            ("test", self.test_images, self.test_boxes),
        ):
            _check(f"{self.name}: {split}", images, boxes, len(self.classes))

    @property
    def train_targets(self) -> Boxes:
        """The training boxes."""
        return self.train_boxes

    @property
    def test_targets(self) -> Boxes:
        """The test boxes."""
        return self.test_boxes

    def moved(self, targets: Boxes, moves: Moves) -> Boxes:
        """See Samples: boxes follow, their parts outside of the image are cut off.

        An object whose middle leaves the image is one no more.
        """
        height, width, _ = self.image_shape
        label, left, top, right, bottom = np.moveaxis(targets, 2, 0)
        mirrored = moves.mirrored[:, None]
        left, right = (
            np.where(mirrored, width - right, left),
            np.where(mirrored, width - left, right),
        )
        left, right = left + moves.right[:, None], right + moves.right[:, None]
        top, bottom = top + moves.down[:, None], bottom + moves.down[:, None]
        x, y = (left + right) / 2, (top + bottom) / 2
        seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        sides = [np.clip(side, 0, most) for side, most in
                 ((left, width), (top, height), (right, width), (bottom, height))]  # fmt: skip
        return np.stack([np.where(seen, label, NOTHING), *sides], axis=2).astype(np.float32)

    def _held_out(self, kept: Rows, held: Rows) -> Self:
        return replace(
            self,
            train_images=self.train_images[kept],
            train_boxes=self.train_boxes[kept],
            test_images=self.train_images[held],
            test_boxes=self.train_boxes[held],
        )


def _check(what: str, images: Images, boxes: Boxes, classes: int) -> None:
    if not len(images):
        raise DataError(f"{what} images: 0, expected at least 1")
    if boxes.ndim != 3 or boxes.shape[0] != len(images) or boxes.shape[2] != 5:
        raise DataError(f"{what} boxes have shape {boxes.shape}, expected ({len(images)}, M, 5)")
    there = boxes[boxes[..., 0] != NOTHING]
    known = np.isin(there[:, 0], np.arange(classes))
    if not known.all():
        raise DataError(
            f"{what} boxes have class {there[~known][0, 0]:g}, expected 0..{classes - 1}"
        )
    _, height, width, _ = images.shape
    left, top, right, bottom = there[:, 1:].T
    good = (left >= 0) & (left < right) & (right <= width)
    good &= (top >= 0) & (top < bottom) & (bottom <= height)
    if not good.all():
        raise DataError(
            f"{what} boxes hold {there[~good][0, 1:].tolist()}, "
            f"expected left < right within 0..{width} and top < bottom within 0..{height}"
        )
