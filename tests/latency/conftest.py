"""One network that holds every operator and kernel, measured as a whole."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dtmm.deploy import Deployment, Measurement, plan, run_on_device
from dtmm.network.ir import (
    Add,
    AveragePool2D,
    Concat,
    HardSwish,
    Mean,
    Mul,
    Network,
    Pad,
    Softmax,
    StridedSlice,
)
from dtmm.planning import layout
from dtmm.quantization import quantize
from dtmm.training.calibrate import activation_ranges
from tests.training.networks import Builder


@pytest.fixture(scope="session")
def network() -> Network:
    """Every operator and kernel, channels that fill their vectors and channels that do not."""
    b = Builder(11, (1, 16, 16, 2))
    stem = b.conv("stem", "x", 24, bias=True)
    sparse = b.conv("sparse", stem, 24, bias=True)
    pooled = b.pool("max", b.add("total", sparse, stem))
    wide = b.conv("wide", pooled, 48, bias=True)
    point = b.conv("point", wide, 32, kernel=1, stride=2, bias=True)
    plain = b.conv("plain", point, 32, bias=True)
    narrow = b.conv("narrow", plain, 20, padding=(0, 0, 0, 0), bias=True)
    deep = b.depthwise("deep", narrow, stride=1)
    swish = b.append(HardSwish("swish", b.grouped("grouped", deep, 20, 5), "swish"))
    gate = b.append(Mean("gate", swish, "gate", keep_dims=True))
    scaled = b.append(Mul("scaled", (swish, gate), "scaled"))
    shifted = b.append(Add("shifted", (scaled,), "shifted", constant=b._param("c", np.ones(20))))
    product = b.append(Mul("product", (shifted, swish), "product"))
    joined = b.append(Concat("joined", (product, swish), "joined"))
    padded = b.append(Pad("padded", joined, "padded", (1, 0, 2, 1)))
    shares = b.append(Softmax("shares", padded, "shares"))
    cut = b.append(StridedSlice("cut", shares, "cut", (1, 0), (5, 3), (1, 2)))
    last = b.mean(b.pool("average", cut, kind=AveragePool2D, window=2, stride=1))
    network = b.build("all", b.fc("classifier", last, 10))
    params, rng = dict(network.params), np.random.default_rng(4)
    for name, share in (("sparse", 0.4), ("wide", 0.7), ("narrow", 0.9)):
        params[f"{name}.weight"][rng.random(params[f"{name}.weight"].shape[:3]) < share] = 0
    return dataclasses.replace(network, params=params)


@pytest.fixture(scope="session")
def deployment(network: Network) -> Deployment:
    images = np.random.default_rng(1).normal(size=(8, 16, 16, 2)).astype(np.float32)
    return plan(quantize(network, activation_ranges(network, images)), layout(network))


@pytest.fixture(scope="session")
def measured(deployment: Deployment, toolchain: None) -> Measurement:
    images = np.random.default_rng(2).integers(-128, 128, (1, 16, 16, 2)).astype(np.int8)
    return run_on_device(deployment, images)
