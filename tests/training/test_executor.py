"""The executor against plain numpy, and what training must keep."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dtmm.errors import UnsupportedError
from dtmm.network.ir import (
    Activate,
    Add,
    AveragePool2D,
    BatchNorm,
    Conv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Network,
    Reshape,
)
from dtmm.training.executor import Executor, run_float
from dtmm.training.loop import to_tensor
from tests.training.networks import Builder, residual, vgg


def _windows(x, window, stride, padding, value):
    top, left, bottom, right = padding
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)
    view = np.lib.stride_tricks.sliding_window_view(x, window, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1]]  # [N, H, W, C, kh, kw]


def _numpy_op(op, inputs, params):
    (x, *rest) = inputs
    if isinstance(op, Conv2D):
        w = params[op.weight]
        y = np.einsum("nhwckl,oklc->nhwo", _windows(x, w.shape[1:3], op.stride, op.padding, 0.0), w)
        y = y if op.bias is None else y + params[op.bias]
    elif isinstance(op, FullyConnected):
        y = x @ params[op.weight].T + (0 if op.bias is None else params[op.bias])
    elif isinstance(op, BatchNorm):
        scale = params[op.scale] / np.sqrt(params[op.variance] + op.epsilon)
        return (x - params[op.mean]) * scale + params[op.shift]
    elif isinstance(op, Add):
        y = x + rest[0]
    elif isinstance(op, MaxPool2D):
        return _windows(x, op.window, op.stride, op.padding, -np.inf).max((-1, -2))
    elif isinstance(op, AveragePool2D):
        return np.nanmean(_windows(x, op.window, op.stride, op.padding, np.nan), (-1, -2))
    elif isinstance(op, Mean):
        return x.mean((1, 2))
    elif isinstance(op, Reshape):
        return x.reshape(len(x), -1)
    else:
        y = x
    kind = op.activation.value
    return y if kind == "none" else np.clip(y, 0, 6 if kind == "relu6" else None)


def run_numpy(network: Network, images: np.ndarray) -> np.ndarray:
    """The network in float64 numpy: the independent truth."""
    params = {key: value.astype(np.float64) for key, value in network.params.items()}
    values = {network.inputs[0]: images.astype(np.float64)}
    for op in network.ops:
        names = op.inputs if isinstance(op, Add) else (op.input,)
        values[op.output] = _numpy_op(op, [values[name] for name in names], params)
        assert values[op.output].shape[1:] == network.tensors[op.output][1:]
    return values[network.outputs[0]]


def _images(network: Network, count: int = 4, seed: int = 0) -> np.ndarray:
    shape = (count, *network.tensors[network.inputs[0]][1:])
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("build", [residual, vgg])
def test_equals_numpy(build):
    network = build(seed=3, c_in=2)
    images = _images(network)
    np.testing.assert_allclose(run_float(network, images, 3), run_numpy(network, images), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    pool=st.sampled_from([MaxPool2D, AveragePool2D]),
    pool_padding=st.tuples(*[st.integers(0, 1)] * 4),
    bias=st.booleans(),
)
def test_padding_and_pools_equal_numpy(padding, kernel, stride, pool, pool_padding, bias):
    b = Builder(1, (1, 7, 6, 3))
    x = b.conv("conv", "x", 4, kernel, stride, padding, bias)
    if min(b.tensors[x][1:3]) < 2:
        return
    x = b.relu(b.pool("pool", x, pool, 2, 1, pool_padding))
    network = b.build("padded", b.flatten(x))
    images = _images(network)
    np.testing.assert_allclose(run_float(network, images), run_numpy(network, images), atol=1e-5)


def test_relu6_and_fused_activations_equal_numpy():
    network = residual()
    relu6 = type(network.ops[2].activation).RELU6
    ops = tuple(
        dataclasses.replace(op, activation=relu6) if isinstance(op, Activate | Add) else op
        for op in network.ops
    )
    network = dataclasses.replace(network, ops=ops)
    images = 5 * _images(network)
    np.testing.assert_allclose(run_float(network, images), run_numpy(network, images), atol=1e-5)


def test_network_survives_the_round_trip():
    network = residual()
    back = Executor(network).to_network()
    assert back.ops == network.ops and back.tensors == network.tensors
    for key, values in network.params.items():
        assert back.params[key].dtype == np.float32
        np.testing.assert_array_equal(back.params[key], values)


def test_training_writes_weights_and_statistics_back():
    network = residual()
    executor = Executor(network).train()
    loss = executor(torch.from_numpy(_images(network)).permute(0, 3, 1, 2)).square().mean()
    loss.backward()
    with torch.no_grad():
        for parameter in executor.parameters():
            parameter.sub_(0.1 * parameter.grad)
    back = executor.to_network()
    changed = [k for k, v in network.params.items() if not np.array_equal(v, back.params[k])]
    assert sorted(changed) == sorted(network.params)
    images = _images(network, seed=1)
    np.testing.assert_allclose(
        run_float(back, images),
        executor.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).detach().numpy(),
        atol=1e-5,
    )


def _with_pruned_filterlets(network: Network, share: float, seed: int = 0) -> Network:
    rng = np.random.default_rng(seed)
    params = dict(network.params)
    for op in network.convs():
        weight = params[op.weight].copy()
        weight[rng.random(weight.shape[:3]) < share] = 0
        params[op.weight] = weight
    return dataclasses.replace(network, params=params)


def test_masks_hold_exactly_through_momentum_and_weight_decay():
    network = _with_pruned_filterlets(residual(), 0.6)
    executor = Executor(network).train()
    optimizer = torch.optim.SGD(
        executor.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2, nesterov=True
    )
    x, labels = torch.from_numpy(_images(network, 16)).permute(0, 3, 1, 2), torch.arange(16) % 10
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(executor(x), labels).backward()
        optimizer.step()
        executor.apply_masks()
    after = executor.to_network()
    for op in network.convs():
        before, now = network.params[op.weight], after.params[op.weight]
        np.testing.assert_array_equal(before.any(3), now.any(3))
        assert not np.allclose(before, now)


def test_masks_also_undo_an_optimizer_that_ignores_gradients():
    network = _with_pruned_filterlets(residual(), 0.5)
    executor = Executor(network)
    with torch.no_grad():
        for parameter in executor.parameters():
            parameter.add_(1.0)
    executor.apply_masks()
    for op in network.convs():
        kept = executor.to_network().params[op.weight].any(3)
        np.testing.assert_array_equal(kept, network.params[op.weight].any(3))


@pytest.mark.parametrize("build", [residual, vgg])
def test_gate_gradients_equal_finite_differences(build):
    network = build(seed=5)
    executor = Executor(network).eval().double()
    x = torch.from_numpy(_images(network, 8).astype(np.float64)).permute(0, 3, 1, 2)
    labels = torch.arange(8) % 10

    def loss(gates):
        return F.cross_entropy(executor(x, gates), labels)

    gates = {k: g.detach().double().requires_grad_() for k, g in executor.gates().items()}
    gradients = torch.autograd.grad(loss(gates), list(gates.values()))
    for (name, gate), gradient in zip(gates.items(), gradients, strict=True):
        for channel in range(len(gate)):
            step = torch.zeros_like(gate)
            step[channel] = 1e-5
            with torch.no_grad():
                up = loss({**gates, name: gate + step})
                down = loss({**gates, name: gate - step})
            assert gradient[channel].item() == pytest.approx(
                (up - down).item() / 2e-5, abs=1e-6, rel=1e-3
            )


def test_watch_sees_every_tensor():
    network = vgg()
    seen = {}
    x = torch.from_numpy(_images(network)).permute(0, 3, 1, 2)
    Executor(network).eval()(x, watch=lambda name, value: seen.update({name: tuple(value.shape)}))
    for name, (_, *dims) in network.tensors.items():
        assert seen[name] == (4, *(dims if len(dims) == 1 else [dims[2], dims[0], dims[1]]))


def test_several_outputs_and_shared_weights_are_refused():
    network = vgg()
    with pytest.raises(UnsupportedError, match="2 outputs"):
        Executor(dataclasses.replace(network, outputs=("classifier", "hidden")))
    conv1, conv2 = network.convs()
    shared = tuple(
        dataclasses.replace(op, weight=conv1.weight) if op is conv2 else op for op in network.ops
    )
    with pytest.raises(UnsupportedError, match=r"conv1\.weight.*twice"):
        Executor(dataclasses.replace(network, ops=shared))


@pytest.mark.parametrize("size", [(14, 5), (4, 3), (15, 4)])
def test_a_column_of_one_channel(size: tuple[int, int]) -> None:
    """oneDNN computes garbage here if it takes the memory for channels-last."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(36, 2, 3, 1)).astype(np.float32)
    op = Conv2D("c", "x", "c", "w", None, (1, 2), (1, 0, 1, 0))
    out = (1, size[0] + 1, (size[1] - 3) // 2 + 1, 36)
    shapes = {"x": (1, *size, 1), "c": out}
    network = Network("column", shapes, (op,), {"w": weight}, ("x",), ("c",))
    images = rng.normal(size=(9, *size, 1)).astype(np.float32)
    with torch.no_grad():
        found = Executor(network)(to_tensor(images)).numpy()
    padded = np.pad(images[..., 0].astype(np.float64), ((0, 0), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 3), (1, 2))[:, :, ::2]
    expected = np.einsum("nyxhw,chw->ncyx", windows, weight[..., 0].astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=1e-4)
