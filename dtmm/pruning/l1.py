"""L1 magnitude (Li et al. 2017, "Pruning filters for efficient ConvNets")."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dtmm.network.ir import Network
from dtmm.pruning.importance import Importance
from dtmm.pruning.shares import importance_of_shares
from dtmm.training.batches import Batch


def l1(network: Network, batches: Iterable[Batch] = ()) -> Importance:
    """A unit's sum of absolute weights as a share of its layer's; not in nats (see `shares`).

    `batches` are not read.
    """
    return importance_of_shares(network, "l1", np.abs, "share of the layer's absolute weights")
