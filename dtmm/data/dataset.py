"""A labelled image dataset in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from dtmm.data.samples import Floats, Images, Moves, Rows, Samples
from dtmm.errors import DataError

Labels = npt.NDArray[np.int64]

__all__ = ["Dataset", "Floats", "Images", "Labels"]


@dataclass(frozen=True)
class Dataset(Samples):
    """Images [N, H, W, C] uint8 and labels [N] int64, split into training and test.

    Anything that is chosen (a threshold, an epoch) is chosen on a part of the training images,
    never on the test images. `mirror`: a mirrored image keeps its class, so training may flip it.

    Raises:
        DataError: a split is empty, or its images and labels do not fit together.
    """

    task = "classification"

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    classes: tuple[str, ...]
    mean: float
    std: float
    mirror: bool = True

    def __post_init__(self) -> None:
        for split, images, labels in (
            ("training", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if len(images) != len(labels):
                raise DataError(
                    f"{self.name}: {len(images)} {split} images but {len(labels)} labels"
                )
            if not len(labels):
                raise DataError(f"{self.name}: 0 {split} images, expected at least 1")
            if not 0 <= labels.min() <= labels.max() < len(self.classes):
                raise DataError(
                    f"{self.name}: {split} labels span {labels.min()}..{labels.max()}, "
                    f"expected 0..{len(self.classes) - 1}"
                )

    @property
    def train_targets(self) -> Labels:
        """The training labels."""
        return self.train_labels

    @property
    def test_targets(self) -> Labels:
        """The test labels."""
        return self.test_labels

    def moved(self, targets: Labels, moves: Moves) -> Labels:
        """See Samples: wherever it is, an image keeps its class."""
        return targets

    def _held_out(self, kept: Rows, held: Rows) -> Self:
        return replace(
            self,
            train_images=self.train_images[kept],
            train_labels=self.train_labels[kept],
            test_images=self.train_images[held],
            test_labels=self.train_labels[held],
        )
