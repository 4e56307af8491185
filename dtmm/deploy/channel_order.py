"""Orders the channels of a network so that its FWCS layers run fast.

The order of channels means nothing to a network as long as everyone who reads a tensor agrees with
whoever writes it. So a deployment keeps a network of its own, in which the filters of each FWCS
layer stand in the order that two-filter kernels want. Inputs and outputs keep the order they have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np

from dtmm.network.groups import ChannelGroup, channel_groups
from dtmm.network.ir import (
    Add,
    AveragePool2D,
    Conv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Network,
    Reshape,
    op_inputs,
)
from dtmm.quantization.quantized import QuantizedNetwork
from dtmm.storage.pairing import Permutation, pair_order

_REORDERABLE = (Add, AveragePool2D, Conv2D, FullyConnected, MaxPool2D, Mean, Reshape)
"""Operators that do not care for the order of channels, but for their weights'."""


def order_channels(
    network: QuantizedNetwork, fwcs: Collection[str]
) -> tuple[QuantizedNetwork, Mapping[str, Permutation]]:
    """The same network with its channels in the order its FWCS layers want.

    Args:
        fwcs: names of the convolutions that run on FWCS weights.

    Returns:
        The network, which computes the same outputs; and per tensor whose channels moved the order
        of its last axis, so that `ordered == original[..., order]`.
    """
    shapes = {name: tensor.shape for name, tensor in network.tensors.items()}
    skeleton = Network(network.name, shapes, network.ops, {}, network.inputs, network.outputs)
    weighted = {op.name: op for op in network.ops if isinstance(op, Conv2D | FullyConnected)}
    params, scales = dict(network.params), dict(network.weight_scales)
    orders: dict[str, Permutation] = {}
    for group in channel_groups(skeleton):
        masks = [
            network.params[weighted[name].weight].any(axis=-1).reshape(group.channels, -1)
            for name in group.producers
            if name in fwcs
        ]
        if not masks or not _is_reorderable(network, group):
            continue
        order = pair_order(np.concatenate(masks, axis=1))
        if np.array_equal(order, np.arange(group.channels)):
            continue
        for name in group.producers:
            op = weighted[name]
            params[op.weight] = params[op.weight][order]
            scales[op.weight] = scales[op.weight][order]
            if op.bias is not None:
                params[op.bias] = params[op.bias][order]
        for name in group.consumers:
            op = weighted[name]
            values = params[op.weight]
            by_channel = values.reshape(*values.shape[:-1], -1, group.channels)
            params[op.weight] = by_channel[..., order].reshape(values.shape)
        for tensor in group.tensors:
            elements = np.arange(shapes[tensor][-1]).reshape(-1, group.channels)
            orders[tensor] = elements[:, order].reshape(-1)
    return dataclasses.replace(network, params=params, weight_scales=scales), orders


def _is_reorderable(network: QuantizedNetwork, group: ChannelGroup) -> bool:
    members = set(group.tensors)
    touching = [op for op in network.ops if members & {op.output, *op_inputs(op)}]
    return group.prunable and all(isinstance(op, _REORDERABLE) for op in touching)
