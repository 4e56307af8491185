"""Channel groups: tensors that must keep the same channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import DisjointSet

from dtmm.errors import UnsupportedError
from dtmm.network.ir import Concat, Conv2D, FullyConnected, Network, Op, Softmax, op_inputs


@dataclass(frozen=True)
class ChannelGroup:
    """Tensors tied to one set of channels by elementwise operators, depthwise convolutions,
    pooling, residual adds and products.

    A tensor flattened from (1, H, W, C) stays in its group: its element p*C + c is channel c.

    Attributes:
        name: its first producer in execution order, or the network input it holds. The same on a
            network and on its folded form. A concatenation is named after its tensor.
        channels: C.
        tensors: in execution order.
        producers: convolutions and fully connected layers whose outputs it holds.
        consumers: convolutions and fully connected layers that read it.
        prunable: False where it reaches a network input or output, or an operator to whom the
            number of channels or their position matters: Softmax, a grouped convolution, a Concat
            whose output must stay whole.
        segments: of a concatenation (a *virtual* group, which keeps what its segments keep) the
            names of the groups that it holds one after the other; empty for all others.
    """

    name: str
    channels: int
    tensors: tuple[str, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    prunable: bool
    segments: tuple[str, ...] = ()


def channel_groups(network: Network) -> tuple[ChannelGroup, ...]:
    """All groups, in order of their first tensor. Every tensor is in exactly one group.

    Raises:
        UnsupportedError: an add joins a flattened image and a vector whose elements are channels.
    """
    tied: DisjointSet = DisjointSet(network.tensors)
    for op in network.ops:
        if not isinstance(op, Conv2D | FullyConnected | Concat):
            for name in op_inputs(op):
                tied.merge(name, op.output)
    position = {name: n for n, name in enumerate(_in_order(network))}
    subsets = sorted((sorted(s, key=position.__getitem__) for s in tied.subsets()),
                     key=lambda tensors: position[tensors[0]])  # fmt: skip
    groups = {group.name: group for group in (_group(network, tuple(s)) for s in subsets)}
    return tuple(_with_segments(network, groups).values())


def whole_masks(
    groups: Sequence[ChannelGroup], masks: Mapping[str, npt.NDArray[np.bool_]]
) -> dict[str, npt.NDArray[np.bool_]]:
    """A channel mask, bool [C], for every group: all of those that `masks` does not name, the
    segments' masks one after the other of virtual groups."""
    every: dict[str, npt.NDArray[np.bool_]] = {}
    for group in groups:
        if group.segments:
            every[group.name] = np.concatenate([every[name] for name in group.segments])
        else:
            every[group.name] = masks.get(group.name, np.ones(group.channels, dtype=np.bool_))
    return every


def _fixes_channels(op: Op) -> bool:
    """Whether the tensors that an operator reads and writes must keep all their channels."""
    return isinstance(op, Softmax) or (isinstance(op, Conv2D) and op.groups > 1)


def _in_order(network: Network) -> list[str]:
    return [*network.inputs, *(op.output for op in network.ops)]


def _group(network: Network, tensors: tuple[str, ...]) -> ChannelGroup:
    members = set(tensors)
    weighted = [op for op in network.ops if isinstance(op, Conv2D | FullyConnected)]
    producers = tuple(op.name for op in weighted if op.output in members)
    border = members & {*network.inputs, *network.outputs}
    fixed = any(members & {op.output, *op_inputs(op)} for op in network.ops if _fixes_channels(op))
    channels = network.tensors[tensors[0]][-1]
    for op in weighted:
        if op.output in members and network.tensors[op.output][-1] != channels:
            raise UnsupportedError(
                f"'{op.name}' makes {network.tensors[op.output][-1]} channels that are added to "
                f"{channels} flattened ones: expected the same channels on both sides"
            )
    return ChannelGroup(
        name=producers[0] if producers else tensors[0],
        channels=channels,
        tensors=tensors,
        producers=producers,
        consumers=tuple(op.name for op in weighted if op.input in members),
        prunable=not border and not fixed,
    )


def _with_segments(network: Network, groups: dict[str, ChannelGroup]) -> dict[str, ChannelGroup]:
    """The same groups: concatenations with their segments, or whole together with them."""
    group_of = {tensor: name for name, group in groups.items() for tensor in group.tensors}
    concats = [op for op in network.ops if isinstance(op, Concat)]
    made = Counter(group_of[op.output] for op in concats)
    whole: set[str] = set()
    for op in reversed(concats):  # a concatenation of concatenations comes first
        name, segments = group_of[op.output], [group_of[tensor] for tensor in op.inputs]
        if (
            name in whole
            or not groups[name].prunable
            or made[name] > 1  # joined by an add: their segments' borders may differ
            or groups[name].producers  # their filters would have to follow the segments' choice
            or any(network.tensors[t][-1] != groups[group_of[t]].channels for t in op.inputs)
        ):  # (the last: a flattened image)
            whole |= {name, *segments}
        else:
            groups[name] = replace(groups[name], segments=tuple(segments))
    return {
        name: replace(group, prunable=False, segments=()) if name in whole else group
        for name, group in groups.items()
    }
