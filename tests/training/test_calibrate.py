"""Activation ranges and batch normalization statistics against numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dtmm.data import Dataset, load_dataset
from dtmm.errors import DtmmError
from dtmm.network.ir import BatchNorm
from dtmm.training.batches import training_batches
from dtmm.training.calibrate import activation_ranges, reestimate_batch_norm
from tests.training.networks import residual, vgg


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def test_ranges_are_the_extremes_whatever_the_batch(digits):
    network = vgg(size=16)
    images = digits.to_input(digits.train_images[:50])
    ranges = activation_ranges(network, images, batch=7)
    assert set(ranges) == set(network.tensors)
    assert ranges["x"] == (float(images.min()), float(images.max()))
    whole = activation_ranges(network, images, batch=50)
    for name, (low, high) in ranges.items():
        assert whole[name] == pytest.approx((low, high), rel=1e-5, abs=1e-6)
        assert low < high
    assert ranges["conv1_bn_relu"][0] == 0.0


def test_ranges_refuse_nothing_and_nan(digits):
    images = digits.to_input(digits.train_images[:4])
    with pytest.raises(DtmmError, match="at least 1 calibration image"):
        activation_ranges(vgg(size=16), images[:0])
    images[0, 0, 0, 0] = np.nan
    with pytest.raises(DtmmError, match="tensor 'x' of 'vgg'"):
        activation_ranges(vgg(size=16), images)


def test_reestimated_statistics_are_those_of_the_images(digits):
    network = residual(size=16)
    stem = network.convs()[0]
    norm = next(op for op in network.ops if isinstance(op, BatchNorm) and op.input == stem.output)
    after = reestimate_batch_norm(network, digits, images=256, seed=3, batch=64)
    pixels = np.concatenate([x.numpy() for x, _ in training_batches(digits, 256, 64, 3)])
    padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    conv = np.einsum("ncyxkl,oklc->noyx", windows, network.params[stem.weight])
    np.testing.assert_allclose(after.params[norm.mean], conv.mean((0, 2, 3)), atol=1e-5)
    # the mean of the batches' variances is a little below the variance of all images
    np.testing.assert_allclose(after.params[norm.variance], conv.var((0, 2, 3)), rtol=0.05)
    fixed = {k for op in network.convs() for k in [op.weight]} | {norm.scale, norm.shift}
    for key in fixed:
        np.testing.assert_array_equal(after.params[key], network.params[key])


def test_reestimation_is_seeded_and_keeps_masks(digits):
    network = residual(size=16)
    weight = network.params["b1.weight"].copy()
    weight[::2, 1] = 0
    network = dataclasses.replace(network, params={**network.params, "b1.weight": weight})
    first, again, other = (
        reestimate_batch_norm(network, digits, images=128, seed=seed) for seed in (0, 0, 1)
    )
    for key, values in first.params.items():
        np.testing.assert_array_equal(values, again.params[key])
    assert not np.array_equal(first.params["stem_bn.mean"], other.params["stem_bn.mean"])
    np.testing.assert_array_equal(first.params["b1.weight"].any(3), weight.any(3))


def test_training_batches_are_equal_and_checked(digits):
    sizes = [len(x) for x, _ in training_batches(digits, 100, 30, 0)]
    assert sizes == [30, 30, 30]
    assert [len(x) for x, _ in training_batches(digits, 10, 30, 0)] == [10]
    with pytest.raises(DtmmError, match="0 training images in batches of 8"):
        training_batches(digits, 0, 8, 0)
