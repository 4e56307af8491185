"""L2 magnitude: the squared norm of a unit, which adds up over a layer as the norm does not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dtmm.network.ir import Network
from dtmm.pruning.importance import Importance
from dtmm.pruning.shares import importance_of_shares
from dtmm.training.batches import Batch


def l2(network: Network, batches: Iterable[Batch] = ()) -> Importance:
    """A unit's sum of squared weights as a share of its layer's; not in nats (see `shares`).

    `batches` are not read.
    """
    return importance_of_shares(network, "l2", np.square, "share of the layer's squared weights")
