"""Functions of one value and softmax against TFLM: every input code, at scales of any size."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dtmm.errors import UnsupportedError
from dtmm.network.ir import HardSwish, LeakyRelu, Logistic, Op, Quantize, Softmax
from dtmm.quantization import run
from dtmm.quantization.fixed_point import exp_of_negative, logistic, reciprocal_of_one_plus
from dtmm.quantization.nonlinear import lookup_table, softmax_table
from dtmm.quantization.quantized import QuantizedNetwork, QuantizedTensor
from tests.quantization.oracles import tflm

CODES = np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16, 1)


def single(op: Op, source: QuantizedTensor, target: QuantizedTensor) -> QuantizedNetwork:
    return QuantizedNetwork("one", {"x": source, "y": target}, (op,), {}, {}, ("x",), ("y",))


def scale(rng: np.random.Generator, low: float = -5, high: float = 1.5) -> float:
    return float(np.float32(10 ** rng.uniform(low, high)))


def draw(rng: np.random.Generator, kind: str) -> tuple[QuantizedNetwork, np.ndarray]:
    """An operator with random scales and zero points, and every code (softmax: random ones)."""
    images, (s, z) = CODES, (scale(rng), int(rng.integers(-128, 128)))
    out, out_zero = max(scale(rng), float(np.float32(s / 100))), int(rng.integers(-128, 128))
    op: Op
    if kind == "softmax":
        op = Softmax("y", "x", "y", float(rng.choice([1, rng.uniform(0.1, 4)])))
        low = int(rng.integers(-128, 127))
        images = rng.integers(low, 128, (2, 3, 3, int(rng.integers(1, 40)))).astype(np.int8)
    elif kind == "leaky_relu":
        op = LeakyRelu("y", "x", "y", float(rng.choice([0.0, rng.uniform(0, 2)])))
    else:
        op = {"logistic": Logistic, "hard_swish": HardSwish, "quantize": Quantize}[kind](
            "y", "x", "y"
        )
    shape = (1, *images.shape[1:])
    if kind in ("softmax", "logistic"):
        out, out_zero = 1 / 256, -128
    return single(op, QuantizedTensor(shape, s, z), QuantizedTensor(shape, out, out_zero)), images


@pytest.mark.parametrize("kind", ["logistic", "hard_swish", "leaky_relu", "quantize", "softmax"])
def test_every_code_equals_tflm(kind: str, full: bool) -> None:
    pytest.importorskip("tflite_micro")
    rng = np.random.default_rng(len(kind))
    for _ in range(600 if full else 60):
        network, images = draw(rng, kind)
        np.testing.assert_array_equal(
            run(network, images), tflm(network, images)["y"], err_msg=f"{network}"
        )


def test_tables_are_close_to_the_functions() -> None:
    """Whatever TFLM does, it must be the function: within one code."""
    source, target = QuantizedTensor((1, 1), 0.05, 3), QuantizedTensor((1, 1), 0.03, -10)
    probability = dataclasses.replace(target, scale=1 / 256, zero_point=-128)
    x = 0.05 * (np.arange(-128, 128) - 3)
    cases = (
        (Logistic("y", "x", "y"), probability, 1 / (1 + np.exp(-x))),
        (HardSwish("y", "x", "y"), target, x * np.clip(x + 3, 0, 6) / 6),
        (LeakyRelu("y", "x", "y", 0.25), target, np.where(x < 0, x / 4, x)),
        (Quantize("y", "x", "y"), target, x),
    )
    for op, output, exact in cases:
        table = lookup_table(single(op, source, output), op)
        wanted = np.clip(exact / output.scale + output.zero_point, -128, 127)
        assert np.abs(table - wanted).max() <= 1, op
    op = Softmax("y", "x", "y", 2.0)
    found = softmax_table(single(op, source, probability), op).exponentials / 2**31
    assert np.abs(found - np.exp(-0.1 * np.arange(len(found)))).max() < 1e-6


def test_fixed_point_functions() -> None:
    x = -(np.arange(1, 4000, dtype=np.int64) << 14)
    assert np.abs(exp_of_negative(x, 5) / 2**31 - np.exp(x / 2**26)).max() < 1e-6
    unit = np.linspace(0, 2**31 - 1, 999).astype(np.int64)
    assert np.abs(reciprocal_of_one_plus(unit) / 2**31 - 1 / (1 + unit / 2**31)).max() < 1e-8
    whole = np.linspace(-(2**31) + 1, 2**31 - 1, 999).astype(np.int64)
    exact = 1 / (1 + np.exp(-whole / 2**27))
    assert np.abs(logistic(whole, 4) / 2**31 - exact).max() < 1e-6
    assert int(logistic(np.int64(0), 4)) == 1 << 30


def test_softmax_counts_what_is_in_reach() -> None:
    def count(input_scale: float) -> int:
        op, shape = Softmax("y", "x", "y"), (1, 4)
        network = single(
            op, QuantizedTensor(shape, input_scale, 0), QuantizedTensor(shape, 1 / 256, -128)
        )
        return len(softmax_table(network, op).exponentials)

    # 31 * 2^26 fixed-point units, over the power of two above one code's units
    reach = [256, 1 + 31 * 2**26 // 2**25, 1 + 31 * 2**26 // 2**27, 1]
    assert [count(s) for s in (1e-4, 0.25, 1.0, 40.0)] == reach


def test_scales_that_tflm_refuses_are_refused() -> None:
    op, shape = HardSwish("y", "x", "y"), (1, 4)
    network = single(op, QuantizedTensor(shape, 1.0, 0), QuantizedTensor(shape, 0.001, 0))
    with pytest.raises(UnsupportedError, match=r"HardSwish 'y' has scale 1.0"):
        lookup_table(network, op)
