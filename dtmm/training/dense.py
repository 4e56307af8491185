"""Training a dense float network from scratch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from dtmm.data import Samples
from dtmm.training.loop import Checkpoint, LoopConfig, train
from dtmm.training.tasks import task_of


@dataclass(frozen=True)
class Epoch:
    """A line of a training log: mean training loss (nats), test accuracy (share; of a detector mean
    average precision at an overlap of 0.5), wall time (s)."""

    epoch: int
    loss: float
    accuracy: float
    seconds: float


def train_dense(
    module: nn.Module,
    dataset: Samples,
    config: LoopConfig,
    label_smoothing: float = 0.1,
    progress: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoint: Checkpoint | None = None,
    earlier: Sequence[Epoch] = (),
) -> tuple[Epoch, ...]:
    """Train `module` in place on the training images and return a line per epoch.

    The test accuracy is reported, never used: the last epoch's weights are the result.

    Args:
        on_epoch: called with the line of every epoch, before its checkpoint is saved.
        checkpoint: where every epoch is saved, and a run that was killed is taken up again.
        earlier: lines that this run gave before it was killed; those of epochs that are trained
            again are replaced.

    Raises:
        ArtifactError: the checkpoint is damaged or cannot be written.
    """
    task, log = task_of(dataset), list(earlier)
    start = time.perf_counter()

    def after_epoch(epoch: int, loss: float, result: nn.Module) -> None:
        share = task.score(result, dataset)
        nonlocal start
        log[:] = [line for line in log if line.epoch < epoch]
        now = time.perf_counter()
        seconds = now - start + (log[-1].seconds if log else 0.0)
        start = now
        log.append(Epoch(epoch, loss, share, seconds))
        if on_epoch is not None:
            on_epoch(log[-1])

    train(
        module,
        dataset,
        config,
        task.training_loss(label_smoothing),
        after_epoch=after_epoch,
        progress=progress,
        checkpoint=checkpoint,
    )
    return tuple(log)
