"""The loss that pruned networks really have, after batch normalization is re-estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dtmm.network.ir import Network
from dtmm.training.batches import Batch
from dtmm.training.calibrate import reestimate_in_place
from dtmm.training.executor import Executor
from dtmm.training.tasks import TargetLoss, cross_entropy


@dataclass(frozen=True)
class PrunedLoss:
    """Mean losses, of a classifier cross-entropies in nats: `raw` with the dense network's batch
    normalization statistics, `reestimated` with the network's own."""

    raw: float
    reestimated: float


def pruned_loss(
    network: Network,
    calibration: Sequence[Batch],
    judged: Sequence[Batch],
    loss: TargetLoss = cross_entropy,
) -> PrunedLoss:
    """Both losses of a network on `judged`, its statistics re-estimated on `calibration`."""
    executor = Executor(network).eval()
    raw = mean_loss(executor, judged, loss)
    reestimate_in_place(executor, (images for images, _ in calibration))
    return PrunedLoss(raw, mean_loss(executor, judged, loss))


@torch.no_grad()
def mean_loss(
    executor: Executor, batches: Sequence[Batch], loss: TargetLoss = cross_entropy
) -> float:
    """Mean loss over all images of the batches."""
    total = sum(loss(executor(x), y, reduction="sum").item() for x, y in batches)
    return total / sum(len(y) for _, y in batches)
