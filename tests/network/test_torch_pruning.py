"""Channel groups against Torch-Pruning's dependency graph (an oracle; DESIGN: not on shuffles)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import nn

from dtmm.models import MODELS
from dtmm.network.groups import ChannelGroup, channel_groups
from dtmm.network.ir import Conv2D, FullyConnected
from dtmm.network.torch_reader import from_torch

tp = pytest.importorskip("torch_pruning", reason="torch-pruning is not installed")

QUICK = ("tiny_resnet", "vgg11", "squeezenet", "ds_cnn")
SIZES = {"ds_cnn": (49, 10), "mobilenet_v1_025": (96, 96)}


def _closure(group: ChannelGroup, groups: Iterable[ChannelGroup]) -> tuple[set[str], set[str]]:
    """Layers that make and that read a group's channels, through concatenations too."""
    consumers = set(group.consumers)
    names = {group.name}
    for other in groups:  # a concatenation comes after its segments
        if names & set(other.segments):
            names.add(other.name)
            consumers |= set(other.consumers)
    return set(group.producers), consumers


def _theirs(graph, modules: dict[str, nn.Module], root: str) -> tuple[set[str], set[str]]:
    """The same of the group that pruning the outputs of layer `root` pulls along."""
    name_of = {module: name for name, module in modules.items()}
    producers, consumers = set(), set()
    for dependency, _ in graph.get_pruning_group(
        modules[root], tp.prune_conv_out_channels
        if isinstance(modules[root], nn.Conv2d) else tp.prune_linear_out_channels, [0],
    ):  # fmt: skip
        module = dependency.target.module
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        if depthwise:  # to us an elementwise operator
            continue
        side = producers if graph.is_out_channel_pruning_fn(dependency.handler) else consumers
        side.add(name_of[module])
    return producers, consumers


@pytest.mark.parametrize("name", MODELS)
def test_groups_agree(name: str, full: bool) -> None:
    if not (full or name in QUICK):
        pytest.skip("needs --full")
    torch.manual_seed(0)
    module = MODELS[name](3 if name != "ds_cnn" else 1, 10).eval()
    channels = 1 if name == "ds_cnn" else 3
    image = torch.randn(1, channels, *SIZES.get(name, (32, 32)))
    network = from_torch(module, image, name)
    groups = channel_groups(network)
    graph = tp.DependencyGraph().build_dependency(module, example_inputs=image)
    modules = dict(module.named_modules())
    layers = [op.name for op in network.ops if isinstance(op, Conv2D | FullyConnected)]
    compared = 0
    for group in groups:
        if not group.prunable or group.segments:
            continue
        for producer in group.producers:
            assert producer in layers
            assert _theirs(graph, modules, producer) == _closure(group, groups), producer
            compared += 1
    # every layer but the last one makes channels that can be pruned
    assert compared == len(layers) - 1
