"""Runs a `Network` as a trainable `torch.nn.Module`: weights in, weights out, same structure.

Inside the executor tensors are torch's NCHW and convolution weights OIHW (in memory channels-last,
which is the network's own OHWI order). A *filterlet* that is exactly zero when the executor is made
is pruned, or whatever else the caller's masks say (`dtmm.training.masks`): a pruned weight gets no
gradient, and `apply_masks` holds it at exactly zero through training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dtmm.errors import UnsupportedError
from dtmm.network import ir
from dtmm.network.groups import ChannelGroup, channel_groups
from dtmm.training.hardware import device_of
from dtmm.training.loop import to_tensor
from dtmm.training.masks import Masks, check_masks, filterlet_masks
from dtmm.training.operators import OPERATORS, BatchNormOperator, Layer, Operator

Watch = Callable[[str, Tensor], None]
"""Called with every tensor's name and value (NCHW or [N, C]) as it is computed."""


def _check(network: ir.Network) -> None:
    for what, names in (("input", network.inputs), ("output", network.outputs)):
        if len(names) != 1:
            raise UnsupportedError(
                f"network '{network.name}' has {len(names)} {what}s, the executor runs exactly one"
            )
    fields = ("weight", "bias", "scale", "shift", "mean", "variance", "constant")
    keys = [key for op in network.ops for f in fields if (key := getattr(op, f, None)) is not None]
    shared = next((key for key in keys if keys.count(key) > 1), None)
    if shared is not None:
        raise UnsupportedError(f"parameter '{shared}' of network '{network.name}' is used twice")


class Executor(nn.Module):
    """A `Network`, folded or not, as a module: float [N, C, H, W] in, [N, classes] out.

    Weights are copied, the network is not changed. A weight that `masks` rules out is zero from the
    start (None: `filterlet_masks`, the network's own zero filterlets). Train mode gives batch
    normalization by batch statistics (and updates the running ones); eval mode uses the running
    ones.

    Raises:
        UnsupportedError: several inputs or outputs, or a parameter shared by two operators.
        DtmmError: a mask that does not fit the network.
    """

    def __init__(self, network: ir.Network, masks: Masks | None = None) -> None:
        super().__init__()
        _check(network)
        masks = filterlet_masks(network) if masks is None else masks
        check_masks(network, masks)
        self.network = network
        self.operators = nn.ModuleList(OPERATORS[type(op)](op, network) for op in network.ops)
        for layer in self._layers():
            if layer.op.name in masks:
                layer.set_mask(masks[layer.op.name])
        last = {name: i for i, op in enumerate(network.ops) for name in ir.op_inputs(op)}
        self._last_use = {name: i for name, i in last.items() if name not in network.outputs}

    @cached_property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """The network's channel groups."""
        return channel_groups(self.network)

    @cached_property
    def _group_of(self) -> dict[str, str]:
        return {t: group.name for group in self.groups for t in group.tensors}

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return device_of(self)

    def gates(self) -> dict[str, Tensor]:
        """A gate of ones, [C] float32 with gradient, for every prunable channel group but virtual
        ones, whose gate is that of their segments."""
        own = [group for group in self.groups if group.prunable and not group.segments]
        return {
            group.name: torch.ones(group.channels, device=self.device, requires_grad=True)
            for group in own
        }

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
        self.advance(values, 0, len(self.operators), gates, watch)
        return values[self.network.outputs[0]]

    def advance(
        self,
        values: dict[str, Tensor],
        first: int,
        last: int,
        gates: Mapping[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Runs operators `first` to `last` - 1 on `values`, the tensors by name that are alive
        before the first of them; afterwards it holds those alive after the last. Tensors are
        replaced, never changed, so that a copy of the dict is a place to start from again."""
        if gates is not None:
            gates = self._with_virtual(gates)
        for i in range(first, last):
            op, operator = self.network.ops[i], self.operators[i]
            inputs = [values[name] for name in ir.op_inputs(op)]
            if gates is not None and isinstance(op, ir.Conv2D | ir.FullyConnected):
                inputs = [self._gated(op.input, inputs[0], gates)]
            values[op.output] = operator(*inputs)
            if watch is not None:
                watch(op.output, values[op.output])
            for name in ir.op_inputs(op):
                if self._last_use.get(name) == i:
                    values.pop(name, None)

    def _with_virtual(self, gates: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Also the gates of concatenations; segments without a gate have one of ones."""
        every = dict(gates)
        channels = {group.name: group.channels for group in self.groups}
        for group in self.groups:
            if every.keys() & set(group.segments):
                ones = {n: torch.ones(channels[n], device=self.device) for n in group.segments}
                every[group.name] = torch.cat([every.get(n, ones[n]) for n in group.segments])
        return every

    def _gated(self, tensor: str, value: Tensor, gates: Mapping[str, Tensor]) -> Tensor:
        gate = gates.get(self._group_of[tensor])
        if gate is None:
            return value
        if value.ndim == 4:
            return value * gate[:, None, None]
        return value * gate.repeat(value.shape[1] // gate.shape[0])  # flattened NHWC

    def batch_norms(self) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
        """The batch normalization modules, in execution order."""
        return [
            operator.norm for operator in self.operators if isinstance(operator, BatchNormOperator)
        ]

    def _layers(self) -> list[Layer]:
        return [operator for operator in self.operators if isinstance(operator, Layer)]

    def apply_masks(self) -> None:
        """Sets every pruned weight to exactly zero.

        SGD, Adam and their like leave them there by themselves, as they get no gradient; after a
        step of anything else, call this.
        """
        for layer in self._layers():
            layer.apply_mask()

    def weight(self, name: str) -> Tensor:
        """The weight parameter of a convolution (OIHW) or fully connected layer ([C_out, C_in])."""
        for layer in self._layers():
            if layer.op.name == name:
                return layer.weight
        raise UnsupportedError(f"layer '{name}' of network '{self.network.name}' has no weight")

    def to_network(self) -> ir.Network:
        """The network with this executor's weights and batch normalization statistics, float32."""
        self.apply_masks()
        params = dict(self.network.params)
        for operator in cast(Sequence[Operator], self.operators):
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
