"""BatchNorm scale (Liu et al. 2017, "Learning efficient convolutional networks through network
slimming")."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dtmm.network.ir import BatchNorm, Network, Weighted
from dtmm.pruning.first_order import Floats
from dtmm.pruning.importance import Importance
from dtmm.pruning.shares import layer_shares, scored_groups
from dtmm.training.batches import Batch


def bn_scale(network: Network, batches: Iterable[Batch] = ()) -> Importance:
    """|scale| of the batch normalization behind each filter; not in nats (see `shares`).

    Channels: a share of the sum over the layer, the mean over the layers of a residual group. A
    layer without batch normalization counts as scale 1, which ranks nothing. Filterlets: the paper
    has none; here the share of squared weights after the normalization is folded into them
    (scale / sqrt(variance + epsilon)). `batches` are not read.
    """
    norms = {op.input: op for op in network.ops if isinstance(op, BatchNorm)}
    layers = {op.name: op for op in network.ops if isinstance(op, Weighted)}
    shares = layer_shares(network, np.square)

    def scale(name: str, folded: bool) -> Floats:
        norm = norms.get(layers[name].output)
        if norm is None:
            return np.ones(len(network.params[layers[name].weight]))
        values = np.abs(network.params[norm.scale].astype(np.float64))
        if folded:
            values = values / np.sqrt(network.params[norm.variance] + norm.epsilon)
        return np.asarray(values)

    def normalised(values: Floats) -> Floats:
        return np.asarray(values / max(values.sum(), np.finfo(np.float64).tiny))

    return Importance(
        criterion="bn_scale",
        channels={
            group.name: np.mean([normalised(scale(p, False)) for p in group.producers], axis=0)
            for group in scored_groups(network)
        },
        filterlets={
            op.name: normalised(shares[op.name] * scale(op.name, True)[:, None, None] ** 2)
            for op in network.convs()
        },
        aggregation="share of the layer's scales",
        images=0,
    )
