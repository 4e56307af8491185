"""Importance criteria against exact loss changes and brute force."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dtmm.network.groups import channel_groups
from dtmm.network.ir import Network
from dtmm.pruning.bn_scale import bn_scale
from dtmm.pruning.chip import chip, independence
from dtmm.pruning.first_order import first_order_terms
from dtmm.pruning.l1 import l1
from dtmm.pruning.l2 import l2
from dtmm.pruning.random_scores import random
from dtmm.pruning.taylor import taylor
from dtmm.pruning.taylor_squared import taylor_squared
from dtmm.pruning.taylor_weights import taylor_weights
from dtmm.training.executor import Executor
from tests.training.networks import Builder, residual, squeeze, vgg


def _batches(network: Network, count: int, size: int, seed: int = 0):
    _, h, w, c = network.tensors["x"]
    rng = np.random.default_rng(seed)
    for _ in range(count):
        x = torch.from_numpy(rng.normal(size=(size, c, h, w)).astype(np.float32))
        yield x, torch.from_numpy(rng.integers(0, 10, size))


def _linear_loss_network(scale: float) -> Network:
    """Convolution, mean, classifier: tiny logits, where cross-entropy is linear in the weights."""
    b = Builder(2, (1, 6, 6, 3))
    network = b.build("linear", b.fc("classifier", b.mean(b.conv("conv", "x", 5)), 10))
    params = {k: v * (scale if k == "conv.weight" else 1) for k, v in network.params.items()}
    return dataclasses.replace(network, params=params)


def _loss(network: Network, batch, gates=None) -> float:
    executor = Executor(network).eval().double()
    with torch.no_grad():
        return F.cross_entropy(executor(batch[0].double(), gates), batch[1]).item()


def test_taylor_of_a_linear_model_is_the_exact_loss_change():
    scale = 1e-4  # the second-order term is 1e-4 of the first
    network = _linear_loss_network(scale)
    (batch,) = _batches(network, 1, 8)
    scores = taylor(network, [batch])
    weight, whole = network.params["conv.weight"], _loss(network, batch)
    for position in np.ndindex(5, 3, 3):
        pruned = weight.copy()
        pruned[position] = 0
        params = {**network.params, "conv.weight": pruned}
        change = _loss(dataclasses.replace(network, params=params), batch) - whole
        assert scores.filterlets["conv"][position] == pytest.approx(
            abs(change), rel=2e-2, abs=scale * 1e-4
        )
    for channel in range(5):
        gate = torch.ones(5, dtype=torch.float64)
        gate[channel] = 0
        change = _loss(network, batch, {"conv": gate}) - whole
        assert scores.channels["conv"][channel] == pytest.approx(
            abs(change), rel=2e-2, abs=scale * 1e-4
        )


def test_a_filter_is_the_sum_of_its_filterlets_when_nothing_follows_it():
    network = _linear_loss_network(1.0)
    for terms in first_order_terms(network, _batches(network, 2, 8)):
        np.testing.assert_allclose(
            terms.filterlets["conv"].sum((1, 2)), terms.channels["conv"], rtol=1e-4, atol=1e-7
        )


def test_taylor_squared_is_half_the_mean_square_per_image_whatever_the_batch_size():
    network = residual()
    batches = list(_batches(network, 40, 4))
    single = [(x[i : i + 1], y[i : i + 1]) for x, y in batches for i in range(len(x))]
    per_image = list(first_order_terms(network, single))
    scores = taylor_squared(network, batches)
    assert scores.images == len(per_image) == 160
    for name, values in scores.channels.items():
        exact = 0.5 * np.mean([t.channels[name] ** 2 for t in per_image], axis=0)
        assert np.sum(values) == pytest.approx(np.sum(exact), rel=0.3)
    for name, values in scores.filterlets.items():
        exact = 0.5 * np.mean([t.filterlets[name] ** 2 for t in per_image], axis=0)
        assert np.sum(values) == pytest.approx(np.sum(exact), rel=0.3)
    exact = taylor_squared(network, single)
    for name, values in exact.channels.items():
        second_moment = 0.5 * np.mean([t.channels[name] ** 2 for t in per_image], axis=0)
        np.testing.assert_allclose(values, second_moment, rtol=1e-2)


@pytest.mark.parametrize("criterion", [taylor, taylor_squared])
def test_batches_are_aggregated_as_documented(criterion):
    network = vgg()
    batches = list(_batches(network, 3, 4))
    terms = [t.channels["conv2"] for t in first_order_terms(network, batches)]
    expected = {
        "taylor": np.mean(np.abs(terms), axis=0),
        "taylor_squared": 0.5 * (4 * np.var(terms, axis=0, ddof=1) + np.mean(terms, axis=0) ** 2),
    }[criterion.__name__]
    scores = criterion(network, batches)
    np.testing.assert_allclose(scores.channels["conv2"], expected, rtol=1e-9)
    assert scores.criterion == criterion.__name__ and scores.images == 12


def test_batch_norm_is_frozen_and_the_network_unchanged():
    network = residual()
    before = {key: values.copy() for key, values in network.params.items()}
    batches = list(_batches(network, 2, 8))
    terms = list(first_order_terms(network, batches))
    for key, values in network.params.items():
        np.testing.assert_array_equal(values, before[key])
    # With batch statistics the loss would not depend on a filter's scale and these would vanish.
    assert np.abs(terms[0].filterlets["a1"].sum((1, 2))).max() > 1e-4


@pytest.mark.parametrize(("criterion", "power"), [(l1, 1), (l2, 2)])
def test_magnitudes_are_shares_of_the_layer(criterion, power):
    network = residual()
    scores = criterion(network)
    weight = np.abs(network.params["b1.weight"].astype(np.float64)) ** power
    assert scores.filterlets["b1"][3, 1, 2] == pytest.approx(weight[3, 1, 2].sum() / weight.sum())
    for values in scores.filterlets.values():
        assert values.sum() == pytest.approx(1.0)
    shared = [scores.filterlets[n][5].sum() for n in ("b_short", "b2", "c2")]
    group = next(g for g in channel_groups(network) if "b2" in g.producers)
    assert scores.channels[group.name][5] == pytest.approx(np.mean(shared))


def test_bn_scale_by_hand():
    network = vgg()
    scores = bn_scale(network)
    gamma = np.abs(network.params["conv2_bn.scale"].astype(np.float64))
    np.testing.assert_allclose(scores.channels["conv2"], gamma / gamma.sum())
    assert np.ptp(scores.channels["hidden"]) == 0  # no batch normalization there
    variance = network.params["conv2_bn.variance"].astype(np.float64)
    scale = (gamma / np.sqrt(variance + 1e-5))[:, None, None]
    squares = np.square(network.params["conv2.weight"]).sum(axis=-1) * scale**2
    np.testing.assert_allclose(scores.filterlets["conv2"], squares / squares.sum(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 6, 20), (2, 9, 4), (2, 5, 1)])
def test_channel_independence_is_the_nuclear_norm_lost(shape):
    maps = np.random.default_rng(1).normal(size=shape)
    maps[:, 1] = 2 * maps[:, 0]  # dependent channels
    found = independence(torch.from_numpy(maps))
    for image, values in zip(maps, found.numpy(), strict=True):
        whole = np.linalg.svd(image, compute_uv=False).sum()
        for channel in range(len(image)):
            zeroed = image.copy()
            zeroed[channel] = 0
            lost = whole - np.linalg.svd(zeroed, compute_uv=False).sum()
            assert values[channel] == pytest.approx(lost, abs=1e-6)


def test_chip_averages_over_the_images_and_the_tensors_that_leave_a_group():
    network = squeeze()
    batches = list(_batches(network, 2, 3))
    scores = chip(network, batches)
    maps: list[np.ndarray] = []
    executor = Executor(network).eval()
    for images, _ in batches:
        executor(images, watch=lambda n, v: maps.append(v.flatten(2)) if n == "stem_bn_relu" else 0)
    expected = independence(torch.cat(maps).detach()).mean(0).numpy()
    np.testing.assert_allclose(scores.channels["stem"], expected, rtol=1e-6)
    assert scores.images == 6
    filters = scores.filterlets["stem"].sum((1, 2))
    np.testing.assert_allclose(filters, scores.channels["stem"], rtol=1e-6)


def test_channel_terms_are_the_derivative_by_finite_differences():
    network = residual()
    (batch,) = _batches(network, 1, 8)
    (terms,) = first_order_terms(network, [batch])
    for group, values in terms.channels.items():
        ones = {group: torch.ones(len(values), dtype=torch.float64)}
        for channel in (0, len(values) - 1):
            sides = []
            for step in (1e-6, -1e-6):
                gate = ones[group].clone()
                gate[channel] += step
                sides.append(_loss(network, batch, {group: gate}))
            slope = (sides[0] - sides[1]) / 2e-6
            assert values[channel] == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_the_authors_taylor_sums_absolute_values_of_the_mean_gradient():
    network = vgg()
    batches = list(_batches(network, 3, 4))
    scores = taylor_weights(network, batches)
    executor = Executor(network).eval()
    for images, labels in batches:  # torch adds the gradients up
        F.cross_entropy(executor(images), labels).backward()
    weight = executor.weight("conv2")
    products = (weight * weight.grad / 3).abs().detach().numpy()
    np.testing.assert_allclose(scores.filterlets["conv2"], products.sum(1), rtol=1e-4)
    np.testing.assert_allclose(scores.channels["conv2"], products.sum((1, 2, 3)), rtol=1e-4)


def test_random_scores_follow_the_first_batch():
    network = vgg()
    one, other = (random(network, _batches(network, 2, 8, seed)) for seed in (0, 1))
    assert not np.array_equal(one.channels["conv2"], other.channels["conv2"])
