"""The operators of a network as torch modules, on NCHW tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtmm.network import ir


def _activate(x: Tensor, activation: ir.Activation) -> Tensor:
    if activation is ir.Activation.RELU:
        return F.relu(x)
    if activation is ir.Activation.RELU6:
        return F.relu6(x)
    return x


def _pad(x: Tensor, padding: ir.Padding, value: float = 0.0) -> Tensor:
    top, left, bottom, right = padding
    return F.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


def _row_major(x: Tensor) -> Tensor:
    """The same tensor with row-major strides.

    A tensor of one channel is row-major and channels-last at once, and its strides say which. Where
    they say channels-last, oneDNN (seen with torch 2.13 on AVX-512) computes garbage if the stride
    is (1, 2) and the output one pixel wide: it reads memory outside its input.
    """
    return x.flatten().view(x.shape)


def _parameter(values: npt.NDArray[np.float32]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(values, dtype=np.float32)))


class Operator(nn.Module):
    """One operator: `forward` computes it, `params` gives its weights in the network's layout."""

    def params(self) -> dict[str, Tensor]:
        return {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        return cast(Tensor, super().__call__(*inputs))


_Maker = Callable[[Any, ir.Network], Operator]


class Layer(Operator):
    """An operator with weights; `weight` is OIHW for a convolution, else [C_out, C_in].

    `seen_as`, if set, is what the forward pass makes of the weights (fake quantization); training
    moves the weights themselves.

    Pruned weights get no gradient. An optimizer that moves a weight by its gradient, momentum and
    decay alone therefore leaves a zero at zero; `apply_mask` is there for all others.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    mask: Tensor | None

    def __init__(self, op: ir.Weighted, network: ir.Network) -> None:
        super().__init__()
        self.op = op
        self.bias = None if op.bias is None else _parameter(network.params[op.bias])
        self.register_buffer("mask", None, persistent=False)
        self.seen_as: Callable[[Tensor], Tensor] | None = None

    def used_weight(self) -> Tensor:
        """The weights of the forward pass."""
        return self.weight if self.seen_as is None else self.seen_as(self.weight)

    def set_mask(self, kept: npt.NDArray[np.bool_]) -> None:
        """Prunes the weights where `kept`, in the network's layout, is False; call it once."""
        self.mask = self._from_network(torch.from_numpy(kept.astype(np.float32)))
        self.weight.register_hook(self._masked)  # type: ignore[no-untyped-call]
        self.apply_mask()

    def _masked(self, values: Tensor) -> Tensor:
        return values if self.mask is None else values * self.mask

    @torch.no_grad()
    def apply_mask(self) -> None:
        """Sets pruned weights to exactly zero."""
        if self.mask is not None:
            self.weight.mul_(self.mask)

    def _from_network(self, values: Tensor) -> Tensor:
        """A weight-like array in the layout of `weight`."""
        return values

    def params(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {self.op.weight: self._own_weight()}
        if self.op.bias is not None and self.bias is not None:
            weights[self.op.bias] = self.bias
        return weights

    def _own_weight(self) -> Tensor:
        return self.weight


class Convolution(Layer):
    """A convolution, grouped or depthwise ones included."""

    op: ir.Conv2D | ir.DepthwiseConv2D

    def __init__(self, op: ir.Conv2D | ir.DepthwiseConv2D, network: ir.Network) -> None:
        super().__init__(op, network)
        weight = network.params[op.weight]
        self.groups = len(weight) if isinstance(op, ir.DepthwiseConv2D) else op.groups
        own = torch.from_numpy(weight.astype(np.float32))
        self.weight = nn.Parameter(self._from_network(own))

    def forward(self, x: Tensor) -> Tensor:
        top, left, bottom, right = self.op.padding
        padding = (top, left)
        if padding != (bottom, right):
            x, padding = _pad(x, self.op.padding), (0, 0)
        weight = self.used_weight()
        stride, dilation = self.op.stride, self.op.dilation
        if weight.shape[2:] == (1, 1) and padding == (0, 0) and stride != (1, 1):
            # The pixels it reads, taken out here: in the backward pass of fewer than 8 channels
            # oneDNN's own way (seen with torch 2.13 on AVX2) writes outside its memory.
            x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
        if x.shape[1] == 1:
            x, weight = _row_major(x), _row_major(weight)
        y = F.conv2d(x, weight, self.bias, stride, padding, dilation, self.groups)
        return _activate(y, self.op.activation)

    def _from_network(self, values: Tensor) -> Tensor:
        return values.permute(0, 3, 1, 2)

    def _own_weight(self) -> Tensor:
        return self.weight.permute(0, 2, 3, 1)


class FullyConnected(Layer):
    """A fully connected layer."""

    op: ir.FullyConnected

    def __init__(self, op: ir.FullyConnected, network: ir.Network) -> None:
        super().__init__(op, network)
        self.weight = _parameter(network.params[op.weight])

    def forward(self, x: Tensor) -> Tensor:
        return _activate(F.linear(x, self.used_weight(), self.bias), self.op.activation)


class BatchNormOperator(Operator):
    """Batch normalization by torch's own module, `norm`."""

    def __init__(self, op: ir.BatchNorm, network: ir.Network) -> None:
        super().__init__()
        self.op = op
        kind = nn.BatchNorm2d if len(network.tensors[op.input]) == 4 else nn.BatchNorm1d
        self.norm = kind(network.params[op.scale].shape[0], eps=op.epsilon)
        with torch.no_grad():
            for key, target in self.params().items():
                target.copy_(torch.from_numpy(np.array(network.params[key], dtype=np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x))

    def params(self) -> dict[str, Tensor]:
        norm, op = self.norm, self.op
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        return {op.scale: norm.weight, op.shift: norm.bias, op.mean: mean, op.variance: variance}


class _Binary(Operator):
    """A sum or a product of two tensors, or of one and a constant, which is not trained."""

    constant: Tensor | None

    def __init__(self, op: ir.Binary, network: ir.Network) -> None:
        super().__init__()
        self.op = op
        self.function = torch.add if isinstance(op, ir.Add) else torch.mul
        values = None
        if op.constant is not None:
            values = torch.from_numpy(np.array(network.params[op.constant], dtype=np.float32))
        self.register_buffer("constant", values, persistent=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        x, y = inputs if self.constant is None else (inputs[0], self.constant[None])
        if x.ndim != y.ndim:  # a vector meets every pixel
            x, y = (value[..., None, None] if value.ndim == 2 else value for value in (x, y))
        return _activate(self.function(x, y), self.op.activation)


class _Concat(Operator):
    def __init__(self, op: ir.Concat, network: ir.Network) -> None:
        super().__init__()

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)


class _StridedSlice(Operator):
    def __init__(self, op: ir.StridedSlice, network: ir.Network) -> None:
        super().__init__()
        self.rows, self.columns = (
            slice(begin, end, stride)
            for begin, end, stride in zip(op.begin, op.end, op.stride, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, self.rows, self.columns]


class _Function(Operator):
    """A function of one tensor without weights."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class _MaxPool(Operator):
    def __init__(self, op: ir.MaxPool2D, network: ir.Network) -> None:
        super().__init__()
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        x = _pad(x, self.op.padding, value=-torch.inf)
        return F.max_pool2d(x, self.op.window, self.op.stride)


class _AveragePool(Operator):
    """Sums the padded window and divides by the pixels that are not padding."""

    def __init__(self, op: ir.AveragePool2D, network: ir.Network) -> None:
        super().__init__()
        self.op = op

    def _mean(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(_pad(x, self.op.padding), self.op.window, self.op.stride)

    def forward(self, x: Tensor) -> Tensor:
        if not any(self.op.padding):
            return self._mean(x)
        return self._mean(x) / self._mean(torch.ones_like(x[:1, :1]))


def _function(make: Callable[[Any], Callable[[Tensor], Tensor]]) -> _Maker:
    return lambda op, network: _Function(make(op))


OPERATORS: Mapping[type, _Maker] = {
    ir.Conv2D: Convolution,
    ir.DepthwiseConv2D: Convolution,
    ir.FullyConnected: FullyConnected,
    ir.BatchNorm: BatchNormOperator,
    ir.Add: _Binary,
    ir.Mul: _Binary,
    ir.Concat: _Concat,
    ir.StridedSlice: _StridedSlice,
    ir.MaxPool2D: _MaxPool,
    ir.AveragePool2D: _AveragePool,
    ir.Activate: _function(lambda op: lambda x: _activate(x, op.activation)),
    ir.Pad: _function(lambda op: lambda x: _pad(x, op.padding)),
    ir.Mean: _function(lambda op: lambda x: x.mean((2, 3), keepdim=op.keep_dims)),
    ir.Reshape: _function(lambda op: lambda x: x.permute(0, 2, 3, 1).flatten(1)),
    ir.Softmax: _function(lambda op: lambda x: F.softmax(op.beta * x, dim=1)),
    ir.Logistic: _function(lambda op: torch.sigmoid),
    ir.HardSwish: _function(lambda op: F.hardswish),
    ir.LeakyRelu: _function(lambda op: lambda x: F.leaky_relu(x, op.alpha)),
    ir.Quantize: _function(lambda op: lambda x: x),
}
"""By operator class: makes the module of an operator of a network."""
