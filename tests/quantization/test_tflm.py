"""The integer reference against TFLM's interpreter: every byte of every tensor."""

from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from dtmm.models.resnet import ResNet
from dtmm.network.fold import fold
from dtmm.network.ir import Activate, Activation, BatchNorm, HardSwish, Network, Op
from dtmm.network.torch_reader import from_torch
from dtmm.quantization import QuantizedNetwork, quantize, run
from tests.quantization.graphs import random_graph
from tests.quantization.oracles import calibrated, random_network, tflm
from tests.training.networks import Builder

pytest.importorskip("tflite_micro")


def check(network: Network, seed: int) -> None:
    compare(*calibrated(network, seed))


def compare(quantized: QuantizedNetwork, images: np.ndarray) -> None:
    ours, theirs = run(quantized, images, keep_all=True), tflm(quantized, images)
    for op in quantized.ops:
        different = ours[op.output] != theirs[op.output].reshape(ours[op.output].shape)
        assert not different.any(), (op, int(different.sum()))


@pytest.mark.parametrize("seed", range(24))
def test_every_byte_of_every_layer(seed: int) -> None:
    check(random_network(seed), seed)


@pytest.mark.full
def test_many_more_networks() -> None:
    for seed in range(24, 324):
        check(random_network(seed), seed)


@pytest.mark.parametrize("seed", range(32))
def test_every_byte_of_graphs_of_every_operator(seed: int) -> None:
    check(random_graph(seed), seed)


@pytest.mark.full
def test_many_more_graphs() -> None:
    for seed in range(32, 432):
        check(random_graph(seed), seed)


def test_the_graphs_hold_every_operator() -> None:
    kinds = {type(op) for seed in range(32) for op in random_graph(seed).ops}
    assert set(get_args(Op)) - kinds == {Activate, BatchNorm}


def test_hard_swish_gets_a_scale_that_tflm_takes() -> None:
    """Inputs far below -3 have outputs of almost no range."""
    b = Builder(0, (1, 4, 4, 2))
    conv = b.conv("c", "x", 4, kernel=1, bias=True)
    network = b.build("h", b._put(HardSwish("h", conv, "h"), b.tensors[conv]))
    rng = np.random.default_rng(0)
    images = rng.integers(-128, 128, (2, 4, 4, 2)).astype(np.int8)
    compare(quantize(network, {"x": (-1.0, 1.0), "c": (-900.0, 0.1), "h": (-0.3, 0.1)}), images)


def test_every_byte_of_a_narrow_resnet12() -> None:
    torch.manual_seed(0)
    module = ResNet(1, 10, (8, 8, 16, 24))
    check(fold(from_torch(module, torch.zeros(1, 1, 32, 32), "resnet12")), 0)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_every_byte_where_padding_dilation_and_windows_are_odd() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3, dilation=2, padding=2), nn.ReLU(),
        nn.Conv2d(5, 6, (3, 1), dilation=(3, 1), stride=2, padding=(1, 0)),
        nn.MaxPool2d(3, 2, 1),  # neither SAME nor VALID
        nn.Conv2d(6, 7, 4, padding="same"), nn.AvgPool2d((2, 3), (1, 2)), nn.Flatten(),
        nn.Linear(42, 4),
    )  # fmt: skip
    check(fold(from_torch(module, torch.zeros(1, 3, 17, 17), "odd")), 0)


def test_padding_never_wins_a_maximum() -> None:
    b = Builder(0, (1, 5, 6, 3))
    network = b.build("p", b.pool("p", "x", window=3, stride=2, padding=(1, 1, 1, 1)))
    images = np.random.default_rng(0).integers(-128, -90, (2, 5, 6, 3)).astype(np.int8)
    compare(quantize(network, dict.fromkeys(network.tensors, (-1.0, 1.0))), images)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 5), (7, 7), (8, 8), (31, 33), (64, 64)])
def test_means_of_any_size(size: tuple[int, int]) -> None:
    b = Builder(0, (1, *size, 3))
    check(b.build("mean", b.mean(b.conv("c", "x", 4, kernel=1, bias=True))), 0)


@pytest.mark.parametrize("kind", ["dead filter", "shrunken filter", "dead output"])
def test_filters_that_pruning_and_decay_leave_behind(kind: str) -> None:
    b = Builder(0, (1, 6, 6, 3))
    network = b.build("c", b.mean(b.conv("c", "x", 4, bias=True)))
    params = {key: values.copy() for key, values in network.params.items()}
    params["c.weight"][1] *= 1e-12 if kind == "shrunken filter" else 0
    if kind == "dead output":
        params["c.weight"][:], params["c.bias"][:] = 0, 0
    check(dataclasses.replace(network, params=params), 0)


def test_relu6_clamps_where_tflm_does() -> None:
    """Output scales at which 6 / scale lies within float32 rounding of a half."""
    scales = [np.nextafter(np.float32(6 / (k + 0.5)), np.float32(d))
              for k in (7, 40, 77, 100, 121, 153, 200) for d in (0, 9)]  # fmt: skip
    single = [int(np.floor(np.float32(6) / s + np.float32(0.5))) for s in scales]
    double = [int(np.floor(6 / float(s) + 0.5)) for s in scales]
    assert single != double, "no scale tells the two apart"
    for scale in scales:
        b = Builder(0, (1, 4, 4, 2))
        network = b.build("c", b.conv("c", "x", 8, bias=True))
        op = dataclasses.replace(network.ops[0], activation=Activation.RELU6)
        network = dataclasses.replace(network, ops=(op,))
        quantized = quantize(network, {"x": (-99.0, 99.0), "c": (0.0, 6.0)})
        output = dataclasses.replace(quantized.tensors["c"], scale=float(scale))
        quantized = dataclasses.replace(quantized, tensors={**quantized.tensors, "c": output})
        rng = np.random.default_rng(0)
        compare(quantized, rng.integers(-128, 128, (2, 4, 4, 2)).astype(np.int8))
