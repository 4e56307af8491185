"""Pruned weights stay exactly zero, whatever the optimizer and the kind of layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from dtmm.errors import DtmmError
from dtmm.network.ir import Network, Weighted
from dtmm.training.executor import Executor
from dtmm.training.masks import Masks, element_masks, filterlet_masks
from tests.training.networks import Builder, vgg

Optimizers = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Optimizers] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, weight_decay=0.01),
}


def mixed() -> Network:
    """A 3x3, a grouped, a depthwise and a 1x1 convolution, then a fully connected layer."""
    b = Builder(0, (1, 8, 8, 3))
    x = b.unit("full", "x", 8)
    x = b.relu(b.grouped("grouped", x, 8, groups=4))
    x = b.relu(b.depthwise("depthwise", x, stride=2))
    x = b.relu(b.conv("pointwise", x, 12, 1))
    return b.build("mixed", b.fc("classifier", b.flatten(x), 10))


def random_masks(network: Network, seed: int = 0) -> dict[str, npt.NDArray[np.bool_]]:
    """Half of the weights of every layer, each by itself."""
    rng = np.random.default_rng(seed)
    layers = [op for op in network.ops if isinstance(op, Weighted)]
    return {op.name: rng.random(network.params[op.weight].shape) < 0.5 for op in layers}


def zeroed(network: Network, masks: Masks) -> Network:
    params = dict(network.params)
    for op in network.ops:
        if isinstance(op, Weighted) and op.name in masks:
            params[op.weight] = np.where(masks[op.name], params[op.weight], np.float32(0))
    return dataclasses.replace(network, params=params)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("hold", [True, False], ids=["held", "by themselves"])
def test_pruned_weights_are_zero_after_every_step(name: str, hold: bool) -> None:
    dense = mixed()
    masks = random_masks(dense)
    executor = Executor(zeroed(dense, masks), masks).train()
    optimizer = OPTIMIZERS[name](executor.parameters())
    rng = np.random.default_rng(1)
    for _ in range(4):
        images = torch.from_numpy(rng.normal(size=(16, 3, 8, 8)).astype(np.float32))
        optimizer.zero_grad()
        F.cross_entropy(executor(images), torch.arange(16) % 10).backward()
        optimizer.step()
        if hold:
            executor.apply_masks()
        for layer, mask in masks.items():
            weight = executor.weight(layer).detach().numpy()
            weight = weight.transpose(0, 2, 3, 1) if weight.ndim == 4 else weight
            np.testing.assert_array_equal(weight != 0, mask, err_msg=layer)


def test_an_optimizer_that_ignores_gradients_is_undone() -> None:
    network = mixed()
    masks = random_masks(network)
    executor = Executor(network, masks)
    with torch.no_grad():
        for parameter in executor.parameters():
            parameter.add_(1.0)
    after = executor.to_network()
    for op in network.ops:
        if isinstance(op, Weighted):
            np.testing.assert_array_equal(after.params[op.weight] != 0, masks[op.name])


def test_masks_are_read_off_exact_zeros() -> None:
    dense = mixed()
    masks = random_masks(dense)
    found = element_masks(zeroed(dense, masks))
    assert found.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask)
    assert element_masks(dense) == {} == filterlet_masks(dense)


def test_a_filterlet_is_pruned_only_as_a_whole() -> None:
    network = vgg()
    conv = network.convs()[1]
    weight = network.params[conv.weight].copy()
    weight[2, 0, 1] = 0
    weight[3, 1, 1, 0] = 0
    pruned = dataclasses.replace(network, params={**network.params, conv.weight: weight})
    (mask,) = filterlet_masks(pruned).values()
    assert np.argwhere(~mask).tolist() == [[2, 0, 1, 0]]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"conv9": np.ones((4, 3, 3, 1), bool)}, "mask names layer 'conv9', expected one of"),
        ({"full": np.ones((8, 3, 1), bool)}, r"'full' is bool of shape \(8, 3, 1\), expected bool"),
        ({"full": np.ones((8, 3, 3, 2), bool)}, r"of shape \(8, 3, 3, 3\) or with 1"),
        ({"full": np.ones((8, 3, 3, 3))}, "'full' is float64"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks: Masks, message: str) -> None:
    with pytest.raises(DtmmError, match=message):
        Executor(mixed(), masks)
