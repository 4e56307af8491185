"""Random networks of every operator, folded."""

from __future__ import annotations

import dataclasses

import numpy as np

from dtmm.network import ir
from dtmm.network.check import check
from dtmm.network.fold import fold
from dtmm.network.shapes import output_shape, window_extent

KERNELS = ((1, 1), (3, 3), (3, 3), (5, 5), (1, 3), (2, 3))
CHANNELS = (1, 2, 3, 4, 6, 8, 9, 12, 16, 17, 20, 24)


class Graph:
    """Appends random operators; every tensor is one that later ones may read."""

    def __init__(self, seed: int, shape: ir.Shape) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, ir.Shape] = {"x": shape}
        self.ops: list[ir.Op] = []
        self.params: dict[str, np.ndarray] = {}

    def pick(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def name(self, kind: str) -> str:
        return f"{kind}{len(self.ops)}"

    def put(self, op: ir.Op) -> str:
        self.ops.append(op)
        self.tensors[op.output] = output_shape(self.network(op.output), op)
        return op.output

    def network(self, output: str) -> ir.Network:
        return ir.Network("graph", self.tensors, tuple(self.ops), self.params, ("x",), (output,))

    def param(self, key: str, shape: tuple[int, ...], scale: float = 1.0) -> str:
        self.params[key] = self.rng.normal(0, scale, shape).astype(np.float32)
        return key

    def activation(self) -> ir.Activation:
        return list(ir.Activation)[self.pick(0, 2)]

    # --- operators, each of one image tensor -------------------------------------------------

    def conv(self, x: str, channels: int | None = None, groups: int = 1) -> str:
        name, c_in = self.name("conv"), self.tensors[x][3]
        channels = channels or int(self.rng.choice(CHANNELS))
        kernel, stride, padding, dilation = self.geometry(x)
        fan_in = kernel[0] * kernel[1] * c_in // groups
        weight = self.param(f"{name}.w", (channels, *kernel, c_in // groups), 1.4 * fan_in**-0.5)
        self.params[weight][:, 0, 0] *= 10.0 ** self.rng.uniform(-2, 1)
        if self.rng.random() < 0.3:
            self.params[weight][self.pick(0, channels - 1)] = 0
        bias = self.param(f"{name}.b", (channels,), 0.3)
        return self.put(ir.Conv2D(name, x, name, weight, bias, stride, padding, dilation,
                                  self.activation(), groups))  # fmt: skip

    def grouped(self, x: str) -> str:
        c_in = self.tensors[x][3]
        groups = int(self.rng.choice([g for g in range(1, c_in + 1) if c_in % g == 0]))
        return self.conv(x, groups * self.pick(1, 3), groups)

    def depthwise(self, x: str) -> str:
        name, channels = self.name("depthwise"), self.tensors[x][3]
        kernel, stride, padding, dilation = self.geometry(x)
        weight = self.param(f"{name}.w", (channels, *kernel, 1), (kernel[0] * kernel[1]) ** -0.5)
        bias = self.param(f"{name}.b", (channels,), 0.3)
        return self.put(ir.DepthwiseConv2D(name, x, name, weight, bias, stride, padding, dilation,
                                           self.activation()))  # fmt: skip

    def geometry(self, x: str) -> tuple[ir.Pair, ir.Pair, ir.Padding, ir.Pair]:
        kernel = KERNELS[self.pick(0, len(KERNELS) - 1)]
        dilation = (2, 1) if self.rng.random() < 0.1 else (1, 1)
        extent = window_extent(kernel, dilation)
        total = [max(e - 1, 0) for e in extent]
        top, left = total[0] // 2, total[1] // 2
        padding = (top, left, total[0] - top, total[1] - left)
        if self.rng.random() < 0.2 and all(
            size >= e for size, e in zip(self.tensors[x][1:3], extent, strict=True)
        ):
            padding = (0, 0, 0, 0)
        stride = (2, 2) if self.rng.random() < 0.25 else (1, 1)
        return kernel, stride, padding, dilation

    def binary(self, x: str) -> str:
        """A sum or product with a like tensor, a pixel or a constant."""
        name, shape = self.name("binary"), self.tensors[x]
        kind = (ir.Add, ir.Mul)[self.pick(0, 1)]
        like = [n for n, s in self.tensors.items() if s == shape]
        how = self.pick(0, 3)
        if how == 0:
            other = like[self.pick(0, len(like) - 1)]
        elif how == 1:
            other = self.gate(x)
        else:
            count = shape[3] if how == 2 else 1
            constant = self.param(f"{name}.c", (count,))
            return self.put(kind(name, (x,), name, self.activation(), constant))
        inputs = (x, other) if self.rng.random() < 0.5 else (other, x)
        return self.put(kind(self.name("binary"), inputs, self.name("binary"), self.activation()))

    def gate(self, x: str) -> str:
        """A pixel made from an image: squeeze and excite, by convolutions or by full layers."""
        channels, keep = self.tensors[x][3], self.rng.random() < 0.5
        name = self.name("mean")
        y = self.put(ir.Mean(name, x, name, keep))
        if self.rng.random() < 0.5:
            y = self.conv(y, channels) if keep else self.full(y, channels)
        return self.unary(y) if self.rng.random() < 0.7 else y

    def full(self, x: str, channels: int) -> str:
        name, c_in = self.name("full"), self.tensors[x][1]
        weight = self.param(f"{name}.w", (channels, c_in), c_in**-0.5)
        bias = self.param(f"{name}.b", (channels,), 0.3)
        return self.put(ir.FullyConnected(name, x, name, weight, bias, self.activation()))

    def unary(self, x: str) -> str:
        name = self.name("unary")
        kinds = (
            lambda: ir.Logistic(name, x, name),
            lambda: ir.HardSwish(name, x, name),
            lambda: ir.LeakyRelu(name, x, name, float(self.rng.choice([0, 0.01, 0.1, 0.3, 1.5]))),
            lambda: ir.Quantize(name, x, name),
            lambda: ir.Softmax(name, x, name, float(self.rng.choice([0.5, 1, 3]))),
        )
        return self.put(kinds[self.pick(0, len(kinds) - 1)]())

    def concat(self, x: str) -> str:
        like = [n for n, s in self.tensors.items() if s[:-1] == self.tensors[x][:-1]]
        inputs = [like[self.pick(0, len(like) - 1)] for _ in range(self.pick(1, 3))]
        return self.put(ir.Concat(self.name("concat"), (x, *inputs), self.name("concat")))

    def fire(self, x: str) -> str:
        """Two branches that only the concatenation reads, as in SqueezeNet."""
        branches = []
        for kernel in (1, 3):
            name, channels = self.name("branch"), self.pick(1, 20)
            weight = self.param(f"{name}.w", (channels, kernel, kernel, self.tensors[x][3]), 0.3)
            bias = self.param(f"{name}.b", (channels,), 0.3)
            pad = (kernel // 2,) * 4
            op = ir.Conv2D(name, x, name, weight, bias, padding=pad, activation=self.activation())
            branches.append(self.put(op))
        return self.put(ir.Concat(self.name("concat"), tuple(branches), self.name("concat")))

    def pad(self, x: str) -> str:
        padding = tuple(self.pick(0, 2) for _ in range(4))
        return self.put(ir.Pad(self.name("pad"), x, self.name("pad"), padding))

    def slice(self, x: str) -> str:
        sizes = self.tensors[x][1:3]
        begin = tuple(self.pick(0, size - 1) for size in sizes)
        end = tuple(self.pick(b + 1, size) for b, size in zip(begin, sizes, strict=True))
        stride = (self.pick(1, 2), self.pick(1, 2))
        return self.put(
            ir.StridedSlice(self.name("slice"), x, self.name("slice"), begin, end, stride)
        )

    def pool(self, x: str) -> str:
        kind = (ir.MaxPool2D, ir.AveragePool2D)[self.pick(0, 1)]
        if min(self.tensors[x][1:3]) < 2:
            return x
        return self.put(kind(self.name("pool"), x, self.name("pool"), (2, 2), (2, 2)))


STEPS = ("conv", "grouped", "depthwise", "depthwise", "binary", "binary", "unary", "unary",
         "concat", "fire", "pad", "slice", "pool")  # fmt: skip


def random_graph(seed: int) -> ir.Network:
    """A folded network of a stem, four to nine random operators and a random head."""
    graph = Graph(seed, (1, 0, 0, 0))
    graph.tensors["x"] = (1, graph.pick(5, 11), graph.pick(5, 11), graph.pick(1, 5))
    x = graph.conv("x")
    for _ in range(graph.pick(4, 9)):
        x = getattr(graph, STEPS[graph.pick(0, len(STEPS) - 1)])(x)
    name = graph.name("head")
    if graph.rng.random() < 0.5:
        x = graph.put(ir.Mean(name, x, name))
    else:
        x = graph.put(ir.Reshape(name, x, name))
    x = graph.full(x, graph.pick(2, 12))
    if graph.rng.random() < 0.5:
        x = graph.put(ir.Softmax("softmax", x, "softmax"))
    network = _without_dead_ends(graph.network(x))
    check(network)
    return fold(network)


def _without_dead_ends(network: ir.Network) -> ir.Network:
    """The network without operators whose outputs nobody reads."""
    ops = network.ops
    while True:
        read = {name for op in ops for name in ir.op_inputs(op)} | set(network.outputs)
        kept = tuple(op for op in ops if op.output in read)
        if kept == ops:
            break
        ops = kept
    names = {"x", *(op.output for op in ops)}
    tensors = {name: shape for name, shape in network.tensors.items() if name in names}
    return dataclasses.replace(network, ops=ops, tensors=tensors)
