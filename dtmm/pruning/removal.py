"""Carries out a selection: channels leave the network, pruned filterlets become exactly zero.

Numpy only. After removal the weights are the single source of truth: a filterlet is pruned if and
only if it is exactly zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dtmm.errors import DtmmError
from dtmm.network.groups import ChannelGroup, channel_groups, whole_masks
from dtmm.network.ir import (
    BatchNorm,
    Binary,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Network,
    Shape,
)
from dtmm.planning.nouns import Selection

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float32]


def remove(network: Network, selection: Selection) -> Network:
    """The network that stays.

    Args:
        network: unfolded or folded.
        selection: masks over `network`'s channels and filterlets. A group or convolution that it
            does not name stays whole.

    Returns:
        A network with the same operators and names, fewer channels, and pruned filterlets at zero.

    Raises:
        DtmmError: an unknown name, a mask of another shape, a group without any channel left, or
            removed channels in a group that must stay whole (network inputs and outputs).
    """
    groups = channel_groups(network)
    masks = whole_masks(groups, selection.channels)
    _check_channels(groups, selection.channels, masks)
    kept = {
        tensor: _repeat(masks[group.name], network.tensors[tensor][-1])
        for group in groups
        if not masks[group.name].all()
        for tensor in group.tensors
    }
    tensors = {name: _narrow(shape, kept.get(name)) for name, shape in network.tensors.items()}
    pruned = _prune_filterlets(network, selection.filterlets)
    params = _narrow_params(pruned, kept)
    return replace(network, tensors=tensors, params=params)


def _repeat(mask: Mask, length: int) -> Mask:
    """The mask of a tensor of the group; flattening repeats the channels once per pixel (NHWC)."""
    return np.tile(mask, length // mask.size)


def _narrow(shape: Shape, kept: Mask | None) -> Shape:
    return shape if kept is None else (*shape[:-1], int(kept.sum()))


def _prune_filterlets(network: Network, masks: Mapping[str, Mask]) -> Network:
    convs = {op.name: op for op in network.convs()}
    params = dict(network.params)
    for name, mask in masks.items():
        if name not in convs:
            raise DtmmError(f"selection names convolution '{name}', the network has {[*convs]}")
        key = convs[name].weight
        expected = (*params[key].shape[:3], 1)
        if mask.shape != expected:
            raise DtmmError(
                f"filterlet mask of '{name}' has shape {mask.shape}, expected {expected}"
            )
        params[key] = np.where(mask, params[key], np.float32(0))
    return replace(network, params=params)


def _narrow_params(network: Network, kept: Mapping[str, Mask]) -> dict[str, Array]:
    params = dict(network.params)

    def narrow(key: str | None, tensor: str, axis: int) -> None:
        if key is not None and tensor in kept:
            params[key] = np.ascontiguousarray(np.compress(kept[tensor], params[key], axis))

    for op in network.ops:
        if isinstance(op, Conv2D | FullyConnected):
            narrow(op.weight, op.output, 0)
            narrow(op.bias, op.output, 0)
            narrow(op.weight, op.input, params[op.weight].ndim - 1)
        elif isinstance(op, DepthwiseConv2D):
            narrow(op.weight, op.output, 0)
            narrow(op.bias, op.output, 0)
        elif isinstance(op, Binary):
            if op.constant is not None and params[op.constant].size > 1:
                narrow(op.constant, op.output, 0)
        elif isinstance(op, BatchNorm):
            for key in (op.scale, op.shift, op.mean, op.variance):
                narrow(key, op.output, 0)
    return params


def _check_channels(
    groups: tuple[ChannelGroup, ...], masks: Mapping[str, Mask], whole: Mapping[str, Mask]
) -> None:
    by_name = {group.name: group for group in groups}
    for name, mask in masks.items():
        group = by_name.get(name)
        if group is None:
            raise DtmmError(f"selection names channel group '{name}', the network has {[*by_name]}")
        if mask.shape != (group.channels,):
            raise DtmmError(
                f"channel mask of group '{name}' has shape {mask.shape}, "
                f"expected ({group.channels},)"
            )
        if not mask.any():
            raise DtmmError(f"channel mask of group '{name}' keeps 0 channels, expected at least 1")
        if not group.prunable and not mask.all():
            raise DtmmError(
                f"channel mask of group '{name}' removes {int((~mask).sum())} channels, "
                "expected 0: it holds an input or output of the network"
            )
        if group.segments and not np.array_equal(mask, whole[name]):
            raise DtmmError(
                f"channel mask of group '{name}' is not that of its segments one after the other: "
                f"{', '.join(group.segments)}"
            )
