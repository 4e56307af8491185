"""What networks are trained for: a loss of outputs and targets, and a score, by `Samples.task`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtmm.data.samples import Images, Samples, Targets
from dtmm.detection.average_precision import mean_average_precision
from dtmm.detection.grid import detect
from dtmm.errors import ConfigError
from dtmm.training.detection_loss import detection_loss
from dtmm.training.hardware import device_of
from dtmm.training.loop import Loss, to_tensor

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
        judge: how good outputs [N, classes] or [N, H, W, C] for the test images are, from 0 to 1;
            `measure` is the name of that score, `measure_words` for people.
        distils: whether a teacher's outputs can be learned from by `dtmm.training.finetune`.
    """

    name: str
    loss: TargetLoss
    loss_name: str
    judge: Callable[[Targets, Samples], float]
    measure: str
    measure_words: str
    distils: bool

    def score(self, module: nn.Module, dataset: Samples) -> float:
        """How good the module, in eval mode, is on the test images."""
        return self.judge(outputs_of(module, dataset, dataset.test_images), dataset)

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


def _accuracy(outputs: Targets, dataset: Samples) -> float:
    chosen = outputs.reshape(len(outputs), -1).argmax(axis=1)
    return float((chosen == dataset.test_targets).mean())


def _map50(outputs: Targets, dataset: Samples) -> float:
    return mean_average_precision(detect(outputs), dataset.test_targets).at_50


@torch.no_grad()
def outputs_of(module: nn.Module, dataset: Samples, images: Images) -> Targets:
    """[N, classes] or [N, H, W, C] float32 outputs of a module in eval mode, on its device.

    Args:
        images: [N, H, W, C] uint8.
    """
    module.eval()
    device = device_of(module)
    parts = [
        module(to_tensor(dataset.to_input(images[start : start + BATCH])).to(device))
        for start in range(0, len(images), BATCH)
    ]
    found = torch.cat([part.cpu() for part in parts])
    last: Targets = (found.permute(0, 2, 3, 1) if found.dim() == 4 else found).numpy()
    return last


TASKS: Mapping[str, Task] = {
    "classification": Task(
        "classification",
        cross_entropy,
        "cross-entropy",
        _accuracy,
        "accuracy",
        "accuracy",
        distils=True,
    ),
    "detection": Task(
        "detection",
        detection_loss,
        "detection loss",
        _map50,
        "map50",
        "mAP at 0.5",
        distils=False,
    ),
}


def task_of(dataset: Samples) -> Task:
    """The task of a dataset."""
    return TASKS[dataset.task]
