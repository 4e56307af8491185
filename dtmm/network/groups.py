"""Channel groups: tensors that must keep the same channels."""

from __future__ import annotations

from dataclasses import dataclass

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
            network and on its folded form.
        channels: C.
        tensors: in execution order.
        producers: convolutions and fully connected layers whose outputs it holds.
        consumers: convolutions and fully connected layers that read it.
        prunable: False where it reaches a network input or output, or an operator to whom the
            number of channels or their position matters: Concat, Softmax, a grouped convolution.
    """

    name: str
    channels: int
    tensors: tuple[str, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    prunable: bool


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
    return tuple(_group(network, tuple(tensors)) for tensors in subsets)


def _fixes_channels(op: Op) -> bool:
    """Whether the tensors that an operator reads and writes must keep all their channels."""
    return isinstance(op, Concat | Softmax) or (isinstance(op, Conv2D) and op.groups > 1)


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
