"""Reading a torch module, folding it, and its channel groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dtmm.errors import UnsupportedError
from dtmm.models.resnet import ResNet
from dtmm.network.fold import fold
from dtmm.network.groups import channel_groups
from dtmm.network.ir import Activate, BatchNorm
from dtmm.network.torch_reader import copy_to, from_torch
from dtmm.training.executor import Executor
from tests.training.networks import residual


class Vgg(nn.Module):
    """Pooling, ReLU6, and a hard-coded view that keeps several pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 5, (1, 3), stride=(1, 2), dilation=1)
        self.head = nn.Linear(5 * 4 * 2, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu6(self.first(x)), 2)
        x = F.dropout(torch.relu(self.second(x)), training=self.training)
        return self.head(x.view(-1, 5 * 4 * 1 if x.shape[3] == 1 else 5 * 4 * 2))


class Unsupported(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def randomize(module: nn.Module, seed: int) -> nn.Module:
    """Batch normalization that is not the identity."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
    return module


def modules() -> list[tuple[nn.Module, tuple[int, ...]]]:
    torch.manual_seed(0)
    pooled = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    )  # fmt: skip
    averaged = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(36, 3), nn.ReLU(), nn.Linear(3, 2),
    )  # fmt: skip
    return [
        (ResNet(1, 10, (4, 6, 8)), (1, 12, 12)),
        (Vgg(), (1, 8, 10)),
        (pooled, (2, 9, 7)),
        (averaged, (1, 8, 8)),
    ]


@pytest.mark.parametrize("case", range(4))
def test_a_network_computes_what_its_module_does(case: int) -> None:
    module, shape = modules()[case]
    randomize(module, case).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    network = from_torch(module, torch.zeros(1, *shape), "case")
    assert module.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    x = torch.randn(3, *shape)
    with torch.no_grad():
        expected = module.eval()(x)
        for form in (network, fold(network)):
            assert torch.allclose(Executor(form).eval()(x), expected, atol=1e-5)


@pytest.mark.parametrize("case", range(4))
def test_weights_travel_back_into_the_module(case: int) -> None:
    module, shape = modules()[case]
    network = from_torch(randomize(module, case), torch.zeros(1, *shape), "case")
    torch.manual_seed(9)
    other, _ = modules()[case]
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    copy_to(network, other)
    x = torch.randn(2, *shape)
    with torch.no_grad():
        assert torch.allclose(other.eval()(x), module.eval()(x), atol=1e-6)


def test_a_smaller_network_does_not_fit_the_module() -> None:
    network = from_torch(ResNet(1, 10, (4, 6)), torch.zeros(1, 1, 8, 8), "small")
    with pytest.raises(UnsupportedError, match=r"stem\.conv\.weight"):
        copy_to(network, ResNet(1, 10, (8, 6)))


@pytest.mark.parametrize(
    ("inner", "name"),
    [(nn.Tanh(), "tanh"), (nn.ReflectionPad2d(1), "reflect"),
     (nn.MaxPool2d(2, dilation=2), "max_pool2d"), (nn.AdaptiveAvgPool2d(2), "adaptive")],
    ids=["tanh", "reflect", "dilated", "adaptive"],
)  # fmt: skip
def test_what_is_not_supported_is_named(inner: nn.Module, name: str) -> None:
    with pytest.raises(UnsupportedError, match=name) as caught:
        from_torch(Unsupported(inner), torch.zeros(1, 2, 7, 7), "x")
    assert "'inner'" in str(caught.value)
    assert "; remedy: " in str(caught.value)
    assert "supported: conv2d" in str(caught.value)


@pytest.mark.parametrize("seed", range(5))
def test_folding_keeps_the_function(seed: int) -> None:
    network = residual(seed)
    folded = fold(network)
    assert not any(isinstance(op, BatchNorm | Activate) for op in folded.ops)
    assert folded.outputs == network.outputs
    assert [op.name for op in folded.convs()] == [op.name for op in network.convs()]
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(Executor(folded).eval()(x), Executor(network).eval()(x), atol=1e-4)


def test_channel_groups_of_resnet12() -> None:
    network = from_torch(ResNet(1, 10), torch.zeros(1, 1, 32, 32), "resnet12")
    found = {group.name: group for group in channel_groups(network)}
    s = "stages"
    expected = {
        "x": (1, (), ("stem.conv",), False),
        "stem.conv": (32, ("stem.conv", f"{s}.0.second.conv"),
                      (f"{s}.0.first.conv", f"{s}.1.first.conv", f"{s}.1.shortcut.conv"), True),
        "classifier": (10, ("classifier",), (), False),
    }  # fmt: skip
    for n, width in enumerate((32, 64, 128, 256)):
        inner, outer = f"{s}.{n}.first.conv", f"{s}.{n}.second.conv"
        expected[inner] = (width, (inner,), (outer,), True)
        if n:
            after = (f"{s}.{n + 1}.first.conv", f"{s}.{n + 1}.shortcut.conv")
            readers = after if n < 3 else ("classifier",)
            expected[outer] = (width, (outer, f"{s}.{n}.shortcut.conv"), readers, True)
    got = {n: (g.channels, g.producers, g.consumers, g.prunable) for n, g in found.items()}
    assert got == expected
    assert [g.name for g in channel_groups(fold(network))] == list(found)
    everything = sorted(name for group in found.values() for name in group.tensors)
    assert everything == sorted(network.tensors)


def test_weights_are_stored_ohwi() -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, (2, 4)))
    network = from_torch(module, torch.zeros(1, 3, 8, 8), "conv")
    weight = network.params[network.convs()[0].weight]
    assert weight.shape == (5, 2, 4, 3)
    assert np.array_equal(weight, module[0].weight.detach().permute(0, 2, 3, 1).numpy())
