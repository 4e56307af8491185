"""Runs a `Network` as a trainable `torch.nn.Module`: weights in, weights out, same structure.

Inside the executor tensors are torch's NCHW and convolution weights OIHW (in memory channels-last,
which is the network's own OHWI order). A *filterlet* that is exactly zero when the executor is made
is pruned: its gradient is masked and `apply_masks` holds it at exactly zero through training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtmm.errors import UnsupportedError
from dtmm.network import ir
from dtmm.network.groups import ChannelGroup, channel_groups
from dtmm.training.loop import to_tensor

Watch = Callable[[str, Tensor], None]
"""Called with every tensor's name and value (NCHW or [N, C]) as it is computed."""


def _activate(x: Tensor, activation: ir.Activation) -> Tensor:
    if activation is ir.Activation.RELU:
        return F.relu(x)
    if activation is ir.Activation.RELU6:
        return F.relu6(x)
    return x


def _pad(x: Tensor, padding: ir.Padding, value: float = 0.0) -> Tensor:
    top, left, bottom, right = padding
    return F.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


def _parameter(values: npt.NDArray[np.float32]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(values, dtype=np.float32)))


class _Operator(nn.Module):
    """One operator: `forward` computes it, `params` gives its weights in the network's layout."""

    def params(self) -> dict[str, Tensor]:
        return {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        return cast(Tensor, super().__call__(*inputs))


class _Convolution(_Operator):
    mask: Tensor | None

    def __init__(self, op: ir.Conv2D, network: ir.Network) -> None:
        super().__init__()
        weight = network.params[op.weight]
        self.op = op
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)).permute(0, 3, 1, 2))
        self.bias = None if op.bias is None else _parameter(network.params[op.bias])
        kept = np.any(weight != 0, axis=3, keepdims=True)
        mask = None if kept.all() else torch.from_numpy(kept.astype(np.float32)).permute(0, 3, 1, 2)
        self.register_buffer("mask", mask, persistent=False)
        if mask is not None:
            self.weight.register_hook(self._masked)  # type: ignore[no-untyped-call]

    def _masked(self, values: Tensor) -> Tensor:
        return values if self.mask is None else values * self.mask

    def apply_mask(self) -> None:
        if self.mask is not None:
            self.weight.mul_(self.mask)

    def forward(self, x: Tensor) -> Tensor:
        top, left, bottom, right = self.op.padding
        padding = (top, left)
        if padding != (bottom, right):
            x, padding = _pad(x, self.op.padding), (0, 0)
        stride, dilation = self.op.stride, self.op.dilation
        y = F.conv2d(x, self.weight, self.bias, stride, padding, dilation)
        return _activate(y, self.op.activation)

    def params(self) -> dict[str, Tensor]:
        weights = {self.op.weight: self.weight.permute(0, 2, 3, 1)}
        if self.op.bias is not None and self.bias is not None:
            weights[self.op.bias] = self.bias
        return weights


class _FullyConnected(_Operator):
    def __init__(self, op: ir.FullyConnected, network: ir.Network) -> None:
        super().__init__()
        self.op = op
        self.weight = _parameter(network.params[op.weight])
        self.bias = None if op.bias is None else _parameter(network.params[op.bias])

    def forward(self, x: Tensor) -> Tensor:
        return _activate(F.linear(x, self.weight, self.bias), self.op.activation)

    def params(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {self.op.weight: self.weight}
        if self.op.bias is not None and self.bias is not None:
            weights[self.op.bias] = self.bias
        return weights


class _BatchNorm(_Operator):
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


class _Activate(_Operator):
    def __init__(self, op: ir.Activate, network: ir.Network) -> None:
        super().__init__()
        self.activation = op.activation

    def forward(self, x: Tensor) -> Tensor:
        return _activate(x, self.activation)


class _Add(_Operator):
    def __init__(self, op: ir.Add, network: ir.Network) -> None:
        super().__init__()
        self.activation = op.activation

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return _activate(x + y, self.activation)


class _MaxPool(_Operator):
    def __init__(self, op: ir.MaxPool2D, network: ir.Network) -> None:
        super().__init__()
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        x = _pad(x, self.op.padding, value=-torch.inf)
        return F.max_pool2d(x, self.op.window, self.op.stride)


class _AveragePool(_Operator):
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


class _Mean(_Operator):
    def __init__(self, op: ir.Mean, network: ir.Network) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class _Reshape(_Operator):
    def __init__(self, op: ir.Reshape, network: ir.Network) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


_OPERATORS: Mapping[type, Callable[[Any, ir.Network], _Operator]] = {
    ir.Conv2D: _Convolution,
    ir.FullyConnected: _FullyConnected,
    ir.BatchNorm: _BatchNorm,
    ir.Activate: _Activate,
    ir.Add: _Add,
    ir.MaxPool2D: _MaxPool,
    ir.AveragePool2D: _AveragePool,
    ir.Mean: _Mean,
    ir.Reshape: _Reshape,
}


def _check(network: ir.Network) -> None:
    for what, names in (("input", network.inputs), ("output", network.outputs)):
        if len(names) != 1:
            raise UnsupportedError(
                f"network '{network.name}' has {len(names)} {what}s, the executor runs exactly one"
            )
    fields = ("weight", "bias", "scale", "shift", "mean", "variance")
    keys = [key for op in network.ops for f in fields if (key := getattr(op, f, None)) is not None]
    shared = next((key for key in keys if keys.count(key) > 1), None)
    if shared is not None:
        raise UnsupportedError(f"parameter '{shared}' of network '{network.name}' is used twice")


class Executor(nn.Module):
    """A `Network`, folded or not, as a module: float [N, C, H, W] in, [N, classes] out.

    Weights are copied, the network is not changed. Train mode gives batch normalization by batch
    statistics (and updates the running ones); eval mode uses the running ones.

    Raises:
        UnsupportedError: several inputs or outputs, or a parameter shared by two operators.
    """

    def __init__(self, network: ir.Network) -> None:
        super().__init__()
        _check(network)
        self.network = network
        self.operators = nn.ModuleList(_OPERATORS[type(op)](op, network) for op in network.ops)
        last = {name: i for i, op in enumerate(network.ops) for name in ir.op_inputs(op)}
        self._last_use = {name: i for name, i in last.items() if name not in network.outputs}

    @cached_property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """The network's channel groups."""
        return channel_groups(self.network)

    @cached_property
    def _group_of(self) -> dict[str, str]:
        return {t: group.name for group in self.groups if group.prunable for t in group.tensors}

    def gates(self) -> dict[str, Tensor]:
        """A gate of ones, [C] float32 with gradient, for every prunable channel group."""
        prunable = [group for group in self.groups if group.prunable]
        return {group.name: torch.ones(group.channels, requires_grad=True) for group in prunable}

    def forward(
        self,
        x: Tensor,
        gates: Mapping[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """Computes the outputs.

        Args:
            x: [N, C, H, W] float.
            gates: per channel group, [C] factors. A gate is applied where a convolution or fully
                connected layer *reads* a tensor of the group, so that each path out of the group
                passes it exactly once however many adds lie inside: with zeros it equals physical
                removal, and its gradient is the first-order term of that removal.
            watch: called with every tensor as it is computed.
        """
        values = {self.network.inputs[0]: x}
        if watch is not None:
            watch(self.network.inputs[0], x)
        for i, (op, operator) in enumerate(zip(self.network.ops, self.operators, strict=True)):
            inputs = [values[name] for name in ir.op_inputs(op)]
            if gates is not None and isinstance(op, ir.Conv2D | ir.FullyConnected):
                inputs = [self._gated(op.input, inputs[0], gates)]
            values[op.output] = operator(*inputs)
            if watch is not None:
                watch(op.output, values[op.output])
            for name in ir.op_inputs(op):
                if self._last_use.get(name) == i:
                    values.pop(name, None)
        return values[self.network.outputs[0]]

    def _gated(self, tensor: str, value: Tensor, gates: Mapping[str, Tensor]) -> Tensor:
        gate = gates.get(self._group_of.get(tensor, ""))
        if gate is None:
            return value
        if value.ndim == 4:
            return value * gate[:, None, None]
        return value * gate.repeat(value.shape[1] // gate.shape[0])  # flattened NHWC

    def batch_norms(self) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
        """The batch normalization modules, in execution order."""
        return [operator.norm for operator in self.operators if isinstance(operator, _BatchNorm)]

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Sets every pruned filterlet to exactly zero; call it after each optimizer step."""
        for operator in self.operators:
            if isinstance(operator, _Convolution):
                operator.apply_mask()

    def weight(self, name: str) -> Tensor:
        """The weight parameter of a convolution (OIHW) or fully connected layer ([C_out, C_in])."""
        for op, operator in zip(self.network.ops, self.operators, strict=True):
            if op.name == name and isinstance(operator, _Convolution | _FullyConnected):
                return operator.weight
        raise UnsupportedError(f"layer '{name}' of network '{self.network.name}' has no weight")

    def to_network(self) -> ir.Network:
        """The network with this executor's weights and batch normalization statistics, float32."""
        params = dict(self.network.params)
        for operator in cast(Sequence[_Operator], self.operators):
            for key, value in operator.params().items():
                array = value.detach().cpu().float().numpy()
                params[key] = np.array(array, dtype=np.float32, order="C")
        return replace(self.network, params=params)


@torch.no_grad()
def run_float(
    network: ir.Network, images: npt.NDArray[np.float32], batch: int = 256
) -> npt.NDArray[np.float32]:
    """Logits of a float network, computed in eval mode.

    Args:
        network: folded or not.
        images: [N, H, W, C] float32, preprocessed as in training.
        batch: images per forward pass.

    Returns:
        [N, classes] float32.
    """
    executor = Executor(network).eval()
    logits = [executor(to_tensor(images[i : i + batch])) for i in range(0, len(images), batch)]
    return torch.cat(logits).numpy()
