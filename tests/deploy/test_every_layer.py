"""TFLM, the integer reference, the host C library and the simulated M55: the same bytes of every
layer, on graphs that nobody chose. On networks: test_every_layer_networks.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.deploy.every_layer import compare_everywhere, pruned
from tests.quantization.graphs import random_graph
from tests.quantization.oracles import calibrated

pytest.importorskip("tflite_micro")
pytestmark = [pytest.mark.usefixtures("toolchain")]

Record = Callable[[str, object], None]

GRAPHS = 300
BLOCK = 25


def check_graphs(seeds: range, record: Record) -> None:
    """A third as they are, a third without half and without 90 % of their filterlets."""
    for seed in seeds:
        network, images = calibrated(random_graph(seed), seed)
        network = replace(network, name=f"graph {seed}")
        if seed % 3:
            network = pruned(network, (0.0, 0.5, 0.9)[seed % 3], seed)
        found = compare_everywhere(network, images[:1])
        record("every layer: random graphs", found.to_dict())


@pytest.mark.parametrize("seed", range(3))
def test_random_graphs(seed: int, record_property: Record) -> None:
    check_graphs(range(seed, seed + 1), record_property)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(3, GRAPHS, BLOCK))
def test_many_more_random_graphs(first: int, record_property: Record) -> None:
    check_graphs(range(first, min(first + BLOCK, GRAPHS)), record_property)
