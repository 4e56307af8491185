"""Malformed networks are refused in one line that names what is wrong; shapes equal torch's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network import check, fold
from dtmm.network.ir import Add, AveragePool2D, Conv2D, MaxPool2D, Network
from dtmm.network.shapes import output_shape
from tests.training.networks import Builder, residual, vgg


@pytest.mark.parametrize("network", [residual(), vgg(), fold(residual()), fold(vgg())])
def test_sound_networks_pass(network: Network) -> None:
    check(network)


def with_op(network: Network, name: str, /, **changes: Any) -> Network:
    ops = tuple(dataclasses.replace(op, **changes) if op.name == name else op for op in network.ops)
    return dataclasses.replace(network, ops=ops)


def with_param(network: Network, key: str, values: np.ndarray | None) -> Network:
    params = {k: v for k, v in network.params.items() if k != key}
    params |= {} if values is None else {key: values}
    return dataclasses.replace(network, params=params)


def with_shape(network: Network, tensor: str, shape: tuple[int, ...]) -> Network:
    return dataclasses.replace(network, tensors={**network.tensors, tensor: shape})


FLAWS: dict[str, tuple[Callable[[Network], Network], str]] = {
    "later": (
        lambda n: dataclasses.replace(n, ops=n.ops[1:] + n.ops[:1]),
        "'stem_bn' reads 'stem', which no input or earlier operator defines",
    ),
    "unknown output": (
        lambda n: dataclasses.replace(n, outputs=("y",)),
        "no operator writes output 'y'",
    ),
    "no output": (lambda n: dataclasses.replace(n, outputs=()), "no input or no output"),
    "unknown input": (lambda n: dataclasses.replace(n, inputs=("z",)), "input 'z' has no shape"),
    "same name": (lambda n: with_op(n, "a1", name="stem"), "operators are named 'stem'"),
    "written twice": (lambda n: with_op(n, "a1", output="stem"), "write 'stem'"),
    "input written": (lambda n: with_op(n, "a1", output="x"), "write 'x'"),
    "wrong shape": (
        lambda n: with_shape(n, "stem", (1, 8, 7, 8)),
        r"'stem' of shape \(1, 8, 7, 8\), expected \(1, 8, 8, 8\)",
    ),
    "empty shape": (lambda n: with_shape(n, "stem", (1, 8, 0, 8)), "all positive"),
    "rank": (lambda n: with_shape(n, "stem", (1, 8, 8)), r"expected \(1, H, W, C\)"),
    "no parameter": (
        lambda n: with_param(n, "stem.weight", None),
        "'stem' has no parameter 'stem.weight'",
    ),
    "channels": (
        lambda n: with_param(n, "a1.weight", np.zeros((8, 3, 3, 5), np.float32)),
        r"'a1.weight' of shape \(8, 3, 3, 5\), expected \(C_out, kh, kw, 8\)",
    ),
    "double": (
        lambda n: with_param(n, "a1.weight", np.zeros((8, 3, 3, 8))),
        "'a1.weight' has float64, expected finite float32",
    ),
    "nan": (
        lambda n: with_param(n, "classifier.bias", np.full(10, np.nan, np.float32)),
        "'classifier.bias' has NaN",
    ),
    "bias": (
        lambda n: with_param(n, "classifier.bias", np.zeros(9, np.float32)),
        r"'classifier.bias' of shape \(9,\), expected \(10,\)",
    ),
    "norm": (
        lambda n: with_param(n, "stem_bn.mean", np.zeros(3, np.float32)),
        r"'stem_bn.mean' of shape \(3,\), expected \(8,\)",
    ),
    "variance": (
        lambda n: with_param(n, "stem_bn.variance", np.full(8, -1, np.float32)),
        "negative variances 'stem_bn.variance'",
    ),
    "add": (
        lambda n: with_op(n, "b_add", inputs=("b_short_bn", "stem")),
        r"'b_add' reads 'b_short_bn' of shape \(1, 4, 4, 12\)",
    ),
    "image": (lambda n: with_op(n, "mean", input="classifier"), "which no input"),
    "vector": (lambda n: with_op(n, "classifier", input="x"), r"expected \(C_out, C_in\)"),
    "window": (
        lambda n: with_op(n, "stem", padding=(0, 0, 0, 0), dilation=(9, 9)),
        r"window of \(19, 19\) pixels, its padded input only \(8, 8\)",
    ),
    "stride": (lambda n: with_op(n, "stem", stride=(0, 1)), r"stride \(0, 1\)"),
    "padding": (lambda n: with_op(n, "stem", padding=(-1, 0, 0, 0)), "no negative padding"),
    "dilation": (lambda n: with_op(n, "stem", dilation=(0, 1)), r"dilation \(0, 1\)"),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_named(flaw: str) -> None:
    spoil, message = FLAWS[flaw]
    with pytest.raises(DtmmError, match=message) as caught:
        check(spoil(residual()))
    assert "\n" not in str(caught.value)


def test_batches_and_shared_parameters_are_not_supported() -> None:
    network = residual()
    with pytest.raises(UnsupportedError, match="batch 2"):
        check(with_shape(network, "x", (2, 8, 8, 1)))
    shared = with_op(network, "a2", weight="a1.weight")
    for refuse in (check, fold):  # folding two norms into one weight would spoil it
        with pytest.raises(UnsupportedError, match=r"'a1.weight' is shared by 'a1' and 'a2'"):
            refuse(shared)


def test_a_pool_of_padding_alone_is_refused() -> None:
    network = with_op(vgg(), "pool1", padding=(2, 0, 0, 0))
    with pytest.raises(DtmmError, match=r"padding \(2, 0, 0, 0\), expected less than its window"):
        check(network)


PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(st.integers(1, 12), st.integers(1, 12), PAIRS, PAIRS, PAIRS, st.tuples(*[PAIRS] * 2))
def test_window_shapes_equal_torch(
    height: int, width: int, kernel: Any, stride: Any, dilation: Any, amounts: Any
) -> None:
    (top, left), (bottom, right) = ((a - 1, b - 1) for a, b in amounts)
    assume(height + top + bottom > (kernel[0] - 1) * dilation[0])
    assume(width + left + right > (kernel[1] - 1) * dilation[1])
    x = F.pad(torch.zeros(1, 2, height, width), (left, right, top, bottom))
    padding = (top, left, bottom, right)
    b = Builder(0, (1, height, width, 2))
    b.params["w"] = np.zeros((3, *kernel, 2), np.float32)
    network = Network("n", b.tensors, (), b.params, ("x",), ("x",))
    conv = Conv2D("c", "x", "y", "w", None, stride, padding, dilation)
    expected = F.conv2d(x, torch.zeros(3, 2, *kernel), stride=stride, dilation=dilation)
    assert output_shape(network, conv) == (1, *expected.shape[2:], 3)
    if max(top, bottom) < kernel[0] and max(left, right) < kernel[1] and dilation == (1, 1):
        for kind in (MaxPool2D, AveragePool2D):
            pooled = F.max_pool2d(x, kernel, stride)
            found = output_shape(network, kind("p", "x", "y", kernel, stride, padding))
            assert found == (1, *pooled.shape[2:], 2)


def test_unequal_adds_are_refused() -> None:
    b = Builder(0, (1, 8, 8, 1))
    b.conv("c", "x", 1, kernel=3, padding=(0, 0, 0, 0))
    network = b.build("n", "c")
    with pytest.raises(DtmmError, match="expected equal shapes"):
        output_shape(network, Add("a", ("x", "c"), "a"))
