"""Training a dense float network from scratch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from dtmm.data import Dataset
from dtmm.training.loop import LoopConfig, accuracy, cross_entropy, train


@dataclass(frozen=True)
class Epoch:
    """A line of a training log: mean training loss (nats), test accuracy (share), wall time (s)."""

    epoch: int
    loss: float
    accuracy: float
    seconds: float


def train_dense(
    module: nn.Module,
    dataset: Dataset,
    config: LoopConfig,
    label_smoothing: float = 0.1,
    progress: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> tuple[Epoch, ...]:
    """Train `module` in place on the training images and return a line per epoch.

    The test accuracy is reported, never used: the last epoch's weights are the result.
    """
    log: list[Epoch] = []
    start = time.perf_counter()

    def after_epoch(epoch: int, loss: float, result: nn.Module) -> None:
        share = accuracy(result, dataset, dataset.test_images, dataset.test_labels)
        log.append(Epoch(epoch, loss, share, time.perf_counter() - start))
        if on_epoch is not None:
            on_epoch(log[-1])

    train(module, dataset, config, cross_entropy(label_smoothing), None, after_epoch, progress)
    return tuple(log)
