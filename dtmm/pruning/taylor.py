"""First-order Taylor importance: |sum of w * dL/dw| per unit.

The DTMM paper estimates what pruning does to the loss by a Taylor expansion of it (of its eight
equations the public summaries show none, so none can be cited by number); cut after the first term,
removing a unit changes the loss by minus the sum of w * dL/dw. The authors' code sums absolute
values per weight instead, which cannot cancel: `taylor_weights`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dtmm.network.ir import Network
from dtmm.pruning.first_order import Floats, first_order_terms
from dtmm.pruning.importance import Importance
from dtmm.training.batches import Batch
from dtmm.training.tasks import TargetLoss, cross_entropy


def taylor(
    network: Network, batches: Iterable[Batch], loss: TargetLoss = cross_entropy
) -> Importance:
    """The mean over batches of the absolute first-order term of each unit, in nats.

    Near a minimum the terms of single batches are mostly noise around zero, so the scores shrink
    with the square root of the batch size: compare scores of one batch size only.
    """
    channels: dict[str, list[Floats]] = {}
    filterlets: dict[str, list[Floats]] = {}
    images = 0
    for terms in first_order_terms(network, batches, loss):
        images += terms.images
        for name, values in terms.channels.items():
            channels.setdefault(name, []).append(np.abs(values))
        for name, values in terms.filterlets.items():
            filterlets.setdefault(name, []).append(np.abs(values))
    return Importance(
        criterion="taylor",
        channels={name: np.mean(values, axis=0) for name, values in channels.items()},
        filterlets={name: np.mean(values, axis=0) for name, values in filterlets.items()},
        aggregation="mean over batches of the absolute value",
        images=images,
    )
