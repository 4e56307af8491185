"""Small folded networks, built by hand, and made-up scores and costs for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dtmm.latency.table import Cost, Point
from dtmm.network.groups import channel_groups
from dtmm.network.ir import (
    Activation,
    Add,
    Conv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Network,
    Reshape,
)
from dtmm.pruning.importance import Importance
from dtmm.storage.kernel_ids import family


class NetworkBuilder:
    """Appends operators in order; a tensor is named after the operator that makes it."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        self.tensors = {"image": (1, height, width, channels)}
        self.ops: list = []
        self.params: dict[str, np.ndarray] = {}

    def conv(self, name, source, filters, kernel=3, stride=1, padding=None):
        _, height, width, channels = self.tensors[source]
        pad = (kernel // 2,) * 4 if padding is None else padding
        self.params[f"{name}.w"] = np.ones((filters, kernel, kernel, channels), np.float32)
        self.params[f"{name}.b"] = np.zeros(filters, np.float32)
        out_h = (height + pad[0] + pad[2] - kernel) // stride + 1
        out_w = (width + pad[1] + pad[3] - kernel) // stride + 1
        op = Conv2D(
            name, source, name, f"{name}.w", f"{name}.b", (stride, stride), pad, (1, 1),
            Activation.RELU,
        )  # fmt: skip
        return self._append(op, (1, out_h, out_w, filters))

    def add(self, name, first, second):
        return self._append(Add(name, (first, second), name), self.tensors[first])

    def pool(self, name, source):
        _, height, width, channels = self.tensors[source]
        op = MaxPool2D(name, source, name, (2, 2), (2, 2))
        return self._append(op, (1, height // 2, width // 2, channels))

    def mean(self, name, source):
        return self._append(Mean(name, source, name), (1, self.tensors[source][-1]))

    def flatten(self, name, source):
        size = int(np.prod(self.tensors[source]))
        return self._append(Reshape(name, source, name), (1, size))

    def dense(self, name, source, outputs):
        inputs = self.tensors[source][-1]
        self.params[f"{name}.w"] = np.ones((outputs, inputs), np.float32)
        self.params[f"{name}.b"] = np.zeros(outputs, np.float32)
        op = FullyConnected(name, source, name, f"{name}.w", f"{name}.b")
        return self._append(op, (1, outputs))

    def _append(self, op, shape):
        self.ops.append(op)
        self.tensors[op.name] = shape
        return op.name

    def build(self, *outputs: str) -> Network:
        return Network("tiny", self.tensors, tuple(self.ops), self.params, ("image",), outputs)


@pytest.fixture
def builder() -> type[NetworkBuilder]:
    return NetworkBuilder


@pytest.fixture
def residual() -> Network:
    """stem -> (a -> b) + stem -> down, shortcut -> join -> mean -> classifier."""
    net = NetworkBuilder(8, 8, 3)
    stem = net.conv("stem", "image", 32)
    b = net.conv("b", net.conv("a", stem, 16), 32)
    block = net.add("block", stem, b)
    down = net.conv("down", block, 48, stride=2)
    shortcut = net.conv("shortcut", block, 48, kernel=1, stride=2, padding=(0, 0, 0, 0))
    join = net.add("join", down, shortcut)
    return net.build(net.dense("classifier", net.mean("mean", join), 10))


@pytest.fixture
def chain() -> Network:
    """VGG-like: pools, an unpadded convolution, a flattened image before the classifier."""
    net = NetworkBuilder(12, 12, 1)
    first = net.pool("pool", net.conv("first", "image", 24))
    second = net.conv("second", first, 40, padding=(0, 0, 0, 0))
    flat = net.flatten("flat", net.pool("pool2", second))
    hidden = net.dense("hidden", flat, 20)
    return net.build(net.dense("classifier", hidden, 10))


@pytest.fixture
def scores() -> Callable[[Network, int], Importance]:
    """Random scores for every group and convolution of a network."""

    def make(network: Network, seed: int) -> Importance:
        rng = np.random.default_rng(seed)
        channels = {g.name: rng.lognormal(0, 1, g.channels) for g in channel_groups(network)}
        filterlets = {
            conv.name: rng.lognormal(0, 1, network.params[conv.weight].shape[:3])
            for conv in network.convs()
        }
        return Importance("random", channels, filterlets, "none", 0)

    return make


class FormulaCost:
    """A cost that depends on everything a point holds, so that no field can be mixed up."""

    def __init__(self) -> None:
        self.asked: list[Point] = []

    def cost(self, point: Point) -> Cost:
        self.asked.append(point)
        shape = point.shape
        pixels = shape.out_hw[0] * shape.out_hw[1]
        base = {"conv_dense": 3, "conv_fwcs": 4, "conv_im2col": 5}.get(family(point.kernel), 2)
        work = point.filterlets * point.in_channels + point.in_channels + 7 * point.out_channels
        cycles = base * pixels * work + 11 * shape.in_halo + 13 * shape.out_halo + shape.stride[0]
        return Cost(float(cycles), 0.0, 8 * base + point.in_channels)


@pytest.fixture
def cost_model() -> FormulaCost:
    return FormulaCost()
