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
from dtmm.network.ir import Activation, Network
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


UNFOLDABLE: dict[str, tuple[Callable[[Builder], str], str]] = {
    "of the input": (lambda b: b.conv("c", b.norm("x"), 4), "x_bn.*the network input"),
    "after an activation": (lambda b: b.norm(b.relu(b.conv("c", "x", 4))), "c_relu_bn.*Activate"),
    "of what is read twice": (norm_of_what_is_read_twice, "c_bn.*'c' is used 2 times"),
    "of an add": (
        lambda b: b.norm(b.add("a", b.conv("c", "x", 4), b.conv("d", "x", 4))),
        "a_bn.*Add",
    ),
    "relu of a pool": (lambda b: b.relu(b.pool("p", b.conv("c", "x", 4))), "p_relu.*MaxPool2D"),
}


@pytest.mark.parametrize("case", UNFOLDABLE)
def test_what_cannot_fold_is_named(case: str) -> None:
    build, says = UNFOLDABLE[case]
    b = Builder(0, (1, 8, 8, 2))
    with pytest.raises(UnsupportedError, match=says):
        fold(b.build("net", build(b)))


def test_folding_twice_changes_nothing() -> None:
    once = fold(residual())
    twice = fold(once)
    assert twice.ops == once.ops and twice.tensors == once.tensors
    assert all(np.array_equal(twice.params[key], value) for key, value in once.params.items())
    assert {op.activation for op in once.convs()} == {Activation.NONE, Activation.RELU}
