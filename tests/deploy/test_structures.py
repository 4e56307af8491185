"""Networks of unusual structure, on the host and the simulated M55: equal to the reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dtmm.deploy import HostModel, plan, run_on_device
from dtmm.deploy.steps import view_numbers
from dtmm.network.fold import fold
from dtmm.network.ir import AveragePool2D, Conv2D, Network
from dtmm.planning import layout
from dtmm.quantization import QuantizedNetwork, quantize, run
from dtmm.training.calibrate import activation_ranges
from tests.training.networks import Builder, vgg


def named_like_the_border() -> Network:
    """Its layers have the names of the copies at the border."""
    b = Builder(1, (1, 8, 8, 3))
    return b.build("names", b.fc("output", b.mean(b.conv("input", "x", 6, bias=True)), 4))


def ends_before_its_last_operator() -> Network:
    """An image output with channels to strip of padding, and an operator nobody reads after it."""
    b = Builder(2, (1, 8, 8, 4))
    image = b.conv("image", "x", 6, bias=True)
    b.conv("unread", image, 5, bias=True)
    return b.build("early", image)


def padded_pools_and_dilation() -> Network:
    """Padding that differs on all four sides."""
    b = Builder(3, (1, 9, 9, 3))
    stem = b.conv("stem", "x", 20, padding=(0, 2, 2, 0), bias=True)
    x = b.pool("max", stem, window=3, padding=(1, 0, 2, 1))
    x = dilated(b, "wide", x, 7)
    x = b.pool("average", x, kind=AveragePool2D, window=3, stride=1, padding=(2, 1, 0, 1))
    return b.build("padded", b.fc("fc", b.flatten(x), 5))


def dilated(b: Builder, name: str, x: str, channels: int) -> str:
    """A 3x3 convolution of dilation 2 that keeps the image's size, half of its filterlets zero."""
    y = b.conv(name, x, channels, padding=(3, 1, 1, 3), bias=True)
    op = b.ops[-1]
    assert isinstance(op, Conv2D)
    b.ops[-1] = dataclasses.replace(op, dilation=(2, 2))
    b.tensors[y] = (*b.tensors[x][:3], channels)
    b.params[f"{name}.weight"][:, ::2] = 0
    return y


def input_read_by_everything() -> Network:
    """Two convolutions of different kernels and an add read the input; an add reads one twice."""
    b = Builder(4, (1, 8, 8, 3))
    small, large = b.conv("small", "x", 3, bias=True), b.conv("large", "x", 3, 5, bias=True)
    total = b.add("total", b.add("first", small, "x"), large)
    return b.build("input", b.mean(b.add("twice", total, total)))


def whole_layers_pruned() -> Network:
    b = Builder(5, (1, 6, 7, 3))
    middle = b.conv("middle", b.conv("stem", "x", 20, bias=True), 9, bias=True)
    network = b.build("dead", b.mean(b.conv("last", middle, 5, bias=True)))
    dead = {key: np.zeros_like(network.params[key]) for key in ("stem.weight", "middle.weight")}
    return dataclasses.replace(network, params={**network.params, **dead})


NETWORKS = (
    named_like_the_border,
    ends_before_its_last_operator,
    padded_pools_and_dilation,
    input_read_by_everything,
    whole_layers_pruned,
)


def quantized(network: Network) -> QuantizedNetwork:
    shape = network.tensors["x"][1:]
    images = np.random.default_rng(1).normal(size=(8, *shape)).astype(np.float32)
    return quantize(network, activation_ranges(network, images))


@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_host_equals_the_reference(build) -> None:
    network = build()
    network8 = quantized(network)
    shape = network.tensors["x"][1:]
    images = np.random.default_rng(2).integers(-128, 128, (5, *shape)).astype(np.int8)
    expected = run(network8, images)
    assert len(np.unique(expected)) > 1
    assert np.array_equal(HostModel(plan(network8, layout(network))).run(images), expected)


def test_a_reshape_is_no_step() -> None:
    network = fold(vgg())
    numbers = view_numbers(plan(quantized(network), layout(network)))
    flat = next(op for op in network.ops if op.output == "flat")
    assert numbers["x"] == 0
    assert numbers["flat"] == numbers[flat.input]
    others = [numbers[op.output] for op in network.ops if op.output != "flat"]
    assert others == list(range(1, len(network.ops)))


@pytest.mark.parametrize("build", [input_read_by_everything, whole_layers_pruned])
def test_device_equals_the_reference(build, toolchain: None) -> None:
    network = build()
    network8 = quantized(network)
    shape = network.tensors["x"][1:]
    images = np.random.default_rng(2).integers(-128, 128, (2, *shape)).astype(np.int8)
    measured = run_on_device(plan(network8, layout(network)), images, counted_images=1)
    assert np.array_equal(measured.outputs, run(network8, images))
