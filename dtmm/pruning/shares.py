"""What every criterion that reads weights only needs: a unit's share of its layer.

Such scores rank units within a layer and are NOT in nats: a sum over layers only says how much of
the weights goes, so a loss budget on them has no meaning. Use them with measured losses
(`dtmm.planning.loss_models`), which need a ranking alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dtmm.network.groups import ChannelGroup, channel_groups
from dtmm.network.ir import Conv2D, FullyConnected, Network
from dtmm.pruning.first_order import Floats
from dtmm.pruning.importance import Importance


def importance_of_shares(
    network: Network, criterion: str, size: Callable[[Floats], Floats], aggregation: str
) -> Importance:
    """A filterlet's size as a share of its layer's sum; a channel has the mean, over the layers
    that make it, of its filters' shares.

    Args:
        size: elementwise, additive over weights: the size of a unit is the sum of its weights'.
    """
    shares = layer_shares(network, size)
    return Importance(
        criterion=criterion,
        channels={
            group.name: np.mean([filter_sums(shares[p], group) for p in group.producers], axis=0)
            for group in scored_groups(network)
        },
        filterlets={op.name: shares[op.name] for op in network.convs()},
        aggregation=aggregation,
        images=0,
    )


def scored_groups(network: Network) -> list[ChannelGroup]:
    """The groups that get channel scores: prunable ones, virtual ones through their segments."""
    return [g for g in channel_groups(network) if g.prunable and not g.segments]


def layer_shares(network: Network, size: Callable[[Floats], Floats]) -> Mapping[str, Floats]:
    """Per convolution [C_out, kh, kw] and fully connected layer [C_out], summing to one (or 0)."""
    shares = {}
    for op in network.ops:
        if isinstance(op, Conv2D | FullyConnected):
            units = size(network.params[op.weight].astype(np.float64)).sum(axis=-1)
            shares[op.name] = units / max(units.sum(), np.finfo(np.float64).tiny)
    return shares


def filter_sums(shares: Floats, group: ChannelGroup) -> Floats:
    """[C] of a layer's shares, [C_out, ...]."""
    summed: Floats = shares.reshape(group.channels, -1).sum(axis=1)
    return summed
