"""Whole networks: one small one on the device, and the pruned variants' counts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import networks, zoo
from benchmarks.zoo import DENSE, FILTERLETS, PRUNED, Entry
from dtmm.models import MODELS
from dtmm.network.groups import channel_groups

SMALL = Entry("small", "tiny_resnet", (8, 8, 1), 10, (DENSE, PRUNED))


def torch_macs(entry: Entry) -> int:
    """Counted by torch's own hooks, on the module."""
    height, width, channels = entry.input
    module = MODELS[entry.model](channels, entry.classes)
    total = 0

    def count(layer: Any, _: Any, out: torch.Tensor) -> None:
        nonlocal total
        total += layer.weight.numel() * int(np.prod(out.shape[2:]))

    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    module(torch.zeros(2, channels, height, width))
    return total


def test_a_small_network_on_the_device(toolchain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "ZOO", (SMALL,))
    done = CliRunner().invoke(networks.main, ["--only", "small/dense", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    *steps, total = found["rows"]
    assert total["step"] == "total"
    assert total["macs"] == sum(step["macs"] for step in steps) == torch_macs(SMALL)
    # the profiled build has a marker around every step, so it does not cost exactly the same
    assert sum(step["cycles"] for step in steps) == pytest.approx(total["cycles"], rel=0.05)
    assert total["flash_weights"] > 0
    assert {"compiler", "qemu", "cycle_model", "seed"} <= found["provenance"].keys()


def test_unknown_networks_are_named() -> None:
    done = CliRunner().invoke(networks.main, ["--only", "alexnet"])
    assert done.exit_code != 0
    assert "unknown network 'alexnet': expected one of resnet12/dense" in done.output


@pytest.mark.parametrize("name", ["resnet12", "vgg11"])
def test_pruned_variants_lose_what_they_say(name: str) -> None:
    (entry,) = (each for each in zoo.ZOO if each.name == name)
    network = zoo.float_network(entry, 3)
    groups = {t: g for g in channel_groups(network) for t in g.tensors}
    for variant in (PRUNED, FILTERLETS):
        chosen = zoo.selection(network, variant == PRUNED, 3)
        for conv in network.convs():
            outputs, height, width, _ = network.params[conv.weight].shape
            group = groups[conv.output]
            half = -(-outputs // 32) * 16
            assert chosen.channels[group.name].sum() == (half if variant == PRUNED else outputs)
            if conv.name in chosen.filterlets and height * width > 1:
                kept = chosen.filterlets[conv.name]
                assert kept.sum() == round(0.2 * outputs * height * width)
                alive = kept.any(axis=(1, 2, 3))
                assert np.array_equal(alive, chosen.channels[group.name])


def test_the_same_seed_gives_the_same_network() -> None:
    one, two, other = (zoo.float_network(SMALL, seed) for seed in (1, 1, 2))
    for key, value in one.params.items():
        assert np.array_equal(value, two.params[key])
    assert not np.array_equal(one.params["stem.conv.weight"], other.params["stem.conv.weight"])
