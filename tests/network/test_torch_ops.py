"""Modules of mobile networks: what is read computes what torch does, trained weights travel back,
and the int8 form of it equals TFLM."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtmm.models.mlperf_tiny import DSCNN, MobileNetV1
from dtmm.network.fold import fold
from dtmm.network.ir import Concat, Conv2D, DepthwiseConv2D, Mul, Pad
from dtmm.network.torch_reader import copy_to, from_torch
from dtmm.quantization import run
from dtmm.training.executor import Executor
from tests.quantization.oracles import calibrated, tflm

SHAPE = (3, 9, 8)


class Written(nn.Module):
    """A module whose forward is `function`, over layers given by name."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Scaled(nn.Module):
    """A trained factor per channel and a fixed shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.linspace(0.5, 2, channels)[:, None, None])
        self.register_buffer("shift", torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma - self.shift


class Fire(nn.Module):
    """SqueezeNet's module."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.one = nn.Conv2d(squeeze, expand, 1)
        self.three = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


def excite_by_convolutions(m: nn.Module, x: Tensor) -> Tensor:
    x = m.a(x)
    gate = F.relu(m.squeeze(F.adaptive_avg_pool2d(x, 1)))
    return x * F.hardsigmoid(m.excite(gate))


def excite_by_linear_layers(m: nn.Module, x: Tensor) -> Tensor:
    x = m.a(x)
    gate = torch.sigmoid(m.excite(F.relu(m.squeeze(x.mean((2, 3))))))
    return gate.view(1, 6, 1, 1) * x


def branches(m: nn.Module, x: Tensor) -> Tensor:
    x = F.leaky_relu(m.a(x), 0.2)
    y = F.pad(x, (1, 0, 2, 1))[:, :, 1:-1:2, 1:]
    return torch.cat([F.softmax(y, 1), torch.sigmoid(y), y, y / 3 + 1], dim=1)


def conv(outputs: int = 6, **options: object) -> nn.Conv2d:
    return nn.Conv2d(3, outputs, 3, **options)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "depthwise": lambda: nn.Sequential(
        conv(), nn.ReLU6(), nn.Conv2d(6, 6, 3, 2, 1, groups=6, bias=False), nn.BatchNorm2d(6),
        nn.ReLU6(), nn.Conv2d(6, 4, 1),
    ),
    "grouped": lambda: nn.Sequential(
        conv(), nn.Conv2d(6, 9, 3, padding=1, groups=3), nn.BatchNorm2d(9), nn.ReLU(),
        nn.Conv2d(9, 18, (1, 3), groups=9),
    ),
    "excite by convolutions": lambda: Written(
        excite_by_convolutions, a=conv(), squeeze=nn.Conv2d(6, 2, 1), excite=nn.Conv2d(2, 6, 1)
    ),
    "excite by linear layers": lambda: Written(
        excite_by_linear_layers, a=conv(), squeeze=nn.Linear(6, 2), excite=nn.Linear(2, 6)
    ),
    "fire": lambda: nn.Sequential(
        conv(), nn.ReLU(), Fire(6, 3, 5), nn.MaxPool2d(2), Fire(10, 4, 8)
    ),
    "nonlinear": lambda: nn.Sequential(
        conv(), nn.Hardswish(), nn.Conv2d(6, 5, 1), nn.SiLU(), nn.Conv2d(5, 5, 1), nn.Hardsigmoid()
    ),
    "clamps": lambda: Written(
        lambda m, x: m.b(m.a(x).clamp(0, 1)).clamp(min=0), a=conv(), b=nn.Conv2d(6, 3, 1)
    ),
    "windows beyond the image": lambda: nn.Sequential(
        conv(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(6, 6, 1),
        nn.AvgPool2d(2, 2, ceil_mode=True),
    ),
    "scaled": lambda: nn.Sequential(conv(), Scaled(6), nn.ReLU(), nn.Conv2d(6, 2, 1)),
    "branches": lambda: Written(branches, a=conv()),
    "explicit padding": lambda: nn.Sequential(
        nn.ZeroPad2d((1, 2, 0, 1)), conv(padding=1), nn.ZeroPad2d(1),
        nn.Conv2d(6, 6, 3, groups=6),
    ),
}  # fmt: skip


def randomized(name: str) -> nn.Module:
    torch.manual_seed(len(name))
    module = MODULES[name]().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.bias)
    return module


@pytest.mark.parametrize("name", MODULES)
def test_a_network_computes_what_its_module_does(name: str) -> None:
    module = randomized(name)
    network = from_torch(module, torch.zeros(1, *SHAPE), name)
    x = torch.randn(1, *SHAPE)
    with torch.no_grad():
        expected = module(x)
        for form in (network, fold(network)):
            found = Executor(form).eval()(x)
            assert found.shape == expected.shape
            assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_weights_travel_back(name: str) -> None:
    module = randomized(name)
    network = from_torch(module, torch.zeros(1, *SHAPE), name)
    torch.manual_seed(1)
    other = MODULES[name]()
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    copy_to(network, other)
    for key, value in module.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


@pytest.mark.parametrize("name", MODULES)
def test_every_byte_equals_tflm(name: str) -> None:
    pytest.importorskip("tflite_micro")
    network = fold(from_torch(randomized(name), torch.zeros(1, *SHAPE), name))
    quantized, images = calibrated(network, 0)
    ours, theirs = run(quantized, images, keep_all=True), tflm(quantized, images)
    for op in quantized.ops:
        same = ours[op.output] == theirs[op.output].reshape(ours[op.output].shape)
        assert same.all(), op


def test_operators_are_what_they_should_be() -> None:
    def kinds(name: str) -> list[type]:
        network = fold(from_torch(randomized(name), torch.zeros(1, *SHAPE), name))
        return [type(op) for op in network.ops]

    assert kinds("depthwise") == [Conv2D, DepthwiseConv2D, Conv2D]
    assert kinds("grouped") == [Conv2D, Conv2D, Conv2D]
    assert Pad not in kinds("explicit padding")
    assert kinds("fire").count(Concat) == 2
    assert kinds("scaled").count(Mul) == 1


@pytest.mark.parametrize(
    ("model", "shape"), [(DSCNN(1, 12), (1, 49, 10)), (MobileNetV1(3, 2), (3, 32, 32))]
)
def test_networks_of_mlperf_tiny_are_read(model: nn.Module, shape: tuple[int, int, int]) -> None:
    network = from_torch(model.eval(), torch.zeros(1, *shape), "model")
    x = torch.randn(1, *shape)
    with torch.no_grad():
        expected = model(x)
        found = Executor(fold(network)).eval()(x)
    assert torch.allclose(found, expected, atol=1e-4)
    depthwise = [op for op in network.ops if isinstance(op, DepthwiseConv2D)]
    assert len(depthwise) == (4 if isinstance(model, DSCNN) else 13)
    assert all(np.shape(network.params[op.weight])[3] == 1 for op in depthwise)
