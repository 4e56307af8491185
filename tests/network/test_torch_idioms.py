"""Torch idioms whose graph is not what their text says: in-place operators, kept dimensions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtmm.errors import UnsupportedError
from dtmm.network.torch_reader import copy_to, from_torch
from dtmm.training.executor import Executor

SHAPE = (2, 6, 6)


class Written(nn.Module):
    """A module whose forward is `function`, over layers given by name."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(**options: object) -> nn.Conv2d:
    return nn.Conv2d(2, 3, 3, **options)


def relu_then_read_again(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    z = F.relu(y, inplace=True)
    return z + y


def add_then_read_again(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    z = y
    y += m.b(x)
    return F.relu(y) + z


IDIOMS = {
    "in-place relu": lambda: Written(relu_then_read_again, a=conv()),
    "in-place add": lambda: Written(add_then_read_again, a=conv(), b=conv()),
    "relu of a kept pixel": lambda: nn.Sequential(
        conv(), nn.AdaptiveAvgPool2d(1), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2)
    ),
    "norm of a kept pixel": lambda: nn.Sequential(
        conv(), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2)
    ),
    "sum of kept pixels": lambda: Written(
        lambda m, x: (F.adaptive_avg_pool2d(m.a(x), 1) + m.b(x).mean((2, 3), True)).flatten(1),
        a=conv(), b=conv(),
    ),
    "padding that does not count": lambda: nn.Sequential(
        conv(), nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    ),
    "a convolution and its norm applied three times": lambda: Written(
        lambda m, x: m.n(m.b(F.relu(m.n(m.b(F.relu(m.n(m.b(m.a(x)))))))))
        , a=conv(), b=nn.Conv2d(3, 3, 3, padding=1), n=nn.BatchNorm2d(3)
    ),
    "a linear layer on an image and on a vector": lambda: Written(
        lambda m, x: m.l(m.l(x.flatten(1))), l=nn.Linear(72, 72)
    ),
    "dilation": lambda: nn.Sequential(conv(dilation=2, padding=1, stride=(1, 2))),
    "dropout": lambda: nn.Sequential(
        conv(), nn.Dropout2d(), nn.Flatten(), nn.Dropout(), nn.Linear(48, 2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("idiom", IDIOMS)
def test_read_with_the_same_function(idiom: str) -> None:
    torch.manual_seed(3)
    module = IDIOMS[idiom]()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    network = from_torch(module, torch.zeros(1, *SHAPE), "net")
    x = 4 * torch.randn(3, *SHAPE)
    with torch.no_grad():
        assert torch.allclose(Executor(network).eval()(x), module.eval()(x), atol=1e-5)


def test_a_computed_weight_is_refused() -> None:
    module = Written(lambda m, x: F.conv2d(x, F.relu(m.a.weight)), a=conv())
    with pytest.raises(UnsupportedError, match="relu"):
        from_torch(module, torch.zeros(1, *SHAPE), "net")


def test_a_refusal_names_the_nested_module() -> None:
    module = nn.Sequential(conv(), nn.Sequential(nn.ReLU(), nn.Tanh()))
    with pytest.raises(UnsupportedError, match=r"tanh\S* in module '1\.1'"):
        from_torch(module, torch.zeros(1, *SHAPE), "net")


def test_uses_of_one_module_are_written_back_only_while_they_agree() -> None:
    module = Written(lambda m, x: m.b(F.relu(m.b(x))), b=nn.Conv2d(3, 3, 3, padding=1))
    network = from_torch(module, torch.zeros(1, 3, 6, 6), "twice")
    assert {"b.weight", "b.weight@2"} <= network.params.keys()
    for key in ("b.weight", "b.weight@2"):
        network.params[key][1] = 0
    copy_to(network, module)
    assert not module.b.weight[1].any()
    network.params["b.weight"][0] = 0
    with pytest.raises(UnsupportedError, match=r"'b\.weight' is used by several layers that diff"):
        copy_to(network, module)


def test_an_exported_program_is_read_as_its_module_is() -> None:
    module = nn.Sequential(conv(), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).eval()
    program = torch.export.export(module, (torch.zeros(1, *SHAPE),))
    found = from_torch(program, torch.zeros(1, *SHAPE), "net")
    expected = from_torch(module, torch.zeros(1, *SHAPE), "net")
    assert found.ops == expected.ops
    assert all((found.params[key] == values).all() for key, values in expected.params.items())
