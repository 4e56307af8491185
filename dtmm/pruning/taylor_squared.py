"""Squared Taylor importance of a unit as a whole (Molchanov et al. 2019, "Importance Estimation for
Neural Network Pruning"; Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher
pruning").

With the Fisher information in place of the Hessian, removing a unit raises the loss by half the
mean over images of its squared first-order term (sum over the unit first, square afterwards). That
is in nats, unlike the plain square, and does not depend on the batch size.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dtmm.network.ir import Network
from dtmm.pruning.first_order import Floats, first_order_terms
from dtmm.pruning.importance import Importance
from dtmm.training.batches import Batch
from dtmm.training.tasks import TargetLoss, cross_entropy


def _half_second_moment(terms: list[Floats], batch_size: float) -> Floats:
    """Half the mean square over images; their variance is B times that between batches."""
    values = np.stack(terms)
    variance = values.var(axis=0, ddof=1) if len(terms) > 1 else np.zeros_like(values[0])
    moment: Floats = 0.5 * (batch_size * variance + values.mean(axis=0) ** 2)
    return moment


def taylor_squared(
    network: Network, batches: Iterable[Batch], loss: TargetLoss = cross_entropy
) -> Importance:
    """Half the mean squared first-order term per image of each unit, in nats (Fisher estimate)."""
    channels: dict[str, list[Floats]] = {}
    filterlets: dict[str, list[Floats]] = {}
    sizes = []
    for terms in first_order_terms(network, batches, loss):
        sizes.append(terms.images)
        for name, values in terms.channels.items():
            channels.setdefault(name, []).append(values)
        for name, values in terms.filterlets.items():
            filterlets.setdefault(name, []).append(values)
    size = float(np.mean(sizes))
    return Importance(
        criterion="taylor_squared",
        channels={name: _half_second_moment(v, size) for name, v in channels.items()},
        filterlets={name: _half_second_moment(v, size) for name, v in filterlets.items()},
        aggregation="half the mean square per image",
        images=sum(sizes),
    )
