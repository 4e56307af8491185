"""Networks pruned by weights or patterns, on CSR and FKW: equal to the integer reference."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest

from dtmm.deploy import Deployment, HostModel, plan, run_on_device
from dtmm.deploy.rivals import rival_kernels
from dtmm.errors import UnsupportedError
from dtmm.network.ir import Network
from dtmm.planning import layout
from dtmm.quantization import QuantizedNetwork, quantize, run
from dtmm.training.calibrate import activation_ranges
from tests.training.networks import Builder

SHAPE = (1, 9, 10, 3)
OPERATORS = ("conv_csr", "conv_fkw")
INNER = ("same", "down", "short", "last")


def build() -> Network:
    """Strides of 1 and 2, a 1x1 kernel, channels that are no multiple of 16, a residual."""
    b = Builder(5, SHAPE)
    stem = b.conv("stem", "x", 20, bias=True)
    total = b.add("total", stem, b.conv("same", stem, 20, bias=True))
    down = b.conv("down", total, 33, stride=2, bias=True)
    short = b.conv("short", total, 33, kernel=1, stride=2, bias=True)
    last = b.conv("last", b.add("sum", down, short), 17, bias=True)
    return b.build("mixed", b.fc("classifier", b.mean(last), 6))


def prune(network: Network, operator: str, kept: float) -> Network:
    """Keeps a share of the single weights, or of the 3x3 kernels, of those one of five patterns."""
    rng, params = np.random.default_rng(4), dict(network.params)
    patterns = rng.permuted(np.tile(np.arange(9) < 4, (5, 1)), axis=1)
    for op in network.convs():
        weight = params[op.weight].copy()
        filters, height, width, channels = weight.shape
        if operator == "conv_csr" or (height, width) != (3, 3):
            mask = rng.random(weight.shape) < kept
        else:
            chosen = patterns[rng.integers(0, 5, (filters, channels))]
            chosen &= rng.random((filters, channels, 1)) < kept
            mask = chosen.transpose(0, 2, 1).reshape(weight.shape)
        params[op.weight] = weight * mask
    return dataclasses.replace(network, params=params)


@lru_cache(maxsize=4)
def quantized(operator: str, kept: float) -> QuantizedNetwork:
    network = prune(build(), operator, kept)
    images = np.random.default_rng(1).normal(size=(16, *SHAPE[1:])).astype(np.float32)
    return quantize(network, activation_ranges(network, images))


def deployed(operator: str, kernels: dict[str, str]) -> Deployment:
    return plan(quantized(operator, 0.3), layout(build()), kernels)


def wherever_it_runs(operator: str) -> dict[str, str]:
    return {name: operator for name in INNER if operator == "conv_csr" or name != "short"}


def images() -> np.ndarray:
    return np.random.default_rng(2).integers(-128, 128, (4, *SHAPE[1:])).astype(np.int8)


@pytest.mark.parametrize("operator", OPERATORS)
def test_host_and_device_equal_the_reference(operator: str, toolchain: None) -> None:
    deployment = deployed(operator, wherever_it_runs(operator))
    assert [deployment.kernels[name] for name in ("same", "down", "last")] == [operator] * 3
    want = run(deployment.network, images())
    assert np.array_equal(HostModel(deployment).run(images()), want)
    measured = run_on_device(deployment, images()[:1])
    assert np.array_equal(measured.outputs, want[:1])
    assert measured.flash["index"] == deployment.size.index
    assert measured.sram["scratch"] <= max(deployment.scratch.values())


def test_scratch_is_that_of_the_patterns_alone() -> None:
    csr, fkw = (deployed(name, wherever_it_runs(name)) for name in OPERATORS)
    assert [csr.scratch[name] for name in INNER] == [0] * 4
    assert fkw.scratch["same"] == 4 * 4 * 5 * 32


@pytest.mark.parametrize(("operator", "kept"), [("conv_csr", 0.1), ("conv_fkw", 0.3)])
def test_a_rival_is_chosen_where_it_gains(operator: str, kept: float) -> None:
    chosen = rival_kernels(quantized(operator, kept), operator)
    assert set(chosen.values()) == {operator}
    assert {"same", "last"} <= chosen.keys() <= set(wherever_it_runs(operator))
    assert rival_kernels(quantized("conv_csr", 1.0), operator) == {}


def test_an_unknown_rival_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no rival kernel 'conv_dense': expected one of"):
        rival_kernels(quantized("conv_csr", 1.0), "conv_dense")


def test_weights_that_are_no_patterns_are_refused() -> None:
    network = quantized("conv_csr", 1.0)
    with pytest.raises(UnsupportedError, match=r"'same' cannot run on conv_fkw: FKW: filter 0 has"):
        plan(network, layout(build()), {"same": "conv_fkw"})
    with pytest.raises(
        UnsupportedError, match="'short' cannot run on conv_fkw: FKW of a 1x1 kernel"
    ):
        plan(network, layout(build()), {"short": "conv_fkw"})


def test_a_dilation_that_csr_does_not_take_is_refused() -> None:
    network, names = build(), {"same": "conv_csr"}
    ops = tuple(
        dataclasses.replace(op, dilation=(2, 2), padding=(2, 2, 2, 2)) if op.name == "same" else op
        for op in network.ops
    )
    network = dataclasses.replace(network, ops=ops)
    samples = np.random.default_rng(1).normal(size=(4, *SHAPE[1:])).astype(np.float32)
    network8 = quantize(network, activation_ranges(network, samples))
    with pytest.raises(UnsupportedError, match="'same' has a horizontal dilation of 2"):
        plan(network8, layout(network), names)
