"""A labelled image dataset in memory, and how its pixels become a network's input."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dtmm.errors import DataError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Images [N, H, W, C] uint8 and labels [N] int64, split into training and test.

    A network's input is (pixel / 255 - mean) / std, float32. Anything that is chosen (a threshold,
    an epoch) is chosen on a part of the training images, never on the test images. `mirror`: a
    mirrored image keeps its class, so training may flip it.

    Raises:
        DataError: a split is empty, or its images and labels do not fit together.
    """

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
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        _, height, width, channels = self.train_images.shape
        return height, width, channels

    def to_input(self, images: Images) -> Floats:
        """Preprocess [N, H, W, C] uint8 pixels to float32 of the same shape."""
        return ((images.astype(np.float32) / 255.0 - self.mean) / self.std).astype(np.float32)

    def hold_out(self, share: float, seed: int) -> Dataset:
        """The same training images, a random `share` of them as the test images instead.

        What is trained and chosen on this dataset has never seen the real test images.

        Raises:
            DataError: the share leaves no image on one of the sides.
        """
        count = round(share * len(self.train_labels))
        if not 0 < count < len(self.train_labels):
            raise DataError(
                f"{self.name}: holding out a share of {share:g} takes {count} of "
                f"{len(self.train_labels)} training images, expected some but not all"
            )
        order = np.random.default_rng(seed).permutation(len(self.train_labels))
        held, kept = np.sort(order[:count]), np.sort(order[count:])
        return replace(
            self,
            train_images=self.train_images[kept],
            train_labels=self.train_labels[kept],
            test_images=self.train_images[held],
            test_labels=self.train_labels[held],
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256 over all images and labels, hex."""
        sha = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            sha.update(repr((array.shape, array.dtype.str)).encode())
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()
