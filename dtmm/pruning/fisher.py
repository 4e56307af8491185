"""Diagonal Fisher importance: each weight's own second-order term, weights independent of each
other (Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning"; LeCun et
al. 1989, "Optimal brain damage", with the Fisher information in place of the Hessian).

It differs from `taylor_squared` in where the square is taken: here per weight, summed over the unit
afterwards, so that terms of opposite sign within a filterlet do not cancel.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F

from dtmm.network.ir import Network
from dtmm.pruning.first_order import Floats
from dtmm.pruning.importance import Importance
from dtmm.training.batches import Batch
from dtmm.training.executor import Executor


def fisher(network: Network, batches: Iterable[Batch]) -> Importance:
    """Half the mean over images of the squared first-order term of each weight, summed per unit.

    In nats. A channel's gate is one weight. Mean squares over images are estimated from batches:
    the square of the batches' mean plus B times their variance.
    """
    executor = Executor(network).eval().requires_grad_(False)
    names = [op.name for op in network.convs()]
    weights = [executor.weight(name).requires_grad_() for name in names]
    moments: dict[str, _Moments] = {}
    gated: list[str] = []
    for images, labels in batches:
        gates = executor.gates()
        gated = list(gates)
        loss = F.cross_entropy(executor(images, gates), labels)
        gradients = torch.autograd.grad(loss, [*weights, *gates.values()], materialize_grads=True)
        products = [w.detach() * g for w, g in zip(weights, gradients, strict=False)]
        keys = [f"conv {name}" for name in names] + [f"group {name}" for name in gated]
        for key, value in zip(keys, [*products, *gradients[len(weights) :]], strict=True):
            moments.setdefault(key, _Moments()).add(value.double().numpy(), len(images))
    images_seen = next(iter(moments.values())).images if moments else 0
    return Importance(
        criterion="fisher",
        channels={name: moments[f"group {name}"].half_mean_square() for name in gated},
        # products are [C_out, C_in, kh, kw]; a filterlet is a sum over C_in
        filterlets={
            name: moments[f"conv {name}"].half_mean_square().sum(axis=1)
            for name in names
            if f"conv {name}" in moments
        },
        aggregation="half the mean square per image and weight",
        images=images_seen,
    )


class _Moments:
    """Sums over batches of one tensor of first-order terms."""

    def __init__(self) -> None:
        self.batches, self.images = 0, 0
        self.total: Floats = np.zeros(())
        self.squares: Floats = np.zeros(())

    def add(self, terms: Floats, images: int) -> None:
        """One batch's terms (of the mean loss over `images`)."""
        self.batches += 1
        self.images += images
        self.total = self.total + terms
        self.squares = self.squares + terms**2

    def half_mean_square(self) -> Floats:
        """Half the mean square over images; their variance is B times that between batches."""
        n = self.batches
        mean = self.total / n
        variance = np.maximum(self.squares - n * mean**2, 0.0) / max(n - 1, 1)
        return np.asarray(0.5 * (self.images / n * variance + mean**2))
