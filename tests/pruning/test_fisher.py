"""Diagonal Fisher importance against per-image products and against the per-unit estimate."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from dtmm.network.ir import Network
from dtmm.pruning.fisher import fisher
from dtmm.pruning.taylor_squared import taylor_squared
from dtmm.training.executor import Executor
from tests.training.networks import Builder, residual


def _batches(network: Network, count: int, size: int, seed: int = 0):
    _, h, w, c = network.tensors["x"]
    rng = np.random.default_rng(seed)
    for _ in range(count):
        x = torch.from_numpy(rng.normal(size=(size, c, h, w)).astype(np.float32))
        yield x, torch.from_numpy(rng.integers(0, 10, size))


def test_against_per_image_products() -> None:
    network = residual()
    images = list(_batches(network, 60, 1))
    found = fisher(network, images)
    name = network.convs()[1].name
    products = []
    for x, y in images:
        executor = Executor(network).eval().double()
        weight = executor.weight(name)
        F.cross_entropy(executor(x.double()), y).backward()
        products.append((weight * weight.grad).detach().numpy())
    squares = np.mean(np.square(products), axis=0).sum(axis=1)  # [C_out, kh, kw]
    unbiased = 0.5 * (squares + np.var(products, axis=0, ddof=1).sum(axis=1) / len(images))
    np.testing.assert_allclose(found.filterlets[name], unbiased, rtol=1e-3, atol=1e-12)
    assert (found.images, found.criterion) == (60, "fisher")


def test_units_of_one_weight_are_those_of_the_estimate_per_unit() -> None:
    b = Builder(3, (1, 6, 6, 1))
    network = b.build("one", b.fc("classifier", b.mean(b.conv("conv", "x", 5)), 10))
    batches = list(_batches(network, 6, 4))
    each, whole = fisher(network, batches), taylor_squared(network, batches)
    np.testing.assert_allclose(each.filterlets["conv"], whole.filterlets["conv"], rtol=1e-4)
    np.testing.assert_allclose(each.channels["conv"], whole.channels["conv"], rtol=1e-6)


def test_squares_of_parts_bound_the_square_of_the_whole() -> None:
    """Cauchy-Schwarz: (sum of n terms)^2 <= n * sum of squares, per image and so in the mean."""
    network = residual()
    batches = list(_batches(network, 30, 1))
    each, whole = fisher(network, batches), taylor_squared(network, batches)
    for conv in network.convs():
        inputs = network.params[conv.weight].shape[-1]
        ratio = whole.filterlets[conv.name] / (inputs * each.filterlets[conv.name] + 1e-30)
        assert (ratio <= 1 + 1e-4).all()
    for name, scores in each.channels.items():
        np.testing.assert_allclose(scores, whole.channels[name], rtol=1e-5)
