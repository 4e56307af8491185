"""What all datasets are: images of two splits, a target for each, and how pixels become inputs."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from dtmm.errors import DataError

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Targets = npt.NDArray[Any]
"""[N, ...]: what an image shows, in the form of the task."""


@dataclass(frozen=True)
class Moves:
    """How augmentation moves each of N images: mirrored first, then shifted.

    Attributes:
        mirrored: [N] bool. down, right: [N] pixels.
    """

    mirrored: npt.NDArray[np.bool_]
    down: Rows
    right: Rows


class Samples(ABC):
    """Images [N, H, W, C] uint8 of a training and a test split, with a target for each.

    A network's input is (pixel / 255 - mean) / std, float32. What targets are, and by which loss
    and score a network is judged, is the `task` (`dtmm.training.tasks`).

    Attributes:
        mirror: whether training may mirror images.
    """

    task: ClassVar[str]
    name: str
    train_images: Images
    test_images: Images
    classes: tuple[str, ...]
    mean: float
    std: float
    mirror: bool

    @property
    @abstractmethod
    def train_targets(self) -> Targets:
        """Of the training images."""

    @property
    @abstractmethod
    def test_targets(self) -> Targets:
        """Of the test images."""

    @abstractmethod
    def moved(self, targets: Targets, moves: Moves) -> Targets:
        """Targets [N, ...] of images that augmentation moved."""

    @abstractmethod
    def _held_out(self, kept: Rows, held: Rows) -> Self:
        """With these rows of the training split as the two splits."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of one image."""
        _, height, width, channels = self.train_images.shape
        return height, width, channels

    def to_input(self, images: Images) -> Floats:
        """Preprocess [N, H, W, C] uint8 pixels to float32 of the same shape."""
        return ((images.astype(np.float32) / 255.0 - self.mean) / self.std).astype(np.float32)

    def hold_out(self, share: float, seed: int) -> Self:
        """The same training images, a random `share` of them as the test images instead.

        What is trained and chosen on this dataset has never seen the real test images.

        Raises:
            DataError: the share leaves no image on one of the sides.
        """
        whole = len(self.train_targets)
        count = round(share * whole)
        if not 0 < count < whole:
            raise DataError(
                f"{self.name}: holding out a share of {share:g} takes {count} of "
                f"{whole} training images, expected some but not all"
            )
        order = np.random.default_rng(seed).permutation(whole)
        return self._held_out(np.sort(order[count:]), np.sort(order[:count]))

    @cached_property
    def hash(self) -> str:
        """SHA-256 over all images and targets, hex."""
        sha = hashlib.sha256()
        for array in (self.train_images, self.train_targets, self.test_images, self.test_targets):
            sha.update(repr((array.shape, array.dtype.str)).encode())
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()
