"""A network in the order its FWCS layers want computes what it computed before."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dtmm.deploy import HostModel, plan
from dtmm.deploy.channel_order import order_channels
from dtmm.network.ir import Network
from dtmm.planning import layout
from dtmm.quantization import run
from dtmm.storage.pairing import shared_filterlets
from tests.quantization.oracles import calibrated, random_network
from tests.training.networks import Builder


def pruned(network: Network, seed: int) -> Network:
    """Half of all filterlets zero."""
    rng, params = np.random.default_rng(seed), dict(network.params)
    for op in network.convs():
        params[op.weight] = params[op.weight].copy()
        params[op.weight][rng.random(params[op.weight].shape[:3]) < 0.5] = 0
    return dataclasses.replace(network, params=params)


def residual(seed: int) -> Network:
    """A residual block, a flattened group and a border group."""
    b = Builder(seed, (1, 8, 6, 3))
    stem = b.conv("stem", "x", 11, bias=True)
    total = b.add(
        "total", b.conv("second", b.conv("first", stem, 22, bias=True), 11, bias=True), stem
    )
    return b.build("residual", b.fc("fc", b.flatten(b.pool("pool", total)), 5))


@pytest.mark.parametrize("seed", range(12))
def test_every_tensor_is_the_same_but_for_its_order(seed: int) -> None:
    network = pruned(residual(seed) if seed % 3 == 0 else random_network(seed), seed)
    quantized, images = calibrated(network, seed)
    ordered, orders = order_channels(quantized, [op.name for op in network.convs()])
    expected, found = run(quantized, images, keep_all=True), run(ordered, images, keep_all=True)
    for name, values in expected.items():
        in_order = values[..., orders[name]] if name in orders else values
        assert np.array_equal(found[name], in_order), name
    assert not {*network.inputs, *network.outputs} & orders.keys()


def test_pairs_share_more() -> None:
    quantized, _ = calibrated(pruned(residual(3), 3), 3)
    ordered, orders = order_channels(quantized, ["first"])
    assert {"first"} == orders.keys()
    before, after = (
        shared_filterlets(q.params["first.weight"].any(axis=3).reshape(22, 9), np.arange(22))
        for q in (quantized, ordered)
    )
    assert after > before


def test_a_deployment_is_in_order_and_its_output_is_not() -> None:
    network = pruned(residual(6), 6)
    quantized, images = calibrated(network, 6)
    deployment = plan(quantized, layout(network))
    assert deployment.channel_order
    assert np.array_equal(HostModel(deployment).run(images), run(quantized, images))
