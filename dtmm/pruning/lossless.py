"""Removes from an int8 network what cannot change any output byte (DESIGN: dead channels).

A channel goes if nobody reads it, or if it is the same constant everywhere and that constant can be
folded into the biases of those who read it. A filter without weights makes such a constant, its
requantized bias; a reader that pads sees zeros around it, so there only the zero point will do.
Filterlets that are zero need nothing done: FWCS leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dtmm.errors import DtmmError
from dtmm.network import ir
from dtmm.network.groups import ChannelGroup, channel_groups, whole_masks
from dtmm.planning.nouns import Selection
from dtmm.pruning.removal import remove
from dtmm.quantization.dequantize import dequantize
from dtmm.quantization.quantized import QuantizedNetwork
from dtmm.quantization.reference import run

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_INT32_MAX = (1 << 31) - 1


def pack(network: QuantizedNetwork) -> QuantizedNetwork:
    """The network without its dead channels: fewer bytes and cycles, the same outputs.

    Channels of concatenations, grouped convolutions and of the network's own inputs and outputs
    stay, and of every group at least one.
    """
    while True:
        smaller = _pack_once(network)
        if smaller is None:
            return network
        network = smaller


def require_equal_bytes(
    network: QuantizedNetwork, packed: QuantizedNetwork, images: int = 2, seed: int = 0
) -> None:
    """Compare every output byte of both on random images, by the integer reference.

    Raises:
        DtmmError: any differs.
    """
    shape = network.tensors[network.inputs[0]].shape[1:]
    codes = np.random.default_rng(seed).integers(-128, 128, (images, *shape)).astype(np.int8)
    expected, found = run(network, codes), run(packed, codes)
    if not np.array_equal(expected, found):
        raise DtmmError(
            f"leaving dead channels out of the network changes {int((expected != found).sum())} of "
            f"{expected.size} output bytes, expected none"
        )


def _pack_once(network: QuantizedNetwork) -> QuantizedNetwork | None:
    """What goes at once; None if nothing does. A filter may die by what its input lost."""
    float_form = dequantize(network)
    groups = channel_groups(float_form)
    shape = network.tensors[network.inputs[0]].shape
    every = run(network, np.zeros((1, *shape[1:]), np.int8), keep_all=True)
    constant = _constant_channels(network, every)
    segments = {name for group in groups for name in group.segments}
    masks: dict[str, Bools] = {}
    for group in groups:
        if not group.prunable or group.segments or group.name in segments:
            continue
        readers = [
            op
            for op in network.ops
            if isinstance(op, ir.Conv2D | ir.FullyConnected) and op.input in group.tensors
        ]
        gone = _unread(network, group, readers)
        gone |= _foldable(network, group, readers, constant, every)
        if gone.all():
            gone[0] = False
        if gone.any():
            masks[group.name] = ~gone
    return _without(network, float_form, groups, masks, every) if masks else None


def _per_channel(group: ChannelGroup, values: npt.NDArray[np.bool_]) -> Bools:
    """[C] all of the values of a tensor of the group, which may be flattened: (pixels, C)."""
    return np.asarray(values.reshape(-1, group.channels).all(axis=0))


def _columns(
    network: QuantizedNetwork, group: ChannelGroup, op: ir.Conv2D | ir.FullyConnected
) -> Ints:
    """[C_out, taps, C]: a reader's weights by the channel of the group that they meet."""
    weights = network.params[op.weight]
    return weights.astype(np.int64).reshape(len(weights), -1, group.channels)


def _unread(
    network: QuantizedNetwork,
    group: ChannelGroup,
    readers: list[ir.Conv2D | ir.FullyConnected],
) -> Bools:
    """[C] channels that meet zero weights only."""
    if not readers:
        return np.zeros(group.channels, dtype=np.bool_)
    read = [_columns(network, group, op).any(axis=(0, 1)) for op in readers]
    unread: Bools = ~np.any(read, axis=0)
    return unread


def _foldable(
    network: QuantizedNetwork,
    group: ChannelGroup,
    readers: list[ir.Conv2D | ir.FullyConnected],
    constant: Mapping[str, Bools],
    every: Mapping[str, npt.NDArray[np.int8]],
) -> Bools:
    """[C] constant channels whose readers can take them into their biases."""
    gone = np.ones(group.channels, dtype=np.bool_)
    for name in group.tensors:
        gone &= _per_channel(group, constant[name])
    worst: list[int] = []
    for op in readers:
        value = every[op.input].reshape(-1, group.channels)[0].astype(np.int64)
        above = value - network.tensors[op.input].zero_point
        if isinstance(op, ir.Conv2D) and any(op.padding):
            gone &= above == 0
        lost = np.abs(_columns(network, group, op).sum(axis=1) * above)[:, gone].sum(axis=1)
        worst.append(int((np.abs(network.params[op.bias or ""].astype(np.int64)) + lost).max()))
    return gone & (max(worst, default=0) <= _INT32_MAX)


def _without(
    network: QuantizedNetwork,
    float_form: ir.Network,
    groups: tuple[ChannelGroup, ...],
    masks: Mapping[str, Bools],
    every: Mapping[str, npt.NDArray[np.int8]],
) -> QuantizedNetwork:
    """Biases take what leaves, then `remove` takes the channels out of shapes and weights."""
    kept = whole_masks(groups, masks)
    group_of = {tensor: group for group in groups for tensor in group.tensors}
    params = dict(network.params)
    scales = dict(network.weight_scales)
    for op in network.ops:
        if isinstance(op, ir.Conv2D | ir.FullyConnected):
            group = group_of[op.input]
            gone = ~kept[group.name]
            if gone.any():
                value = every[op.input].reshape(-1, group.channels)[0].astype(np.int64)
                above = (value - network.tensors[op.input].zero_point)[gone]
                lost = _columns(network, group, op)[:, :, gone].sum(axis=1) @ above
                params[op.bias or ""] = (params[op.bias or ""] + lost).astype(np.int32)
        if isinstance(op, ir.Weighted):
            scales[op.weight] = scales[op.weight][kept[group_of[op.output].name]]
    # `remove` only selects, so it takes codes for what they are
    small = remove(replace(float_form, params=params), Selection(dict(masks), {}))  # type: ignore[arg-type]
    return replace(
        network,
        tensors={
            name: replace(tensor, shape=small.tensors[name])
            for name, tensor in network.tensors.items()
        },
        params=small.params,  # type: ignore[arg-type]
        weight_scales=scales,
    )


def _constant_channels(
    network: QuantizedNetwork, every: Mapping[str, npt.NDArray[np.int8]]
) -> dict[str, Bools]:
    """Per tensor [last axis]: True where a channel has one value, whatever the input is."""
    found = {name: np.zeros(network.tensors[name].shape[-1], np.bool_) for name in network.inputs}
    for op in network.ops:
        found[op.output] = _constant(network, op, [found[name] for name in ir.op_inputs(op)], every)
    return found


def _constant(
    network: QuantizedNetwork,
    op: ir.Op,
    inputs: list[Bools],
    every: Mapping[str, npt.NDArray[np.int8]],
) -> Bools:
    if isinstance(op, ir.Weighted):
        dead = ~network.params[op.weight].reshape(len(network.params[op.weight]), -1).any(axis=1)
        if isinstance(op, ir.DepthwiseConv2D):
            dead |= inputs[0] & (not any(op.padding) or _is_zero(network, op.input, every))
        return np.asarray(dead)
    if isinstance(op, ir.Concat):
        return np.concatenate(inputs)
    if isinstance(op, ir.Reshape):
        return np.tile(inputs[0], network.tensors[op.output].shape[-1] // inputs[0].size)
    if isinstance(op, ir.Softmax):
        return np.full(inputs[0].shape, inputs[0].all())
    if isinstance(op, ir.Pad):
        return inputs[0] & (not any(op.padding) or _is_zero(network, op.input, every))
    return np.asarray(np.logical_and.reduce(inputs))


def _is_zero(
    network: QuantizedNetwork, tensor: str, every: Mapping[str, npt.NDArray[np.int8]]
) -> Bools:
    """[C] whether a constant channel is the zero point, which padding is too."""
    first = every[tensor].reshape(-1, every[tensor].shape[-1])[0]
    return np.asarray(first == network.tensors[tensor].zero_point)
