"""Fixed-point arithmetic against exact integers, and what quantization must keep."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network.fold import fold
from dtmm.quantization import quantize, quantize_input, run
from dtmm.quantization.multiplier import quantize_multiplier, requantize
from dtmm.quantization.ptq import quantize_layer
from dtmm.training.calibrate import activation_ranges
from tests.training.networks import Builder, residual, vgg


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
    high = (
        (acc * multiplier + 2**30) // 2**31
        if acc * multiplier >= 0
        else -((-acc * multiplier + 2**30 - 1) // 2**31)
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


@pytest.mark.parametrize("seed", range(10))
def test_the_error_of_a_layer_is_bounded(seed: int) -> None:
    """By half a step of input, weight and bias each, and two roundings of the output."""
    rng = np.random.default_rng(seed)
    b = Builder(seed, (1, 1, 1, 24))
    network = b.build("c", b.conv("c", "x", 8, kernel=1, bias=True))
    weight, bias = network.params["c.weight"].reshape(8, 24), network.params["c.bias"]
    weight[2] = 0  # dead
    weight[5] *= np.float32(1e-12)  # shrunk: largest / 127 is too fine a scale for its bias
    x = rng.normal(size=(200, 24)).astype(np.float32)
    exact = x.astype(np.float64) @ weight.astype(np.float64).T + bias
    ranges = {"x": (float(x.min()), float(x.max())), "c": (exact.min(), exact.max())}
    quantized = quantize(network, ranges)
    codes = run(quantized, quantize_input(quantized, x.reshape(200, 1, 1, 24)))
    source, target = quantized.tensors["x"], quantized.tensors["c"]
    found = (codes.reshape(200, 8).astype(np.float64) - target.zero_point) * target.scale
    step = np.abs(weight).max(axis=1) / 127
    step[2] = step.max()
    step[5] = abs(bias[5]) / (source.scale * 2**30)
    half_in = source.scale * (0.5 + 1e-3)  # the zero point is rounded too: ends are clipped
    clipped = np.abs(weight).sum(axis=1) * source.scale / 2
    bound = (
        half_in * (np.abs(weight) + step[:, None]).sum(axis=1) + clipped
        + np.abs(x).sum(axis=1, keepdims=True) * step / 2 + source.scale * step / 2
        + 1.5 * target.scale
    )  # fmt: skip
    assert (np.abs(found - exact) <= bound).all()
    assert np.abs(found - exact)[:, [2, 5]].max() <= 1.1 * target.scale


@given(st.integers(0, 2**32 - 1), st.floats(1e-4, 1.0))
def test_weights_and_biases_are_off_by_half_a_step(seed: int, input_scale: float) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(6, 3, 3, 2)).astype(np.float32) * np.float32(10 ** rng.uniform(-3, 1))
    bias = rng.normal(size=6).astype(np.float32)
    weight[4] = 0
    codes, ints, scales = quantize_layer(weight, bias, input_scale)
    largest = np.abs(weight).reshape(6, -1).max(axis=1)
    largest[4] = largest.max()
    holds_bias = np.abs(bias) / (input_scale * 2**30)
    assert np.allclose(scales, np.maximum(largest / 127, holds_bias), rtol=1e-6)
    steps = scales.astype(np.float64)
    error = np.abs(codes * steps.reshape(6, 1, 1, 1) - weight).reshape(6, -1).max(axis=1)
    assert (error <= steps * (0.5 + 1e-5)).all()
    assert (np.abs(ints * steps * input_scale - bias) <= steps * input_scale * (0.5 + 1e-5)).all()


def test_biases_never_overflow() -> None:
    weight = np.full((3, 2), 1e-20, np.float32)
    weight[1] = 1e-44  # a subnormal
    bias = np.array([5.0, 0.0, -5.0], np.float32)
    codes, ints, scales = quantize_layer(weight, bias, 0.01)
    assert (np.abs(ints.astype(np.int64)) <= 2**30).all()
    assert (scales > 0).all()
    assert np.allclose(ints * 0.01 * scales.astype(np.float64), bias)
    assert not codes.any()


def test_a_constant_zero_tensor_gets_a_tame_scale() -> None:
    network = fold(residual())
    quantized = quantize(network, dict.fromkeys(network.tensors, (0.0, 0.0)))
    for tensor in quantized.tensors.values():
        assert tensor.scale == pytest.approx(1 / 255)
        assert tensor.zero_point == -128


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_zero_is_a_code_of_every_tensor(a: float, b: float) -> None:
    network = fold(residual())
    quantized = quantize(network, dict.fromkeys(network.tensors, (min(a, b), max(a, b))))
    tensor = quantized.tensors["x"]
    assert -128 <= tensor.zero_point <= 127
    for end in (min(a, b, 0.0), max(a, b, 0.0)):
        code = np.clip(np.rint(end / tensor.scale) + tensor.zero_point, -128, 127)
        assert abs(tensor.scale * (code - tensor.zero_point) - end) <= tensor.scale * 1.01


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
    quantized = quantize(network, dict.fromkeys(network.tensors, (-1.0, 1.0)))
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
    broken = {key: np.full_like(values, np.nan) for key, values in network.params.items()}
    with pytest.raises(DtmmError, match="NaN"):
        quantize(dataclasses.replace(network, params=broken), {})


def test_the_reference_refuses_other_images() -> None:
    network = fold(residual())
    quantized = quantize(network, dict.fromkeys(network.tensors, (-1.0, 1.0)))
    for images in (np.zeros((1, 8, 8, 1), np.uint8), np.zeros((1, 8, 9, 1), np.int8),
                   np.zeros((0, 8, 8, 1), np.int8)):  # fmt: skip
        with pytest.raises(DtmmError, match="expected int8"):
            run(quantized, images)


def test_the_reference_treats_images_alone() -> None:
    """Whatever the number of images: 70 span three chunks."""
    network = fold(vgg())
    quantized = quantize(network, dict.fromkeys(network.tensors, (-3.0, 3.0)))
    images = np.random.default_rng(0).integers(-128, 128, (70, 8, 8, 1)).astype(np.int8)
    single = np.concatenate([run(quantized, images[n : n + 1]) for n in range(70)])
    assert np.array_equal(run(quantized, images), single)
