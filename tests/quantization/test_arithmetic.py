"""Fixed-point arithmetic against exact integers, and what quantization must keep."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network.fold import fold
from dtmm.quantization import quantize, quantize_input
from dtmm.quantization.multiplier import quantize_multiplier, requantize
from dtmm.training.calibrate import activation_ranges
from tests.training.networks import residual, vgg


@given(st.floats(1e-9, 1e6))
def test_a_multiplier_represents_its_factor(real: float) -> None:
    multiplier, shift = quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31
    assert multiplier * 2.0 ** (shift - 31) == pytest.approx(real, rel=2**-30)


@pytest.mark.parametrize(
    ("real", "expected"),
    [(0.0, (0, 0)), (1.0, (1 << 30, 1)), (0.5, (1 << 30, 0)), (0.25, (1 << 30, -1)),
     (1 - 2**-40, (1 << 30, 1)), (1e-12, (0, 0))],
)  # fmt: skip
def test_known_multipliers(real: float, expected: tuple[int, int]) -> None:
    assert quantize_multiplier(real) == expected


@pytest.mark.parametrize("real", [-0.1, float("nan"), float("inf"), 2.0**31])
def test_factors_out_of_range_are_refused(real: float) -> None:
    with pytest.raises(DtmmError, match="requantization factor"):
        quantize_multiplier(real)


@given(st.integers(-(2**30), 2**30), st.integers(2**30, 2**31 - 1), st.integers(-31, 0))
def test_requantize_rounds_twice(acc: int, multiplier: int, shift: int) -> None:
    assert int(requantize(np.int64(acc), multiplier, shift)) == exact(acc, multiplier, shift)


@given(st.integers(-(2**20), 2**20), st.integers(2**30, 2**31 - 1), st.integers(1, 10))
def test_requantize_shifts_left_first(acc: int, multiplier: int, shift: int) -> None:
    assert int(requantize(np.int64(acc), multiplier, shift)) == exact(acc << shift, multiplier, 0)


def exact(acc: int, multiplier: int, shift: int) -> int:
    """Two roundings to nearest, the product's ties towards +inf, the shift's away from zero."""
    high = (acc * multiplier + 2**30) // 2**31 if acc * multiplier >= 0 else -(
        (-acc * multiplier + 2**30 - 1) // 2**31
    )
    half = 2 ** (-shift) // 2
    return (abs(high) + half) // 2 ** (-shift) * (1 if high >= 0 else -1) if shift else high


def test_zero_weights_stay_zero_and_dead_filters_are_sane() -> None:
    network = fold(residual())
    name = network.convs()[2].weight
    weight = network.params[name].copy()
    weight[:, 1, 1] = 0
    weight[3] = 0
    network = dataclasses.replace(network, params={**network.params, name: weight})
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
    quantized = quantize(network, activation_ranges(network, images))
    assert not quantized.params[name][:, 1, 1].any()
    assert not quantized.params[name][3].any()
    assert np.isfinite(quantized.weight_scales[name]).all()
    assert np.abs(quantized.params[name]).max() == 127


def test_pools_and_reshapes_keep_their_inputs_scale() -> None:
    network = fold(vgg())
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
    quantized = quantize(network, activation_ranges(network, images))
    for op in network.ops:
        if type(op).__name__ in {"MaxPool2D", "AveragePool2D", "Reshape"}:
            source, target = quantized.tensors[op.input], quantized.tensors[op.output]
            assert (source.scale, source.zero_point) == (target.scale, target.zero_point)


def test_inputs_are_rounded_and_clipped() -> None:
    network = fold(residual())
    quantized = quantize(network, {name: (-1.0, 1.0) for name in network.tensors})
    pixels = np.array([0.0, 1.0, -5.0, 5.0], np.float32).reshape(4, 1, 1, 1)
    codes = quantize_input(quantized, pixels).ravel()
    tensor = quantized.tensors["x"]
    assert codes[0] == tensor.zero_point
    assert tensor.scale * (int(codes[1]) - tensor.zero_point) == pytest.approx(1, abs=tensor.scale)
    assert (codes[2], codes[3]) == (-128, 127)


def test_missing_and_absurd_ranges_are_refused() -> None:
    network = fold(residual())
    with pytest.raises(DtmmError, match="no calibrated range"):
        quantize(network, {})
    with pytest.raises(DtmmError, match="expected finite"):
        quantize(network, dict.fromkeys(network.tensors, (0.0, float("nan"))))
    with pytest.raises(UnsupportedError, match="fold the network first"):
        quantize(residual(), {})
