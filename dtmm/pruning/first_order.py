"""First-order terms of removing each pruning unit, one set per training batch.

The loss is the batch's mean, of a classifier the cross-entropy in nats. Removing a filterlet sets
its weights w to zero, which changes the loss by -sum(w * dL/dw) to first order; removing a channel
sets its gate from one to zero, which changes it by -dL/dgate, the sum of activation * gradient
wherever a layer reads the group (a residual group has one gate, so its members are summed). Batch
normalization is frozen: with batch statistics the loss does not depend on a filter's scale and
sum(w * dL/dw) vanishes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dtmm.network.ir import Network
from dtmm.training.batches import Batch
from dtmm.training.executor import Executor
from dtmm.training.tasks import TargetLoss, cross_entropy

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Terms:
    """Signed first-order terms of one batch, in nats.

    Attributes:
        channels: per prunable channel group, [C].
        filterlets: per convolution, [C_out, kh, kw].
        images: size of the batch.
    """

    channels: dict[str, Floats]
    filterlets: dict[str, Floats]
    images: int


def first_order_terms(
    network: Network, batches: Iterable[Batch], loss: TargetLoss = cross_entropy
) -> Iterator[Terms]:
    """Terms of every batch, in order. The network is not changed."""
    executor = Executor(network).eval().requires_grad_(False)
    names = [op.name for op in network.convs()]
    weights = [executor.weight(name).requires_grad_() for name in names]
    for images, targets in batches:
        gates = executor.gates()
        value = loss(executor(images, gates), targets)
        gradients = torch.autograd.grad(value, [*weights, *gates.values()], materialize_grads=True)
        products = [w.detach() * g for w, g in zip(weights, gradients, strict=False)]
        yield Terms(
            channels={
                name: gradient.double().numpy()
                for name, gradient in zip(gates, gradients[len(weights) :], strict=True)
            },
            filterlets={
                name: product.sum(1, dtype=torch.float64).numpy()
                for name, product in zip(names, products, strict=True)
            },
            images=len(images),
        )
