"""Masked must equal physically removed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dtmm.errors import DtmmError
from dtmm.network.groups import channel_groups, whole_masks
from dtmm.network.ir import Network
from dtmm.planning.nouns import Selection
from dtmm.pruning.counts import kept_counts
from dtmm.pruning.removal import remove
from dtmm.training.executor import Executor
from tests.training.networks import residual, squeeze, vgg


def random_selection(network: Network, keep: float, seed: int) -> Selection:
    rng = np.random.default_rng(seed)
    channels = {}
    groups = channel_groups(network)
    for group in groups:
        mask = rng.random(group.channels) < (keep if group.prunable else 2.0)
        mask[rng.integers(group.channels)] = True
        channels[group.name] = mask
    filterlets = {
        op.name: rng.random((*network.params[op.weight].shape[:3], 1)) < keep
        for op in network.convs()
    }
    return Selection(whole_masks(groups, channels), filterlets)


def masked_logits(network: Network, selection: Selection, x: torch.Tensor) -> np.ndarray:
    """The whole network with filterlets zeroed by hand and removed channels gated to zero."""
    params = dict(network.params)
    for op in network.convs():
        params[op.weight] = params[op.weight] * selection.filterlets[op.name]
    gates = {k: torch.from_numpy(m.astype(np.float32)) for k, m in selection.channels.items()}
    executor = Executor(dataclasses.replace(network, params=params)).eval()
    with torch.no_grad():
        return executor(x, gates).numpy()


@settings(max_examples=25, deadline=None)
@given(
    build=st.sampled_from([residual, vgg, squeeze]),
    keep=st.sampled_from([0.3, 0.6, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_masked_equals_removed(build, keep, seed):
    network = build(seed=seed % 7, c_in=2)
    selection = random_selection(network, keep, seed)
    small = remove(network, selection)
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, 2, 8, 8)).astype(np.float32))
    with torch.no_grad():
        removed = Executor(small).eval()(x).numpy()
    np.testing.assert_allclose(removed, masked_logits(network, selection, x), atol=1e-5)
    for group in channel_groups(small):
        assert group.channels == selection.channels[group.name].sum()
    for op in small.convs():
        weight = small.params[op.weight]
        assert weight.shape == (
            small.tensors[op.output][-1],
            *network.params[op.weight].shape[1:3],
            small.tensors[op.input][-1],
        )


def test_keeping_everything_changes_nothing():
    network = residual()
    same = remove(network, random_selection(network, 2.0, 0))
    assert same.tensors == network.tensors and same.ops == network.ops
    for key, values in network.params.items():
        np.testing.assert_array_equal(same.params[key], values)
    empty = remove(network, Selection({}, {}))
    assert empty.tensors == network.tensors


def test_pruned_filterlets_are_exactly_zero_and_counted():
    network = residual()
    selection = random_selection(network, 0.4, 1)
    whole = {name: np.ones_like(mask) for name, mask in selection.channels.items()}
    selection.filterlets["a1"][2] = False
    after = remove(network, Selection(whole, selection.filterlets))
    for op, counts in zip(network.convs(), kept_counts(network, after), strict=True):
        mask = selection.filterlets[op.name][..., 0]
        np.testing.assert_array_equal(after.params[op.weight].any(3), mask)
        assert counts.name == op.name
        assert counts.filterlets == mask.sum() and counts.original_filterlets == mask.size
        assert counts.weights == mask.sum() * network.tensors[op.input][-1]
        assert counts.dead_filters == (~mask.any((1, 2))).sum()
    assert {c.name: c for c in kept_counts(network, after)}["a1"].dead_filters >= 1


def test_counts_see_removed_channels():
    network = vgg()
    mask = np.array([True, False] * 4)
    after = remove(network, Selection({"conv1": mask}, {}))
    first, second = kept_counts(network, after)
    assert (first.channels, first.original_channels) == (4, 8)
    assert (second.input_channels, second.original_input_channels) == (4, 8)
    assert second.weights == 4 * 9 * 12 and second.original_weights == 8 * 9 * 12
    assert first.filterlets == 36 and first.original_filterlets == 72
    with pytest.raises(DtmmError, match="'vgg' and 'residual' differ"):
        kept_counts(network, residual())


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection({"nobody": np.ones(3, bool)}, {}), "'nobody'"),
        (Selection({"conv1": np.ones(3, bool)}, {}), r"'conv1' has shape \(3,\), expected \(8,\)"),
        (Selection({"conv1": np.zeros(8, bool)}, {}), "'conv1' keeps 0 channels"),
        (Selection({"classifier": np.arange(10) > 0}, {}), "'classifier' removes 1 channels"),
        (Selection({}, {"hidden": np.ones((1, 1, 1, 1), bool)}), "convolution 'hidden'"),
        (Selection({}, {"conv2": np.ones((12, 3, 3), bool)}), r"expected \(12, 3, 3, 1\)"),
    ],
)
def test_bad_selections_are_one_line_errors(selection, message):
    with pytest.raises(DtmmError, match=message) as error:
        remove(vgg(), selection)
    assert "\n" not in str(error.value)
