"""A restored network computes what the removed one does."""

from __future__ import annotations

import numpy as np
import pytest

from dtmm.errors import DtmmError
from dtmm.network.groups import channel_groups
from dtmm.planning.nouns import Selection
from dtmm.pruning.removal import remove
from dtmm.pruning.restoration import restore
from dtmm.training.executor import run_float
from tests.training.networks import residual, vgg


def selection_of(network, seed: int) -> Selection:
    rng = np.random.default_rng(seed)
    channels = {
        group.name: rng.permutation(group.channels) >= group.channels // 2
        for group in channel_groups(network)
        if group.prunable and not group.segments
    }
    filterlets = {
        op.name: rng.random((*network.params[op.weight].shape[:3], 1)) < 0.7
        for op in network.convs()
    }
    return Selection(channels, filterlets)


@pytest.mark.parametrize("build", [residual, vgg])
def test_it_computes_the_same_in_the_original_shapes(build) -> None:
    network = build(seed=2)
    selection = selection_of(network, 3)
    small = remove(network, selection)
    whole = restore(small, network, selection)
    assert whole.ops == network.ops and whole.tensors == network.tensors
    for key, values in network.params.items():
        assert whole.params[key].shape == values.shape
    assert sum(v.size for v in small.params.values()) < sum(v.size for v in whole.params.values())
    shape = (8, *network.tensors[network.inputs[0]][1:])
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(run_float(whole, images), run_float(small, images), atol=1e-5)
    again = remove(whole, selection)
    for key, values in small.params.items():
        np.testing.assert_array_equal(again.params[key], values)


def test_another_selection_is_refused() -> None:
    network = residual()
    small = remove(network, selection_of(network, 0))
    with pytest.raises(DtmmError, match=r"has shape .*, the selection keeps"):
        restore(small, network, Selection({}, {}))
