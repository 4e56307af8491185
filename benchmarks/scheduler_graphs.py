"""The networks of the scheduler's benchmark as bare graphs: shapes and channel groups, no weights.

Nothing here needs torch or a dataset, so that instances can be made anywhere and never change when
a model's code does. `GRAPHS` names them: the networks of the DTMM paper, and residual networks of
52, 204 and 604 convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["conv", "depthwise", "add", "max_pool", "mean", "fully_connected"]


@dataclass(frozen=True)
class Tensor:
    """An activation. `group`: index of its channel group; `buffer`: the tensor it is stored in."""

    name: str
    height: int
    width: int
    channels: int
    group: int
    buffer: str


@dataclass(frozen=True)
class Op:
    """An operator of a square `kernel`; it pads so that its output has size / stride pixels."""

    kind: Kind
    name: str
    inputs: tuple[str, ...]
    output: str
    kernel: int = 1
    stride: int = 1


@dataclass(frozen=True)
class Graph:
    """A network.

    Attributes:
        tensors: by name.
        ops: in execution order. A concatenation is none: its segments are written in place.
        groups: channels when nothing is pruned, by group; `fixed` ones cannot be pruned.
        concats: virtual group to the groups of its segments, in order.
    """

    name: str
    tensors: Mapping[str, Tensor]
    ops: tuple[Op, ...]
    groups: tuple[int, ...]
    fixed: frozenset[int]
    concats: Mapping[int, tuple[int, ...]]


@dataclass
class GraphBuilder:
    """Appends operators; each method returns the name of the tensor that it makes."""

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)
    concats: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def image(self, size: int, channels: int) -> str:
        """The network's input."""
        self.fixed.add(len(self.groups))
        return self._tensor("image", size, size, self._group(channels))

    def conv(
        self, source: str, channels: int, kernel: int = 3, stride: int = 1, like: str | None = None
    ) -> str:
        """A convolution; `like`: a tensor whose channel group its output joins."""
        group = self._group(channels) if like is None else self.tensors[like].group
        return self._op("conv", (source,), group, kernel, stride)

    def depthwise(self, source: str, kernel: int = 3, stride: int = 1) -> str:
        """A depthwise convolution: it keeps its input's channels."""
        return self._op("depthwise", (source,), self.tensors[source].group, kernel, stride)

    def add(self, first: str, second: str) -> str:
        """A residual sum, in place of the second operand."""
        return self._op("add", (first, second), self.tensors[first].group, 1, 1, in_place=second)

    def pool(self, source: str) -> str:
        """2x2 max pooling."""
        return self._op("max_pool", (source,), self.tensors[source].group, 2, 2)

    def concat(self, *sources: str) -> str:
        """What follows reads `sources` side by side; they are stored in one buffer."""
        segments = tuple(self.tensors[source].group for source in sources)
        group = self._group(sum(self.tensors[source].channels for source in sources))
        self.concats[group] = segments
        first = self.tensors[sources[0]]
        name = self._tensor(f"concat{len(self.concats)}", first.height, first.width, group)
        for source in sources:
            self.tensors[source] = replace(self.tensors[source], buffer=name)
        return name

    def classifier(self, source: str, classes: int, mean: bool = True) -> Graph:
        """Global average pooling (or flattening), a fully connected layer; ends the network."""
        if mean:
            group = self.tensors[source].group
            source = self._op("mean", (source,), group, 1, self.tensors[source].height)
        height = self.tensors[source].height
        group = self._group(classes)
        self.fixed.add(group)
        self._op("fully_connected", (source,), group, 1, height)
        return self.graph()

    def graph(self) -> Graph:
        """What was built."""
        return Graph(
            self.name,
            dict(self.tensors),
            tuple(self.ops),
            tuple(self.groups),
            frozenset(self.fixed),
            dict(self.concats),
        )

    def _group(self, channels: int) -> int:
        self.groups.append(channels)
        return len(self.groups) - 1

    def _tensor(
        self, name: str, height: int, width: int, group: int, buffer: str | None = None
    ) -> str:
        channels = self.groups[group]
        self.tensors[name] = Tensor(name, height, width, channels, group, buffer or name)
        return name

    def _op(
        self,
        kind: Kind,
        inputs: tuple[str, ...],
        group: int,
        kernel: int,
        stride: int,
        in_place: str | None = None,
    ) -> str:
        name = f"{kind}{sum(op.kind == kind for op in self.ops)}"
        source = self.tensors[inputs[0]]
        buffer = self.tensors[in_place].buffer if in_place else None
        height, width = -(-source.height // stride), -(-source.width // stride)
        self.ops.append(Op(kind, name, inputs, name, kernel, stride))
        return self._tensor(name, height, width, group, buffer)


def vgg11() -> Graph:
    """VGG-11 of the paper's code: widths 32 to 256 on 32x32 pixels."""
    net = GraphBuilder("vgg11")
    x = net.image(32, 3)
    for widths in ((32, 32), (64, 64), (128, 128, 128), (256, 256, 256)):
        for width in widths:
            x = net.conv(x, width)
        x = net.pool(x)
    return net.classifier(x, 10, mean=False)


def residual(name: str, blocks: int, size: int) -> Graph:
    """A stem and four stages of `blocks` residual blocks, widths 32 to 256."""
    net = GraphBuilder(name)
    x = net.conv(net.image(size, 3), 32)
    for stage in range(4):
        for block in range(blocks):
            width = 32 * 2**stage
            if stage and not block:
                y = net.conv(net.conv(x, width, stride=2), width)
                x = net.add(net.conv(x, width, kernel=1, stride=2, like=y), y)
            else:
                x = net.add(x, net.conv(net.conv(x, width), width, like=x))
    return net.classifier(x, 10)


def squeezenet() -> Graph:
    """SqueezeNet 1.1 (Iandola et al. 2016) on 64x64 pixels, with a smaller head."""
    net = GraphBuilder("squeezenet")
    x = net.pool(net.conv(net.image(64, 3), 64, stride=2))
    for index, (squeeze, expand) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    ):
        if index in (2, 4):
            x = net.pool(x)
        s = net.conv(x, squeeze, kernel=1)
        x = net.concat(net.conv(s, expand, kernel=1), net.conv(s, expand, kernel=3))
    return net.classifier(net.conv(x, 128, kernel=1), 10)


def mobilenet_v1_025() -> Graph:
    """MobileNetV1 at width 0.25 on 96x96 pixels, as in MLPerf Tiny."""
    net = GraphBuilder("mobilenet_v1_025")
    x = net.conv(net.image(96, 3), 8, stride=2)
    widths = (16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    for width, stride in zip(widths, strides, strict=True):
        x = net.conv(net.depthwise(x, stride=stride), width, kernel=1)
    return net.classifier(x, 2)


def tiny_resnet() -> Graph:
    """Two residual blocks, 8 and 16 channels: small enough for brute force on a coarse grid."""
    net = GraphBuilder("tiny_resnet")
    x = net.conv(net.image(8, 3), 16)
    x = net.add(x, net.conv(net.conv(x, 16), 16, like=x))
    y = net.conv(net.conv(x, 32, stride=2), 32)
    return net.classifier(net.add(net.conv(x, 32, kernel=1, stride=2, like=y), y), 10)


GRAPHS: Mapping[str, Callable[[], Graph]] = {
    "tiny_resnet": tiny_resnet,
    "vgg11": vgg11,
    "resnet12": lambda: residual("resnet12", 1, 32),
    "squeezenet": squeezenet,
    "mobilenet_v1_025": mobilenet_v1_025,
    "residual52": lambda: residual("residual52", 6, 64),
    "residual204": lambda: residual("residual204", 25, 64),
    "residual604": lambda: residual("residual604", 75, 64),
}
"""By name. The paper's networks are vgg11, resnet12 and squeezenet."""

__all__ = ["GRAPHS", "Graph", "GraphBuilder", "Op", "Tensor"]
