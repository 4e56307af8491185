"""What lossless packing removes, no output byte notices; what must stay does."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dtmm.network.groups import channel_groups
from dtmm.network.ir import Conv2D, FullyConnected
from dtmm.pruning.lossless import pack
from dtmm.quantization import QuantizedNetwork, run
from dtmm.quantization.dequantize import dequantize
from tests.quantization.graphs import random_graph
from tests.quantization.oracles import calibrated
from tests.training.networks import Builder


def widths(network: QuantizedNetwork) -> dict[str, int]:
    return {g.name: g.channels for g in channel_groups(dequantize(network))}


def with_dead_filters(network: QuantizedNetwork, rng: np.random.Generator) -> QuantizedNetwork:
    params = dict(network.params)
    for op in network.ops:
        if isinstance(op, Conv2D | FullyConnected):
            weights = params[op.weight].copy()
            weights[rng.random(len(weights)) < 0.4] = 0
            weights[..., rng.random(weights.shape[-1]) < 0.2] = 0
            params[op.weight] = weights
    return dataclasses.replace(network, params=params)


def check_same_outputs(seed: int) -> int:
    network, images = calibrated(random_graph(seed), seed)
    network = with_dead_filters(network, np.random.default_rng(seed))
    small = pack(network)
    assert np.array_equal(run(small, images), run(network, images)), seed
    return sum(widths(network).values()) - sum(widths(small).values())


def test_no_output_byte_changes() -> None:
    assert sum(check_same_outputs(seed) > 0 for seed in range(40)) > 15


@pytest.mark.full
def test_no_output_byte_changes_in_many_more() -> None:
    for seed in range(40, 1000):
        check_same_outputs(seed)


def chain(padding: tuple[int, int, int, int]) -> QuantizedNetwork:
    """Two convolutions; of the first, filter 1 is dead with a bias and filter 3 without."""
    b = Builder(0, (1, 6, 6, 2))
    first = b.conv("first", "x", 5, bias=True)
    second = b.conv("second", first, 4, padding=padding, bias=True)
    network = b.build("chain", b.fc("classifier", b.mean(second), 3))
    network.params["first.weight"][[1, 3]] = 0
    network.params["first.bias"][[1, 3]] = (0.7, 0.0)
    return calibrated(network, 0)[0]


def test_a_padded_reader_only_takes_zeros() -> None:
    assert widths(pack(chain((1, 1, 1, 1))))["first"] == 4


def test_an_unpadded_reader_takes_any_constant() -> None:
    assert widths(pack(chain((0, 0, 0, 0))))["first"] == 3


def test_channels_that_nobody_reads_go() -> None:
    network = chain((1, 1, 1, 1))
    params = dict(network.params)
    params["second.weight"] = params["second.weight"].copy()
    params["second.weight"][..., 0] = 0
    network = dataclasses.replace(network, params=params)
    assert widths(pack(network))["first"] == 3


def test_one_channel_stays() -> None:
    network = chain((0, 0, 0, 0))
    params = dict(network.params)
    params["first.weight"] = np.zeros_like(params["first.weight"])
    network = dataclasses.replace(network, params=params)
    small = pack(network)
    assert widths(small)["first"] == 1
    images = np.random.default_rng(0).integers(-128, 128, (3, 6, 6, 2)).astype(np.int8)
    assert np.array_equal(run(small, images), run(network, images))


def test_a_network_without_dead_channels_stays_as_it_is() -> None:
    network, _ = calibrated(random_graph(3), 3)
    small = pack(pack(network))
    assert pack(small) is small
