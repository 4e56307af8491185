"""Magnitude importance: the squared L2 norm of a unit as a share of its layer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dtmm.network.groups import channel_groups
from dtmm.network.ir import Conv2D, FullyConnected, Network
from dtmm.pruning.first_order import Floats
from dtmm.pruning.importance import Importance
from dtmm.training.batches import Batch


def magnitude(network: Network, batches: Iterable[Batch] = ()) -> Importance:
    """Squared L2 norm, scaled so that the scores of a layer sum to one; NOT in nats.

    A filterlet's score is its share of its layer's sum of squared weights; a channel's is the mean
    of the shares of the filters that produce it. It ranks units within a layer; sums over layers
    only say how much of the weights' energy goes, so a loss budget has no meaning with it.
    `batches` are not read.
    """
    shares: dict[str, Floats] = {}
    for op in network.ops:
        if isinstance(op, Conv2D | FullyConnected):
            squares = np.square(network.params[op.weight].astype(np.float64)).sum(axis=-1)
            shares[op.name] = squares / max(squares.sum(), np.finfo(np.float64).tiny)
    filterlets = {op.name: shares[op.name] for op in network.convs()}
    channels: dict[str, Floats] = {}
    for group in channel_groups(network):
        if group.prunable and not group.segments:
            made = [shares[name].reshape(group.channels, -1) for name in group.producers]
            channels[group.name] = np.mean([units.sum(axis=1) for units in made], axis=0)
    return Importance(
        criterion="magnitude",
        channels=channels,
        filterlets=filterlets,
        aggregation="share of the layer's squared weights",
        images=0,
    )
