"""Seeded batches of training images without augmentation, for everything that only looks."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from dtmm.data import Samples
from dtmm.errors import DtmmError
from dtmm.training.loop import LoopConfig, batches

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images, float [N, C, H, W] (channels-last in memory), and targets: labels, int64 [N], or boxes,
float [N, M, 5] (`dtmm.data.detection`)."""


def training_batches(dataset: Samples, images: int, batch: int, seed: int) -> Iterator[Batch]:
    """`images` different training images, drawn at random and cut into batches of `batch`.

    More images than the training set has means all of them. A last, smaller batch is left out
    unless it is the only one, so that every batch weighs the same.

    Raises:
        DtmmError: `images` or `batch` is below 1.
    """
    if min(images, batch) < 1:
        raise DtmmError(f"cannot draw {images} training images in batches of {batch}")
    config = LoopConfig(
        epochs=1, images_per_epoch=images, batch=batch, flip=False, shift=0, seed=seed
    )
    return batches(dataset, config, epoch=0)
