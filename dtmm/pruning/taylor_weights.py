"""First-order Taylor importance as the DTMM authors' code sums it: sum of |w * dL/dw| per unit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from dtmm.network.ir import Network
from dtmm.pruning.importance import Importance
from dtmm.pruning.shares import filter_sums, scored_groups
from dtmm.training.batches import Batch
from dtmm.training.executor import Executor
from dtmm.training.tasks import TargetLoss, cross_entropy


def taylor_weights(
    network: Network, batches: Iterable[Batch], loss: TargetLoss = cross_entropy
) -> Importance:
    """|w * g| of each weight, g the mean gradient over batches, summed over the unit; in nats, but
    far above the first-order change of the loss, in which terms of opposite sign cancel.

    Channels: the sum over their filters' weights, over all layers that make them. The authors' code
    (generate_importance.py of their repository) computes g with batch normalization by batch
    statistics, on its validation split, and knows no channel groups; here batch normalization is
    frozen.
    """
    executor = Executor(network).eval().requires_grad_(False)
    layers = {name for group in scored_groups(network) for name in group.producers}
    layers |= {op.name for op in network.convs()}
    names = [op.name for op in network.ops if op.name in layers]
    weights = [executor.weight(name).requires_grad_() for name in names]
    totals = [torch.zeros_like(weight) for weight in weights]
    count, seen = 0, 0
    for images, targets in batches:
        value = loss(executor(images), targets)
        for total, gradient in zip(totals, torch.autograd.grad(value, weights), strict=True):
            total += gradient
        count, seen = count + 1, seen + len(images)
    # [C_out, C_in, kh, kw] to [C_out, kh, kw], or [C_out, C_in] to [C_out]
    sums = {
        name: (weight.detach() * total / count).abs().sum(1, dtype=torch.float64).numpy()
        for name, weight, total in zip(names, weights, totals, strict=True)
    }
    return Importance(
        criterion="taylor_weights",
        channels={
            group.name: np.sum([filter_sums(sums[p], group) for p in group.producers], axis=0)
            for group in scored_groups(network)
        },
        filterlets={op.name: sums[op.name] for op in network.convs()},
        aggregation="absolute value of the mean over batches, summed over weights",
        images=seen,
    )
