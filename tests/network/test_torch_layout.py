"""Layers that read a flattened image, and modules that the reader must not misread."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dtmm.errors import DtmmError, UnsupportedError
from dtmm.models.resnet import ResNet
from dtmm.network import channel_groups, fold
from dtmm.network.ir import Network, Op, op_inputs
from dtmm.network.torch_reader import copy_to, from_torch
from tests.training.networks import Builder

Forward = Callable[[nn.ModuleDict, torch.Tensor], torch.Tensor]


class Model(nn.Module):
    """A forward function over named layers."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.function = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.layers, x)


def execute(network: Network, x: torch.Tensor) -> torch.Tensor:
    """The operators' meaning, in torch.nn.functional alone: [1, C, H, W] in."""
    values = {network.inputs[0]: x}
    weights = {key: torch.from_numpy(array) for key, array in network.params.items()}
    for op in network.ops:
        values[op.output] = apply(op, values, weights)
    return values[network.outputs[0]]


def apply(op: Op, values: dict[str, torch.Tensor], w: dict[str, torch.Tensor]) -> torch.Tensor:
    x = values[op_inputs(op)[0]]
    y = MEANING[type(op).__name__](op, x, values, w)
    fused = getattr(op, "activation", None)
    name = fused.value if fused is not None else "none"
    return {"none": lambda v: v, "relu": F.relu, "relu6": F.relu6}[name](y)


def pad(op: Op, x: torch.Tensor, value: float = 0.0) -> torch.Tensor:
    top, left, bottom, right = op.padding
    return F.pad(x, (left, right, top, bottom), value=value)


MEANING: dict[str, Callable[..., torch.Tensor]] = {
    "Conv2D": lambda op, x, v, w: F.conv2d(
        pad(op, x), w[op.weight].permute(0, 3, 1, 2), w.get(op.bias), op.stride, 0, op.dilation
    ),
    "FullyConnected": lambda op, x, v, w: F.linear(x, w[op.weight], w.get(op.bias)),
    "BatchNorm": lambda op, x, v, w: F.batch_norm(
        x, w[op.mean], w[op.variance], w[op.scale], w[op.shift], eps=op.epsilon
    ),
    "MaxPool2D": lambda op, x, v, w: F.max_pool2d(pad(op, x, -torch.inf), op.window, op.stride),
    "AveragePool2D": lambda op, x, v, w: F.avg_pool2d(x, op.window, op.stride),  # never padded
    "Mean": lambda op, x, v, w: x.mean((2, 3)),
    "Reshape": lambda op, x, v, w: x.permute(0, 2, 3, 1).reshape(1, -1),
    "Activate": lambda op, x, v, w: x,
    "Add": lambda op, x, v, w: x + v[op.inputs[1]],
}


def norm(kind: type[nn.Module], channels: int) -> nn.Module:
    layer = kind(channels)
    nn.init.normal_(layer.running_mean)
    nn.init.uniform_(layer.running_var, 0.5, 2)
    nn.init.normal_(layer.bias)
    return layer


def models() -> dict[str, Model]:
    torch.manual_seed(0)
    image = 3 * 6 * 5
    return {
        "norm of a flattened image": Model(
            lambda m, x: m["fc"](m["norm"](x.flatten(1))),
            norm=norm(nn.BatchNorm1d, image), fc=nn.Linear(image, 4),
        ),
        "sum of flattened images": Model(
            lambda m, x: m["fc"](F.relu(x.flatten(1) + m["conv"](x).view(-1, image))),
            conv=nn.Conv2d(3, 3, 3, padding=1), fc=nn.Linear(image, 4),
        ),
        "two linear layers": Model(
            lambda m, x: m["a"](x.reshape(1, -1)) + F.relu6(m["b"](x.flatten(1))),
            a=nn.Linear(image, 4, bias=False), b=nn.Linear(image, 4),
        ),
        "flattened after a mean": Model(
            lambda m, x: m["fc"](m["norm"](m["drop"](x.mean((-1, -2), keepdim=True)).flatten(1))),
            drop=nn.Dropout(), norm=norm(nn.BatchNorm1d, 3), fc=nn.Linear(3, 4),
        ),
        "squeezed": Model(
            lambda m, x: m["fc"](F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)),
            fc=nn.Linear(3, 4),
        ),
        "even kernel, same padding": Model(
            lambda m, x: m["conv"](x).clamp(0, 6),
            conv=nn.Conv2d(3, 2, (4, 2), padding="same", dilation=(1, 2)),
        ),
        "pooled to one pixel": Model(
            lambda m, x: m["fc"](F.avg_pool2d(m["conv"](x), (6, 5)).view(-1, 2)),
            conv=nn.Conv2d(3, 2, 1), fc=nn.Linear(2, 4),
        ),
        "padded maximum": Model(
            lambda m, x: m["conv"](F.max_pool2d(x, 3, 2, 1)), conv=nn.Conv2d(3, 2, 3, 2, 1)
        ),
    }  # fmt: skip


NAMES = tuple(models())
EXAMPLE = torch.zeros(1, 3, 6, 5)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", NAMES)
def test_elements_keep_their_order(name: str) -> None:
    model = models()[name].eval()
    network = from_torch(model, EXAMPLE, name)
    x = torch.randn(EXAMPLE.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(x)
        assert torch.allclose(execute(network, x), expected, atol=1e-5)
    other = models()[name]
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    copy_to(network, other)
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 9, 10)])
def test_folding_equals_torch(shape: tuple[int, int, int]) -> None:
    model = ResNet(shape[0], 10, (4, 6, 8)).eval()
    torch.manual_seed(3)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.01, 4)
            nn.init.normal_(part.weight)
    network = from_torch(model, torch.zeros(1, *shape), "resnet")
    x = torch.randn(1, *shape)
    with torch.no_grad():
        expected = model(x)
        for form in (network, fold(network)):
            found = execute(form, x)
            assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


CONV = nn.Conv2d(3, 3, 3, padding=1)

REFUSED: dict[str, tuple[Forward, dict[str, nn.Module], str]] = {
    "softmax over pixels": (lambda m, x: F.softmax(x, 2), {}, "softmax.* over anything but"),
    "power": (lambda m, x: x**2, {}, "pow"),
    "difference": (lambda m, x: x - F.relu(x), {}, "sub.* by anything but a constant"),
    "quotient of tensors": (lambda m, x: 1 / F.relu(x), {}, "reciprocal|by anything but"),
    "floor of a quotient": (lambda m, x: torch.div(x, 2, rounding_mode="floor"), {}, "Tensor_mode"),
    "padding with ones": (lambda m, x: F.pad(x, (1, 1), value=1.0), {}, "pad"),
    "cropping": (lambda m, x: F.pad(x, (-1, 0)), {}, "pad"),
    "slice of channels": (lambda m, x: x[:, 1:], {}, "slice.* but height and width"),
    "cat of rows": (lambda m, x: torch.cat([x, F.relu(x)], 2), {}, "cat.* but channels"),
    "negative slope": (lambda m, x: F.leaky_relu(x, -0.5), {}, "slope -0.5"),
    "row of constants": (lambda m, x: x * torch.ones(5), {}, "constant of shape|ones"),
    "dropout": (lambda m, x: F.dropout(x), {}, "stays on in eval mode"),
    "list": (lambda m, x: torch.chunk(x, 3, 1)[0], {}, "chunk"),
    "constant": (lambda m, x: x + torch.ones(1, 3, 6, 5), {}, "ones|constant operand"),
    "scaled add": (lambda m, x: torch.add(x, x, alpha=2), {}, "with a factor"),
    "broadcast of a row": (lambda m, x: x + x[:, :, :1], {}, "add.Tensor of shapes"),
    "flattened output": (lambda m, x: m["conv"](x).flatten(1), {"conv": CONV}, "output 'flatten'"),
    "conv of a vector": (
        lambda m, x: m["conv"](m["fc"](x.mean((2, 3)))[:, :, None, None]),
        {"conv": nn.Conv2d(3, 4, 1), "fc": nn.Linear(3, 3)}, r"conv2d\S* of shape \(1, 3\)",
    ),
    "linear of an image": (
        lambda m, x: m["fc"](x), {"fc": nn.Linear(5, 2)}, "instead of a vector"
    ),
    "counted padding": (lambda m, x: F.avg_pool2d(x, 3, 1, 1), {}, "counted padding"),
    "hardtanh": (lambda m, x: F.hardtanh(x), {}, r"hardtanh.default to \(-1"),
    "reflection": (
        lambda m, x: m["conv"](x),
        {"conv": nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")}, "pad",
    ),
    "no statistics": (
        lambda m, x: m["norm"](x), {"norm": nn.BatchNorm2d(3, affine=False)}, "without affine"
    ),
    "mixed order": (
        lambda m, x: m["fc"](x.flatten(1)) + x.flatten(1), {"fc": nn.Linear(90, 90)},
        "another order",
    ),
    "view": (lambda m, x: x.view(1, 3, 30), {}, r"view.default from \(1, 6, 5, 3\)"),
    "one axis": (lambda m, x: x.mean(3), {}, "mean over axes"),
    "clamp": (lambda m, x: x.clamp(-1, 1), {}, r"clamp.default to \(-1, 1\)"),
    "weight norm": (
        lambda m, x: m["conv"](x),
        {"conv": nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3))}, "_weight_norm",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_misread_is_refused(name: str) -> None:
    forward, layers, message = REFUSED[name]
    with pytest.raises(UnsupportedError, match=message) as caught:
        from_torch(Model(forward, **layers), EXAMPLE, name)
    assert "\n" not in str(caught.value)


class WithConstant(nn.Module):
    """A plain tensor attribute, which torch.export lifts to an input of its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.constant = torch.ones(1, 3, 6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.constant


def test_a_constant_is_not_taken_for_an_input() -> None:
    with pytest.raises(UnsupportedError, match="constant of shape"):
        from_torch(WithConstant(), EXAMPLE, "x")


def test_the_line_of_the_model_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"\(test_torch_layout\.py:\d+\)"):
        from_torch(Model(lambda m, x: torch.tanh(x)), EXAMPLE, "x")


def test_what_torch_cannot_export_is_refused() -> None:
    forward: Forward = lambda m, x: x if float(x.sum()) > 0 else -x  # noqa: E731
    with pytest.raises(UnsupportedError, match=r"torch\.export cannot capture Model"):
        from_torch(Model(forward), EXAMPLE, "x")


@pytest.mark.parametrize("shape", [(2, 3, 6, 5), (3, 6, 5)])
def test_the_example_is_one_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(DtmmError, match=r"expected \(1, C, H, W\)"):
        from_torch(Model(lambda m, x: F.relu(x)), torch.zeros(shape), "x")


def test_zeros_travel_and_folded_networks_do_not() -> None:
    model = ResNet(1, 10, (4, 6)).train()
    network = from_torch(model, torch.zeros(1, 1, 8, 8), "resnet")
    key = network.convs()[1].weight
    weight = network.params[key].copy()
    weight[:, 0, 2] = 0
    masked = dataclasses.replace(network, params={**network.params, key: weight})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UnsupportedError, match="not folded"):
        copy_to(fold(masked), model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    copy_to(masked, model)
    assert model.training
    found = model.state_dict()[key]
    assert not found[:, :, 0, 2].any()
    assert np.array_equal(found.permute(0, 2, 3, 1).numpy(), weight)


def test_a_flattened_image_stays_in_its_channel_group() -> None:
    model = Model(
        lambda m, x: m["fc"](F.relu(m["conv"](x)).flatten(1)),
        conv=nn.Conv2d(3, 4, 3), fc=nn.Linear(48, 5),
    )  # fmt: skip
    network = from_torch(model, EXAMPLE, "flat")
    for form in (network, fold(network)):
        group = channel_groups(form)[1]
        assert (group.name, group.channels) == ("layers.conv", 4)
        assert (group.producers, group.consumers) == (("layers.conv",), ("layers.fc",))
        assert "flatten" in group.tensors
    x = torch.randn(EXAMPLE.shape)
    keep = np.tile(np.arange(4) == 2, 12)  # columns of channel 2 alone: p*C + c
    weight = network.params["layers.fc.weight"] * keep
    values = execute(dataclasses.replace(
        network, params={**network.params, "layers.fc.weight": weight.astype(np.float32)}), x
    )  # fmt: skip
    with torch.no_grad():
        image = F.relu(model.layers["conv"](x)) * torch.tensor([0, 0, 1, 0])[:, None, None]
        assert torch.allclose(values, model.layers["fc"](image.flatten(1)), atol=1e-5)


def test_channels_added_to_pixels_are_refused() -> None:
    b = Builder(0, (1, 4, 4, 1))
    flat = b.flatten(b.conv("c", "x", 3))
    network = b.build("x", b.add("sum", b.fc("fc", flat, 48), flat))
    with pytest.raises(UnsupportedError, match="'fc' makes 48 channels that are added to 3"):
        channel_groups(network)


def test_identity_and_input_join_one_group() -> None:
    model = Model(lambda m, x: m["last"](x + m["conv"](x)), conv=CONV, last=nn.Conv2d(3, 2, 1))
    groups = channel_groups(from_torch(model, EXAMPLE, "x"))
    assert [(g.name, g.producers, g.consumers, g.prunable) for g in groups] == [
        ("layers.conv", ("layers.conv",), ("layers.conv", "layers.last"), False),
        ("layers.last", ("layers.last",), (), False),
    ]
