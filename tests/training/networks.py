"""Small networks with random weights and non-trivial batch normalization, built without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dtmm.network.ir import (
    Activate,
    Activation,
    Add,
    AveragePool2D,
    BatchNorm,
    Concat,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Network,
    Op,
    Reshape,
    Shape,
)
from dtmm.network.shapes import output_shape


@dataclass
class Builder:
    """Appends operators; every method returns the name of the tensor it made."""

    seed: int
    input_shape: Shape
    tensors: dict[str, Shape] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    params: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.tensors["x"] = self.input_shape

    def _put(self, op: Op, shape: Shape) -> str:
        self.ops.append(op)
        self.tensors[op.output] = shape
        return op.output

    def append(self, op: Op) -> str:
        """Any operator; its shape follows from those of what it reads."""
        so_far = Network("so far", self.tensors, tuple(self.ops), self.params, ("x",), ())
        return self._put(op, output_shape(so_far, op))

    def depthwise(self, name, x, kernel=3, stride=1):
        channels, pad = self.tensors[x][-1], kernel // 2
        weight = self._param(
            f"{name}.weight", self.rng.normal(0, 0.4, (channels, kernel, kernel, 1))
        )
        bias = self._param(f"{name}.bias", self.rng.normal(0, 0.2, channels))
        op = DepthwiseConv2D(name, x, name, weight, bias, (stride, stride), (pad,) * 4)
        return self.append(op)

    def grouped(self, name, x, channels, groups):
        c_in = self.tensors[x][-1] // groups
        weight = self._param(f"{name}.weight", self.rng.normal(0, 0.3, (channels, 3, 3, c_in)))
        bias = self._param(f"{name}.bias", self.rng.normal(0, 0.2, channels))
        return self.append(Conv2D(name, x, name, weight, bias, padding=(1, 1, 1, 1), groups=groups))

    def _param(self, key: str, values: np.ndarray) -> str:
        self.params[key] = values.astype(np.float32)
        return key

    def conv(self, name, x, channels, kernel=3, stride=1, padding=None, bias=False):
        _, height, width, c_in = self.tensors[x]
        top, left, bottom, right = padding if padding is not None else (kernel // 2,) * 4
        fan_in = kernel * kernel * c_in
        weight = self.rng.normal(0, fan_in**-0.5 * 1.4, (channels, kernel, kernel, c_in))
        op = Conv2D(
            name,
            x,
            name,
            self._param(f"{name}.weight", weight),
            self._param(f"{name}.bias", self.rng.normal(0, 0.2, channels)) if bias else None,
            (stride, stride),
            (top, left, bottom, right),
        )
        out_h = (height + top + bottom - kernel) // stride + 1
        out_w = (width + left + right - kernel) // stride + 1
        return self._put(op, (1, out_h, out_w, channels))

    def norm(self, x):
        c, name, rng = self.tensors[x][-1], f"{x}_bn", self.rng
        op = BatchNorm(
            name,
            x,
            name,
            self._param(f"{name}.scale", rng.uniform(0.5, 1.5, c)),
            self._param(f"{name}.shift", rng.normal(0, 0.5, c)),
            self._param(f"{name}.mean", rng.normal(0, 0.5, c)),
            self._param(f"{name}.variance", rng.uniform(0.5, 2.0, c)),
        )
        return self._put(op, self.tensors[x])

    def relu(self, x):
        return self._put(Activate(f"{x}_relu", x, f"{x}_relu", Activation.RELU), self.tensors[x])

    def unit(self, name, x, channels, **options):
        return self.relu(self.norm(self.conv(name, x, channels, **options)))

    def add(self, name, x, y):
        return self._put(Add(name, (x, y), name), self.tensors[x])

    def pool(self, name, x, kind=MaxPool2D, window=2, stride=2, padding=(0, 0, 0, 0)):
        _, h, w, c = self.tensors[x]
        top, left, bottom, right = padding
        shape = (
            1,
            (h + top + bottom - window) // stride + 1,
            (w + left + right - window) // stride + 1,
            c,
        )
        return self._put(kind(name, x, name, (window, window), (stride, stride), padding), shape)

    def mean(self, x):
        return self._put(Mean("mean", x, "mean"), (1, self.tensors[x][-1]))

    def flatten(self, x):
        return self._put(Reshape("flat", x, "flat"), (1, int(np.prod(self.tensors[x]))))

    def fc(self, name, x, channels, activation=Activation.NONE):
        c_in = self.tensors[x][-1]
        op = FullyConnected(
            name,
            x,
            name,
            self._param(f"{name}.weight", self.rng.normal(0, c_in**-0.5, (channels, c_in))),
            self._param(f"{name}.bias", self.rng.normal(0, 0.2, channels)),
            activation,
        )
        return self._put(op, (1, channels))

    def build(self, name: str, output: str) -> Network:
        return Network(name, self.tensors, tuple(self.ops), self.params, ("x",), (output,))


def residual(
    seed: int = 0, size: int = 8, c_in: int = 1, widths: tuple[int, int] = (8, 12)
) -> Network:
    """Stem, an identity block, a stride-2 block with a projection shortcut, global mean."""
    b = Builder(seed, (1, size, size, c_in))
    first, second = widths
    x = b.unit("stem", "x", first)
    y = b.norm(b.conv("a2", b.unit("a1", x, first), first))
    x = b.relu(b.add("a_add", y, x))
    y = b.norm(b.conv("b2", b.unit("b1", x, second, stride=2), second))
    x = b.relu(b.add("b_add", y, b.norm(b.conv("b_short", x, second, kernel=1, stride=2))))
    y = b.norm(b.conv("c2", b.unit("c1", x, second), second))
    x = b.relu(b.add("c_add", y, x))
    return b.build("residual", b.fc("classifier", b.mean(x), 10))


def vgg(seed: int = 0, size: int = 8, c_in: int = 1, widths: tuple[int, int] = (8, 12)) -> Network:
    """Two conv + pool stages, flatten with several pixels left, a hidden layer."""
    b = Builder(seed, (1, size, size, c_in))
    x = b.pool("pool1", b.unit("conv1", "x", widths[0]))
    x = b.pool("pool2", b.unit("conv2", x, widths[1]), kind=AveragePool2D)
    hidden = b.fc("hidden", b.flatten(x), 14, Activation.RELU)
    return b.build("vgg", b.fc("classifier", hidden, 10))


def squeeze(seed: int = 0, size: int = 8, c_in: int = 1) -> Network:
    """Two fire modules, then a concatenation of the second with its own squeezed channels, which a
    convolution reads as well: a concatenation within a concatenation, a segment with two readers.
    """
    b = Builder(seed, (1, size, size, c_in))
    x = b.unit("stem", "x", 8)
    for n, widths in enumerate(((6, 5), (10, 7)), 1):
        narrow = b.unit(f"squeeze{n}", x, 4, kernel=1)
        parts = [
            b.unit(f"expand{n}_{k}", narrow, w, kernel=k)
            for k, w in zip((1, 3), widths, strict=True)
        ]
        x = b.append(Concat(f"fire{n}", tuple(parts), f"fire{n}"))
        x = b.pool(f"pool{n}", x) if n == 1 else b.append(Concat("all", (x, narrow), "all"))
    x = b.unit("last", x, 9)
    return b.build("squeeze", b.fc("classifier", b.mean(x), 10))
