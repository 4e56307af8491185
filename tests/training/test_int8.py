"""Calibration, equalization, bias correction and training for int8, against the integer reference
and, byte for byte, TFLM."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dtmm.config import QuantizeConfig
from dtmm.config_values import Count
from dtmm.data import Dataset, load_dataset
from dtmm.errors import ConfigError
from dtmm.models import build_model, load_checkpoint, shipped_checkpoint
from dtmm.network.fold import fold
from dtmm.network.ir import Conv2D, Network, Weighted
from dtmm.pipeline.source import capture
from dtmm.quantization import quantize, quantize_input, run
from dtmm.quantization.equalize import equalize
from dtmm.quantization.error import sqnr_db
from dtmm.training.bias_correction import correct_biases
from dtmm.training.calibrate import activation_ranges, reestimate_batch_norm
from dtmm.training.executor import Executor, run_float
from dtmm.training.int8 import Int8, int8_errors, to_int8
from dtmm.training.loop import to_tensor
from dtmm.training.qat import QatExecutor, round_weight, train_int8
from tests.quantization.graphs import random_graph
from tests.quantization.oracles import tflm
from tests.training.networks import Builder, residual

QAT = QuantizeConfig(
    calibration_images=Count(200), qat_epochs=1, qat_images=Count(256), batch=Count(32)
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def pruned(digits: Dataset) -> Network:
    """The shipped digits network without every seventh filterlet."""
    module = build_model("tiny_resnet", digits)
    load_checkpoint(shipped_checkpoint("tiny_resnet", "digits"), module)
    network = capture(module, digits, "tiny_resnet")
    params = dict(network.params)
    for op in network.convs()[1:]:
        params[op.weight] = params[op.weight].copy()
        params[op.weight].reshape(-1, params[op.weight].shape[3])[::7] = 0
    return reestimate_batch_norm(dataclasses.replace(network, params=params), digits)


def images_of(network: Network, count: int = 16, seed: int = 0) -> np.ndarray:
    shape = (count, *network.tensors[network.inputs[0]][1:])
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize(
    "options",
    [
        {"qat_epochs": 0},
        {"qat_epochs": 0, "equalize": True, "bias_correction": True},
        {"qat_epochs": 1},
    ],
    ids=["ptq", "equalized, corrected", "qat"],
)
def test_every_byte_equals_tflm_and_zeros_stay(
    method: str, options: dict[str, object], digits: Dataset, pruned: Network
) -> None:
    pytest.importorskip("tflite_micro")
    config = dataclasses.replace(QAT, ranges=method, **options)  # type: ignore[arg-type]
    int8 = to_int8(pruned, digits, config)
    images = quantize_input(int8.network, digits.to_input(digits.test_images[:8]))
    ours, theirs = run(int8.network, images, keep_all=True), tflm(int8.network, images)
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name].reshape(values.shape), values, err_msg=name)
    for op in pruned.convs():
        held = ~pruned.params[op.weight].any(3)
        assert not int8.network.params[op.weight][held].any()


def test_int8_keeps_the_accuracy(digits: Dataset, pruned: Network) -> None:
    inputs = digits.to_input(digits.test_images)
    exact = run_float(pruned, inputs).argmax(1)
    assert (exact == digits.test_labels).mean() > 0.8
    for epochs in (0, 1):
        int8 = to_int8(pruned, digits, dataclasses.replace(QAT, qat_epochs=epochs))
        found = run(int8.network, quantize_input(int8.network, inputs)).argmax(1)
        assert (found == exact).mean() > 0.97


@pytest.mark.parametrize("seed", range(6))
def test_the_rounded_network_is_the_integer_one(seed: int) -> None:
    """Fake quantization gives the codes of the integer reference; a value that lies near the
    middle between two codes may fall on either side, and what follows it with it."""
    network = random_graph(seed)
    images = images_of(network, 8, seed)
    ranges = activation_ranges(network, images)
    quantized = quantize(network, ranges)
    executor = QatExecutor(network, ranges).eval()
    seen: dict[str, np.ndarray] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        seen[name] = (value.permute(0, 2, 3, 1) if value.ndim == 4 else value).detach().numpy()

    executor(to_tensor(images), watch=keep)
    found = run(quantized, quantize_input(quantized, images), keep_all=True)
    first = network.ops[0].output
    for name in (network.inputs[0], first):
        tensor = quantized.tensors[name]
        codes = np.rint(seen[name] / tensor.scale) + tensor.zero_point
        away = np.abs(codes.reshape(found[name].shape) - found[name])
        assert away.max() <= 1 and (away > 0).mean() < 0.02, name
    output = network.outputs[0]
    tensor = quantized.tensors[output]
    real = tensor.scale * (found[output].astype(np.float64) - tensor.zero_point)
    assert sqnr_db(seen[output].reshape(real.shape), real) > 20


def test_weights_are_rounded_as_they_are_exported() -> None:
    network = fold(residual())
    ranges = activation_ranges(network, images_of(network))
    quantized = quantize(network, ranges)
    for layer in QatExecutor(network, ranges).layers():
        codes = quantized.params[layer.op.weight].astype(np.float32)
        scales = quantized.weight_scales[layer.op.weight]
        exported = codes * scales.reshape(-1, *(1 for _ in codes.shape[1:]))
        found = layer.used_weight().detach().numpy()
        found = found.transpose(0, 2, 3, 1) if found.ndim == 4 else found
        # at a tie of two codes a float32 product and a float64 quotient may differ
        close = np.isclose(found, exported, rtol=1e-6, atol=0)
        assert close.mean() > 0.999


def test_gradients_pass_straight_through_and_move_the_bounds() -> None:
    b = Builder(0, (1, 4, 4, 2))
    network = b.build("c", b.conv("c", "x", 3, kernel=1, bias=True))
    images = images_of(network)
    ranges = {"x": (-1.0, 1.0), "c": (-0.5, 0.5)}
    executor, plain = QatExecutor(network, ranges), Executor(network)
    out = executor(to_tensor(images))
    out.sum().backward()
    layer, bounds = executor.layers()[0], executor.bounds.grad
    assert layer.weight.grad is not None and bounds is not None
    with torch.no_grad():
        raw = plain(to_tensor(images).clamp(-1, 1))
    clipped = [(raw < -0.5).sum().item(), (raw > 0.5).sum().item()]
    row = executor._row["c"]
    np.testing.assert_allclose(bounds[row].numpy(), clipped, atol=0.03 * raw.numel())
    assert layer.bias is not None and layer.bias.grad is not None
    inside = raw.numel() - sum(clipped)
    assert layer.bias.grad.sum().item() == pytest.approx(inside, abs=0.03 * raw.numel())


def test_what_is_trained_is_what_is_exported(digits: Dataset, pruned: Network) -> None:
    folded = fold(pruned)
    ranges = activation_ranges(folded, digits.to_input(digits.train_images[:200]), "mse")
    trained, bounds = train_int8(folded, ranges, digits, QAT)
    assert any(bounds[name] != ranges[name] for name in ranges)
    again = QatExecutor(trained, bounds)
    again(torch.zeros(1, 1, 16, 16))
    quantized = quantize(trained, bounds)
    assert dict(quantized.tensors) == again._affine
    repeated, _ = train_int8(folded, ranges, digits, QAT)
    for key, values in trained.params.items():
        np.testing.assert_array_equal(values, repeated.params[key])


def test_training_recovers_what_coarse_ranges_cost(digits: Dataset, pruned: Network) -> None:
    """Ranges cut to half: training widens them and moves the weights."""
    folded = fold(pruned)
    inputs = digits.to_input(digits.test_images)
    exact = run_float(pruned, inputs)
    full = activation_ranges(folded, digits.to_input(digits.train_images[:200]))
    cut = {name: (low / 2, high / 2) for name, (low, high) in full.items()}
    config = dataclasses.replace(QAT, qat_epochs=1, qat_images=Count(1024), qat_lr=1e-3)
    trained, ranges = train_int8(folded, cut, digits, config)

    def agreement(network: Network, ranges: dict[str, tuple[float, float]]) -> float:
        quantized = quantize(network, ranges)
        found = run(quantized, quantize_input(quantized, inputs))
        return float((found.argmax(1) == exact.argmax(1)).mean())

    assert agreement(trained, ranges) > agreement(folded, cut) + 0.2


def test_equalized_networks_compute_the_same_and_are_level() -> None:
    b = Builder(0, (1, 8, 8, 3))
    x = b.relu(b.conv("a", "x", 8, bias=True))
    x = b.relu(b.depthwise("d", x))
    x = b.relu(b.conv("p", x, 6, kernel=1, bias=True))
    network = fold(b.build("chain", b.conv("e", x, 4, bias=True)))
    params = {key: values.copy() for key, values in network.params.items()}
    params["a.weight"] *= (10.0 ** np.linspace(-1, 1, 8)).astype(np.float32).reshape(-1, 1, 1, 1)
    params["p.weight"][2] = 0
    network = dataclasses.replace(network, params=params)
    level = equalize(network)
    images = images_of(network)
    np.testing.assert_allclose(
        Executor(level)(to_tensor(images)).detach().numpy(),
        Executor(network)(to_tensor(images)).detach().numpy(),
        atol=1e-4,
    )
    for key, values in network.params.items():
        np.testing.assert_array_equal(values == 0, level.params[key] == 0)
    for first, second, axis in (("a", "d", 0), ("d", "p", 3)):
        before = np.abs(level.params[f"{first}.weight"]).max((1, 2, 3))
        after = np.moveaxis(np.abs(level.params[f"{second}.weight"]), axis, 0)
        np.testing.assert_allclose(before, after.reshape(8, -1).max(1), rtol=1e-2)


def test_corrected_layers_have_no_bias_left() -> None:
    """One layer with coarse weights, by brute force: the mean output is the float one's."""
    b = Builder(0, (1, 6, 6, 3))
    network = b.build("c", b.conv("c", "x", 5, bias=True))
    images = images_of(network, 64) + 1
    quantized = quantize(network, activation_ranges(network, images))
    scales = {"c.weight": 8 * quantized.weight_scales["c.weight"]}
    coarse = np.rint(network.params["c.weight"] / scales["c.weight"].reshape(-1, 1, 1, 1))
    quantized = dataclasses.replace(
        quantized,
        params={**quantized.params, "c.weight": coarse.astype(np.int8)},
        weight_scales=scales,
    )
    rounded = {"c.weight": coarse.astype(np.float32) * scales["c.weight"].reshape(-1, 1, 1, 1)}

    def means(params: dict[str, np.ndarray]) -> np.ndarray:
        changed = dataclasses.replace(network, params={**network.params, **params})
        return Executor(changed)(to_tensor(images)).detach().numpy().mean((0, 2, 3))

    fixed = correct_biases(network, quantized, images)
    exact = means({})
    assert np.abs(means(rounded) - exact).max() > 1e-2
    corrected = means({**rounded, "c.bias": fixed.params["c.bias"]})
    np.testing.assert_allclose(corrected, exact, atol=1e-5)
    np.testing.assert_array_equal(fixed.params["c.weight"], network.params["c.weight"])


def test_the_error_report_by_hand(digits: Dataset, pruned: Network) -> None:
    int8 = to_int8(pruned, digits, dataclasses.replace(QAT, qat_epochs=0))
    images = digits.to_input(digits.test_images[:16])
    report = {line.tensor: line for line in int8_errors(int8, images)}
    assert [*report] == [int8.folded.inputs[0], *(op.output for op in int8.folded.ops)]
    output = int8.network.outputs[0]
    tensor = int8.network.tensors[output]
    codes = run(int8.network, quantize_input(int8.network, images)).astype(np.float64)
    error = run_float(pruned, images) - tensor.scale * (codes - tensor.zero_point)
    power = 10 * np.log10((run_float(pruned, images) ** 2).sum() / (error**2).sum())
    assert report[output].sqnr_db == pytest.approx(power, abs=0.01)
    for op in int8.folded.ops:
        assert (report[op.output].weight_sqnr_db is not None) == isinstance(op, Weighted)
        if isinstance(op, Conv2D):
            assert 30 < (report[op.output].weight_sqnr_db or 0) < 60
    halved = {name: (low / 2, high / 2) for name, (low, high) in
              activation_ranges(int8.folded, images).items()}  # fmt: skip
    cut = {line.tensor: line for line in
           int8_errors(Int8(quantize(int8.folded, halved), int8.folded), images)}  # fmt: skip
    assert cut[output].clipped > 0 and cut[output].sqnr_db < report[output].sqnr_db


def test_zero_stays_zero_in_rounded_weights() -> None:
    weight = torch.randn(4, 3, 2, 2)
    weight[1] = 0
    weight[2, 0] = 0
    assert torch.equal(round_weight(weight) == 0, weight.abs() < 1e-3 * weight.abs().max()) or (
        not round_weight(weight)[weight == 0].any()
    )


def test_unknown_range_methods_are_refused(digits: Dataset, pruned: Network) -> None:
    with pytest.raises(ConfigError, match="range method 'entropy'; known: minmax, mse, percentile"):
        to_int8(pruned, digits, dataclasses.replace(QAT, ranges="entropy"))
