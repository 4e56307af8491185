"""The training that some modes do before they prune."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from dtmm.config import PruneConfig
from dtmm.data import Samples
from dtmm.pruning.modes.base import Progress
from dtmm.training.executor import Executor
from dtmm.training.loop import LoopConfig, Loss, train
from dtmm.training.tasks import task_of


def train_with_penalty(
    executor: Executor,
    dataset: Samples,
    config: PruneConfig,
    penalty: Callable[[], torch.Tensor],
    after_epoch: Callable[[int], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Train in place on the task's loss plus `penalty()`; `after_epoch` gets the epoch's number."""
    plain = task_of(dataset).training_loss()

    def loss(images: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return plain(images, outputs, targets) + penalty()

    regular: Loss = loss
    loop = LoopConfig(
        epochs=config.epochs,
        images_per_epoch=config.images_per_epoch,
        batch=config.batch,
        optimizer=config.optimizer,
        lr=config.lr,
        flip=dataset.mirror,
        seed=config.seed,
    )

    def ended(epoch: int, _: float, __: nn.Module) -> None:
        if after_epoch is not None:
            after_epoch(epoch)

    train(executor, dataset, loop, regular, None, ended, progress)
