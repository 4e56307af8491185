"""Folding keeps the function, and names what it cannot fold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dtmm.errors import UnsupportedError
from dtmm.network.fold import fold
from dtmm.network.ir import (
    Activate,
    Activation,
    BatchNorm,
    DepthwiseConv2D,
    LeakyRelu,
    Network,
)
from dtmm.training.executor import Executor
from tests.training.networks import Builder, residual, vgg


@given(st.integers(0, 2**32 - 1), st.sampled_from([residual, vgg]))
def test_folding_keeps_the_function_for_any_weights(
    seed: int, build: Callable[[int], Network]
) -> None:
    network = build(seed)
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 1, 8, 8)).astype(np.float32))
    with torch.no_grad():
        expected, found = Executor(network).eval()(x), Executor(fold(network)).eval()(x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def norm_of_what_is_read_twice(b: Builder) -> str:
    y = b.conv("c", "x", 4)
    return b.add("sum", b.norm(y), y)


def relu6(b: Builder, x: str) -> str:
    b.tensors["six"] = b.tensors[x]
    return b.append(Activate("six", x, "six", Activation.RELU6))


ON_THEIR_OWN: dict[str, tuple[Callable[[Builder], str], type]] = {
    "norm of the input": (lambda b: b.conv("c", b.norm("x"), 4), DepthwiseConv2D),
    "norm after an activation": (
        lambda b: b.norm(b.relu(b.conv("c", "x", 4))), DepthwiseConv2D
    ),
    "norm of what is read twice": (norm_of_what_is_read_twice, DepthwiseConv2D),
    "norm of an add, its relu": (
        lambda b: b.relu(b.norm(b.add("a", b.conv("c", "x", 4), b.conv("d", "x", 4)))),
        DepthwiseConv2D,
    ),
    "norm of a pool": (lambda b: b.norm(b.pool("p", b.conv("c", "x", 4))), DepthwiseConv2D),
    "relu of a pool": (lambda b: b.relu(b.pool("p", b.conv("c", "x", 4))), LeakyRelu),
    "relu6 of a pool": (lambda b: relu6(b, b.pool("p", b.conv("c", "x", 4))), DepthwiseConv2D),
}  # fmt: skip


@pytest.mark.parametrize("case", ON_THEIR_OWN)
def test_what_no_layer_takes_is_an_operator_of_its_own(case: str) -> None:
    build, made = ON_THEIR_OWN[case]
    b = Builder(0, (1, 8, 8, 2))
    network = b.build("net", build(b))
    folded = fold(network)
    assert sum(isinstance(op, made) for op in folded.ops) == 1
    assert not any(isinstance(op, BatchNorm | Activate) for op in folded.ops)
    x = 4 * torch.randn(2, 2, 8, 8)
    with torch.no_grad():
        expected, found = Executor(network).eval()(x), Executor(folded).eval()(x)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_fold_is_named() -> None:
    b = Builder(0, (1, 8, 8, 2))
    network = b.build("net", b.fc("fc", b.norm(b.mean(b.conv("c", "x", 4))), 2))
    with pytest.raises(UnsupportedError, match="'mean_bn' cannot be folded: it follows Mean on"):
        fold(network)


def test_folding_twice_changes_nothing() -> None:
    once = fold(residual())
    twice = fold(once)
    assert twice.ops == once.ops and twice.tensors == once.tensors
    assert all(np.array_equal(twice.params[key], value) for key, value in once.params.items())
    assert {op.activation for op in once.convs()} == {Activation.NONE, Activation.RELU}
