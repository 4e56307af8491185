"""The paper's and MLPerf Tiny's networks: sizes that are published, and what the reader makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dtmm.models import MODELS
from dtmm.models.vgg import VGG
from dtmm.network.torch_reader import from_torch
from dtmm.training.executor import Executor

# (model, input C, H, W, classes, weights, MACs): counted from the architectures' descriptions
VGG_STAGES = (32, 32, 32), (64, 64, 16), (128, 128, 128, 8), (256, 256, 256, 4)


def vgg_counts() -> tuple[int, int]:
    """(weights, MACs) of the authors' VGG-11, from its description."""
    weights = macs = 0
    channels = 3
    for *widths, size in VGG_STAGES:
        for width in widths:
            weights += 9 * channels * width
            macs += 9 * channels * width * size * size
            channels = width
    return weights + 1024 * 10, macs + 1024 * 10


def mobilenet_counts() -> tuple[int, int]:
    """(weights, MACs) of MobileNetV1-0.25 at 96x96, from table 1 of its paper."""
    weights, macs, channels, size = 27 * 8, 27 * 8 * 48 * 48, 8, 48
    blocks = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)]
    blocks += [(128, 1)] * 5 + [(256, 2), (256, 1)]
    for width, stride in blocks:
        size //= stride
        weights += 9 * channels + channels * width
        macs += (9 * channels + channels * width) * size * size
        channels = width
    return weights + 2 * 256, macs + 2 * 256


def squeezenet_counts() -> tuple[int, int]:
    """(weights, MACs) of SqueezeNet 1.1 on 32x32 pixels, from table 1 of its paper."""
    weights, macs, channels, size = 27 * 64, 27 * 64 * 32 * 32, 64, 32
    fires = [(16, 64)] * 2 + [(32, 128)] * 2 + [(48, 192)] * 2 + [(64, 256)] * 2
    for n, (squeezed, expanded) in enumerate(fires):
        size //= 2 if n in (0, 2, 4) else 1
        layer = channels * squeezed + 10 * squeezed * expanded
        weights, macs, channels = weights + layer, macs + layer * size * size, 2 * expanded
    return weights + 10 * channels, macs + 10 * channels


CASES = {
    "squeezenet": ((3, 32, 32), 10, *squeezenet_counts()),
    "vgg11": ((3, 32, 32), 10, *vgg_counts()),
    # published: 12.5, 2.7 and 7.5 million MACs
    "resnet8": ((3, 32, 32), 10, 77_360, 12_501_632),
    "ds_cnn": ((1, 49, 10), 12, 22_016, 2_656_768),
    "mobilenet_v1_025": ((3, 96, 96), 2, *mobilenet_counts()),
}


def layers(module: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("name", CASES)
def test_weights_and_macs(name: str) -> None:
    shape, classes, weights, macs = CASES[name]
    module = MODELS[name](shape[0], classes).eval()
    found = 0

    def count(layer: nn.Conv2d | nn.Linear, _: object, out: torch.Tensor) -> None:
        nonlocal found
        found += layer.weight.numel() * int(np.prod(out.shape[2:]))

    for layer in layers(module):
        layer.register_forward_hook(count)
    with torch.no_grad():
        assert module(torch.zeros(1, *shape)).shape == (1, classes)
    assert (sum(layer.weight.numel() for layer in layers(module)), found) == (weights, macs)


@pytest.mark.parametrize("name", CASES)
def test_the_reader_computes_what_the_module_does(name: str) -> None:
    shape, classes, *_ = CASES[name]
    torch.manual_seed(5)
    module = MODELS[name](shape[0], classes).eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.normal_(layer.running_mean)
            nn.init.normal_(layer.bias)
    images = torch.randn(2, *shape)
    network = from_torch(module, images[:1], name)
    with torch.no_grad():
        expected = module(images)
        found = Executor(network).eval()(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_vgg_of_another_image_size() -> None:
    module = VGG(1, 4, size=16, stages=((8,), (16, 16)))
    assert module(torch.zeros(2, 1, 16, 16)).shape == (2, 4)
