"""Pruning modes with a rule of their own, against brute force and their papers' definitions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

from dtmm.config import PruneConfig
from dtmm.config_values import Count
from dtmm.data import Dataset, load_dataset
from dtmm.errors import ConfigError, DtmmError, InfeasibleError
from dtmm.models import build_model
from dtmm.models.resnet import ResNet
from dtmm.models.squeezenet import SqueezeNet
from dtmm.models.vgg import VGG
from dtmm.network.groups import channel_groups
from dtmm.network.ir import Network
from dtmm.pipeline.source import capture
from dtmm.planning.nouns import Selection
from dtmm.pruning.modes import OWN_RULE, own_rule
from dtmm.pruning.modes.base import Pruned, largest_within, prunable, stored_bytes, with_masks
from dtmm.pruning.modes.chip import published_rates, whole_vectors
from dtmm.pruning.modes.filterlets import learn_skeletons
from dtmm.pruning.modes.patdnn import admm, natural_patterns, project
from dtmm.pruning.modes.unstructured import lamp
from dtmm.pruning.removal import remove

SHORT = PruneConfig(epochs=Count(2), images_per_epoch=Count(64), batch=Count(32))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def network(digits: Dataset) -> Iterator[Network]:
    torch.manual_seed(0)
    module = ResNet(1, 10, widths=(32, 48)).eval()
    return capture(module, digits, "small")


def make(module: torch.nn.Module, size: int = 32) -> Network:
    from dtmm.network.torch_reader import from_torch

    return from_torch(module.eval(), torch.zeros(1, 1, size, size), "network")


@pytest.mark.parametrize("name", OWN_RULE)
def test_every_mode_meets_its_budget(name: str, network: Network, digits: Dataset) -> None:
    before = {key: value.copy() for key, value in network.params.items()}
    budget = round(0.4 * stored_bytes(Pruned(network)))
    pruned = OWN_RULE[name](network, digits, budget, SHORT)
    assert 0.7 * budget < stored_bytes(pruned) <= budget
    assert all(np.array_equal(network.params[key], value) for key, value in before.items())
    for op in pruned.network.convs():
        if op.name in pruned.masks:
            weights = pruned.network.params[op.weight]
            assert not weights[~pruned.masks[op.name]].any()
    assert set(pruned.masks) == set(pruned.kernels)


@pytest.mark.parametrize("name", OWN_RULE)
def test_a_budget_out_of_reach_is_refused(name: str, network: Network, digits: Dataset) -> None:
    with pytest.raises(InfeasibleError, match=r"at most 500 B: raise budget\.flash"):
        OWN_RULE[name](network, digits, 500, SHORT)


def test_a_budget_that_holds_all_prunes_nothing(network: Network, digits: Dataset) -> None:
    whole = stored_bytes(Pruned(network))
    pruned = own_rule("unstructured")(network, digits, whole, SHORT)
    assert not pruned.masks
    assert stored_bytes(pruned) == whole


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(ConfigError, match="'magic' has no rule of its own: chip, filterlets"):
        own_rule("magic")


def test_the_largest_that_fits_is_found(network: Network) -> None:
    """Against a plain scan over shares."""
    (first, *_) = prunable(network)

    def make_share(share: float) -> Pruned:
        weights = network.params[first.weight]
        mask = np.ones((*weights.shape[:3], 1), np.bool_)
        mask.reshape(-1)[round(share * mask.size) :] = False
        return Pruned(with_masks(network, {first.name: mask}))

    sizes = [stored_bytes(make_share(n / 200)) for n in range(201)]
    budget = (sizes[0] + sizes[-1]) // 2
    expected = max(size for size in sizes if size <= budget)
    assert stored_bytes(largest_within(budget, make_share)) == expected


def test_lamp_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((3, 2, 2, 2)).astype(np.float32)
    flat = weights.ravel().astype(np.float64) ** 2
    expected = [value / flat[flat >= value].sum() for value in flat]
    assert np.allclose(lamp(weights).ravel(), expected)


def test_natural_patterns_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((5, 3, 3, 4)).astype(np.float32)
    times: dict[tuple[int, ...], int] = {}
    for kernel in weights.transpose(0, 3, 1, 2).reshape(-1, 9):
        others = sorted((n for n in range(9) if n != 4), key=lambda n: -abs(kernel[n]))[:3]
        pattern = tuple(sorted([4, *others]))
        times[pattern] = times.get(pattern, 0) + 1
    found = natural_patterns([weights], 3)
    assert found.sum(axis=1).tolist() == [4, 4, 4]
    counts = [times[tuple(np.flatnonzero(pattern).tolist())] for pattern in found]
    assert counts == sorted(times.values(), reverse=True)[:3]


def test_the_projection_is_the_nearest_network() -> None:
    """Over all choices of kernels and patterns of a small layer."""
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((2, 3, 3, 2)).astype(np.float32)
    patterns = natural_patterns([weights], 3)
    mask = project(weights, patterns, share=0.5)
    assert mask.any(axis=(1, 2)).sum() == 2
    kernels = weights.transpose(0, 3, 1, 2).reshape(4, 9).astype(np.float64)
    best = min(
        sum(
            np.square(kernels[n] * (1 - patterns[p]) if n in alive else kernels[n]).sum()
            for n, p in enumerate(choice)
        )
        for alive in itertools.combinations(range(4), 2)
        for choice in itertools.product(range(3), repeat=4)
    )
    assert np.square(weights * ~mask, dtype=np.float64).sum() == pytest.approx(best)


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.1), ("adamw", 0.01)])
def test_admm_moves_weights_to_their_patterns(
    network: Network, digits: Dataset, optimizer: str, lr: float
) -> None:
    """What the projection takes away is a smaller part of the weights after training."""
    layers = prunable(network)
    patterns = natural_patterns([network.params[op.weight] for op in layers], 4)
    long = replace(SHORT, epochs=Count(3), images_per_epoch=Count(256), optimizer=optimizer, lr=lr)
    trained = admm(network, digits, layers, patterns, 0.5, long)
    for op in layers:
        lost = []
        for each in (network, trained):
            weights = each.params[op.weight]
            removed = weights * ~project(weights, patterns, 0.5)
            lost.append(np.square(removed).sum() / np.square(weights).sum())
        assert lost[1] < 0.8 * lost[0]


def test_an_unknown_optimizer_is_refused(network: Network, digits: Dataset) -> None:
    with pytest.raises(ConfigError, match="unknown optimizer 'newton'"):
        learn_skeletons(network, digits, replace(SHORT, optimizer="newton"))


def test_skeletons_multiply_into_the_weights(network: Network, digits: Dataset) -> None:
    trained, factors = learn_skeletons(network, digits, SHORT)
    assert set(factors) == {op.name for op in prunable(network)}
    for op in prunable(network):
        assert factors[op.name].shape == (*network.params[op.weight].shape[:3], 1)
        assert factors[op.name].mean() < 1.01
    assert [*trained.params] == [*network.params]
    assert trained.tensors == network.tensors


def test_chip_asserts_that_removed_is_masked(
    digits: Dataset, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(network: Network, selection: Selection) -> Network:
        small = remove(network, selection)
        key = small.convs()[0].weight
        return replace(small, params={**small.params, key: small.params[key] + 1})

    monkeypatch.setattr(import_module("dtmm.pruning.modes.chip"), "remove", spoiled)
    with pytest.raises(DtmmError, match="masked and removed networks must agree"):
        OWN_RULE["chip"](network, digits, stored_bytes(Pruned(network)) // 2, SHORT)


def test_chip_ratios_of_a_residual_network(digits: Dataset) -> None:
    network = capture(build_model("resnet12", digits), digits, "resnet12")
    groups = {group.name: group for group in channel_groups(network)}
    rates = published_rates(network, groups)
    within = [rates[f"stages.{n}.first.conv"] for n in range(4)]
    assert within == pytest.approx([0.5, 0.5667, 0.6333, 0.7], abs=1e-4)
    outputs = [name for name in rates if "first" not in name]
    assert [rates[name] for name in outputs] == [0.4, 0.4, 0.4]
    assert not any("stages.3.second.conv" in groups[name].producers for name in rates)


def test_chip_ratios_of_a_plain_network() -> None:
    network = make(VGG(1, 10))
    rates = published_rates(network, {group.name: group for group in channel_groups(network)})
    assert [*rates.values()] == [0.21] * 7 + [0.75] * 2


def test_chip_has_no_ratios_for_concatenations() -> None:
    network = make(SqueezeNet(1, 10))
    with pytest.raises(ConfigError, match="no published ratios for networks like 'network'"):
        published_rates(network, {group.name: group for group in channel_groups(network)})


def test_counts_fill_vectors() -> None:
    assert [whole_vectors(n, 256) for n in (1, 19, 21, 70, 250, 300)] == [8, 16, 24, 64, 256, 256]


def test_patdnn_needs_3x3_convolutions(digits: Dataset) -> None:
    network = make(torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Conv2d(8, 8, 1)))
    with pytest.raises(ConfigError, match="patdnn prunes 3x3 convolutions, network 'network'"):
        own_rule("patdnn")(network, digits, 100, SHORT)
