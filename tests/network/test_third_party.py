"""CNN definitions that nobody here wrote (pytorchcv), with random weights and unmodified."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dtmm.errors import UnsupportedError
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.network.torch_reader import from_torch
from dtmm.quantization import quantize, run
from dtmm.training.calibrate import activation_ranges
from dtmm.training.executor import Executor
from tests.quantization.oracles import tflm

provider = pytest.importorskip("pytorchcv.model_provider", reason="pytorchcv is not installed")

SIZES = {
    "resnet18": 224, "resnet20_cifar10": 32, "seresnet20_cifar10": 32,
    "resnext29_32x4d_cifar10": 32, "squeezenet_v1_1": 224, "squeezeresnet_v1_1": 224,
    "mobilenet_wd4": 224, "fdmobilenet_wd4": 224, "mobilenetv2_wd4": 224,
    "mobilenetv3_small_w7d20": 224, "mobilenetv3_large_w7d20": 224, "ghostnet": 224,
    "efficientnet_b0": 64, "mnasnet_small": 224, "hardnet39ds": 224, "darknet_tiny": 224,
    "preresnet20_cifar10": 32, "densenet40_k12_cifar10": 32,
}  # fmt: skip
"""Pixels of the input; many of these networks end with a pool of a fixed size."""

QUICK = ("resnet20_cifar10", "squeezenet_v1_1", "mobilenetv2_wd4", "ghostnet", "efficientnet_b0")
INT8 = ("resnet20_cifar10", "efficientnet_b0")
"""Those whose int8 form is compared with TFLM in the quick tests."""


def made(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A network with batch normalization that does something, and an image."""
    torch.manual_seed(1)
    module = provider.get_model(name).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, 0, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.1)
    return module, torch.randn(1, 3, SIZES[name], SIZES[name])


def check_reader(name: str) -> Network:
    module, image = made(name)
    folded = fold(from_torch(module, image, name))
    with torch.no_grad():
        expected, found = module(image), Executor(folded).eval()(image)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max(), name
    return folded


@pytest.mark.parametrize("name", QUICK)
def test_the_reader_computes_what_the_module_does(name: str) -> None:
    check_reader(name)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in SIZES if name not in QUICK])
def test_more_of_them(name: str) -> None:
    check_reader(name)


def check_int8(name: str) -> None:
    _, image = made(name)
    folded = check_reader(name)
    images = image.permute(0, 2, 3, 1).numpy()
    network = quantize(folded, activation_ranges(folded, images))
    codes = np.random.default_rng(0).integers(-128, 128, images.shape).astype(np.int8)
    found = run(network, codes, keep_all=True)
    for tensor, expected in tflm(network, codes).items():
        assert np.array_equal(found[tensor], expected), (name, tensor)


@pytest.mark.parametrize("name", INT8)
def test_its_int8_form_is_that_of_tflm_in_every_layer(name: str) -> None:
    check_int8(name)


@pytest.mark.full
@pytest.mark.parametrize("name", [n for n, s in SIZES.items() if n not in INT8 and n != "resnet18"])
def test_more_int8_forms(name: str) -> None:
    check_int8(name)


def test_a_channel_shuffle_is_refused_by_name() -> None:
    module = provider.get_model("shufflenetv2_wd2").eval()
    with pytest.raises(UnsupportedError, match=r"aten\..* in module '.*c_shuffle'") as caught:
        from_torch(module, torch.zeros(1, 3, 224, 224), "shuffle")
    assert "remedy: if it moves channels (a channel shuffle" in str(caught.value)
    assert "supported: conv2d" in str(caught.value)
