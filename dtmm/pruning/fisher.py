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

from dtmm.network.ir import Network
from dtmm.pruning.first_order import Floats
from dtmm.pruning.importance import Importance
from dtmm.training.batches import Batch
from dtmm.training.executor import Executor
from dtmm.training.tasks import TargetLoss, cross_entropy


def fisher(
    network: Network, batches: Iterable[Batch], loss: TargetLoss = cross_entropy
) -> Importance:
    """Half the mean over images of the squared first-order term of each weight, summed per unit.

    In nats. A channel's gate is one weight. Mean squares over images are estimated from batches:
    the square of the batches' mean plus B times their variance.
    """
    weights, gates, images = _moments(network, batches, loss)
    return Importance(
        criterion="fisher",
        channels={name: each.half_mean_square() for name, each in gates.items()},
        # terms are [C_out, C_in, kh, kw]; a filterlet is a sum over C_in
        filterlets={name: each.half_mean_square().sum(axis=1) for name, each in weights.items()},
        aggregation="half the mean square per image and weight",
        images=images,
    )


def fisher_of_weights(
    network: Network, batches: Iterable[Batch], loss: TargetLoss = cross_entropy
) -> dict[str, Floats]:
    """The same per weight, which add up over any unit: by convolution [C_out, kh, kw, C_in]."""
    weights, _, _ = _moments(network, batches, loss)
    return {name: each.half_mean_square().transpose(0, 2, 3, 1) for name, each in weights.items()}


def _moments(
    network: Network, batches: Iterable[Batch], loss: TargetLoss
) -> tuple[dict[str, _Moments], dict[str, _Moments], int]:
    """Of the first-order terms of the convolutions' weights, OIHW, and of the groups' gates; and
    the number of images."""
    executor = Executor(network).eval().requires_grad_(False)
    names = [op.name for op in network.convs()]
    weights = [executor.weight(name).requires_grad_() for name in names]
    by_conv: dict[str, _Moments] = {}
    by_group: dict[str, _Moments] = {}
    seen = 0
    for images, targets in batches:
        gates = executor.gates()
        value = loss(executor(images, gates), targets)
        gradients = torch.autograd.grad(value, [*weights, *gates.values()], materialize_grads=True)
        for name, weight, gradient in zip(names, weights, gradients, strict=False):
            terms = (weight.detach() * gradient).double().numpy()
            by_conv.setdefault(name, _Moments()).add(terms, len(images))
        for name, gradient in zip(gates, gradients[len(weights) :], strict=True):
            by_group.setdefault(name, _Moments()).add(gradient.double().numpy(), len(images))
        seen += len(images)
    return by_conv, by_group, seen


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
