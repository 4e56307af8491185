"""The loss that pruned networks really have, after batch normalization is re-estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from dtmm.network.ir import Network
from dtmm.training.batches import Batch
from dtmm.training.calibrate import reestimate_in_place
from dtmm.training.executor import Executor


@dataclass(frozen=True)
class PrunedLoss:
    """Mean cross-entropies in nats: `raw` with the dense network's batch normalization statistics,
    `reestimated` with the network's own."""

    raw: float
    reestimated: float


def pruned_loss(
    network: Network, calibration: Sequence[Batch], judged: Sequence[Batch]
) -> PrunedLoss:
    """Both losses of a network on `judged`, its statistics re-estimated on `calibration`."""
    executor = Executor(network).eval()
    raw = mean_loss(executor, judged)
    reestimate_in_place(executor, (images for images, _ in calibration))
    return PrunedLoss(raw, mean_loss(executor, judged))


@torch.no_grad()
def mean_loss(executor: Executor, batches: Sequence[Batch]) -> float:
    """Mean cross-entropy over all images of the batches, in nats."""
    total = sum(F.cross_entropy(executor(x), y, reduction="sum").item() for x, y in batches)
    return total / sum(len(y) for _, y in batches)
