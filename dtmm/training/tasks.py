"""What networks are trained for: a loss of outputs and targets, and a score, by `Samples.task`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtmm.data.samples import Images, Samples, Targets
from dtmm.detection.average_precision import mean_average_precision
from dtmm.detection.grid import detect
from dtmm.errors import ConfigError
from dtmm.training.detection_loss import detection_loss
from dtmm.training.hardware import device_of
from dtmm.training.loop import Loss, accuracy, to_tensor

BATCH = 250


class TargetLoss(Protocol):
    """How far a network's outputs are from a batch's targets."""

    def __call__(
        self,
        outputs: Tensor,
        targets: Tensor,
        *,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """A scalar: mean or sum over the batch's images.

        Args:
            outputs: [N, classes], or [N, C, H, W]. targets: [N, ...].
        """


def cross_entropy(
    outputs: Tensor, targets: Tensor, *, reduction: str = "mean", label_smoothing: float = 0.0
) -> Tensor:
    """Of logits [N, classes] and labels [N], in nats."""
    return F.cross_entropy(outputs, targets, reduction=reduction, label_smoothing=label_smoothing)


@dataclass(frozen=True)
class Task:
    """What a network is trained for.

    Attributes:
        score: what share of the test split the module, in eval mode, gets right; `measure` is
            the score's name.
        distils: whether a teacher's outputs can be learned from by `dtmm.training.finetune`.
    """

    name: str
    loss: TargetLoss
    loss_name: str
    score: Callable[[nn.Module, Samples], float]
    measure: str
    distils: bool

    def training_loss(self, label_smoothing: float = 0.0) -> Loss:
        """The mean loss, for the training loop."""

        def loss(_: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
            return self.loss(outputs.float(), targets, label_smoothing=label_smoothing)

        return loss

    def require_distillation(self, setting: str, value: float) -> None:
        """Raises ConfigError where a teacher is asked for that cannot teach."""
        if not self.distils:
            raise ConfigError(
                f"{setting} is {value:g}, expected 0: {self.name} has no distillation"
            )


def _accuracy(module: nn.Module, dataset: Samples) -> float:
    return accuracy(module, dataset, dataset.test_images, dataset.test_targets)


def _map50(module: nn.Module, dataset: Samples) -> float:
    return mean_average_precision(
        detect(outputs_of(module, dataset, dataset.test_images)), dataset.test_targets
    ).at_50


@torch.no_grad()
def outputs_of(module: nn.Module, dataset: Samples, images: Images) -> Targets:
    """[N, H, W, C] float32 outputs of a module in eval mode for [N, H, W, C] uint8 images."""
    module.eval()
    device = device_of(module)
    parts = [
        module(to_tensor(dataset.to_input(images[start : start + BATCH])).to(device))
        for start in range(0, len(images), BATCH)
    ]
    found: Targets = np.concatenate([part.permute(0, 2, 3, 1).cpu().numpy() for part in parts])
    return found


TASKS: Mapping[str, Task] = {
    "classification": Task(
        "classification", cross_entropy, "cross-entropy", _accuracy, "accuracy", distils=True
    ),
    "detection": Task(
        "detection", detection_loss, "detection loss", _map50, "map50", distils=False
    ),
}


def task_of(dataset: Samples) -> Task:
    """The task of a dataset."""
    return TASKS[dataset.task]
