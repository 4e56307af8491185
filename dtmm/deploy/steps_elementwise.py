"""The C statements of depthwise convolutions and of what scales, looks up or moves values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dtmm.deploy.constants import table_of
from dtmm.network import ir
from dtmm.quantization.nonlinear import softmax_table
from dtmm.quantization.parameters import ADD_LEFT_SHIFT, add_parameters, mul_rescale

if TYPE_CHECKING:
    from dtmm.deploy.steps import Scope


def _depthwise(scope: Scope, op: ir.DepthwiseConv2D) -> list[str]:
    layer, number = scope.deployment.layers[op.name], scope.layer_ids[op.name]
    channels, kernel_h, kernel_w, _ = scope.network.params[op.weight].shape
    geometry = (kernel_h, kernel_w, *op.stride, *op.dilation, op.padding[0], op.padding[1])
    scratch, size = scope.scratch(op)
    return [
        f"static const dtmm_conv_params conv = {{{', '.join(map(str, geometry))}, "
        f"{scope.output(op)}}};",
        "static const dtmm_conv_weights weights = {"
        f".out_channels = {channels}, .in_stride = {layer.in_stride}, "
        f".weights = dtmm_model_weights_{number}, .params = dtmm_model_params_{number}}};",
        scope.tensor("in", op.input),
        scope.tensor("out", op.output),
        f"return dtmm_depthwise_conv_s8(&conv, &weights, &in, &out, {scratch}, {size});",
    ]


def _lookup(scope: Scope, op: ir.Lookup | ir.Binary) -> list[str]:
    zero_point = scope.network.tensors[op.output].zero_point
    return [
        scope.tensor("in", ir.op_inputs(op)[0]),
        scope.tensor("out", op.output),
        f"return dtmm_lookup_s8(dtmm_model_weights_{scope.layer_ids[op.name]}, {zero_point}, &in, "
        "&out);",
    ]


def _operands(scope: Scope, op: ir.Binary) -> tuple[list[str], bool, bool]:
    """Declarations of the views a and b and of out; whether b is a pixel; whether a came second."""
    shapes = [scope.network.tensors[name].shape for name in op.inputs]
    if op.constant is not None:
        number, channels = scope.layer_ids[op.name], shapes[0][-1]
        # A view has no const twin; the operator only reads this one.
        first, pixel, swapped = op.inputs[0], True, False
        second = (
            f"const dtmm_tensor b = {{(int8_t *)dtmm_model_weights_{number}, 1, 1, {channels}, "
            f"{channels}, {channels}, 0}};"
        )
    else:
        swapped = int(np.prod(shapes[0])) < int(np.prod(shapes[1]))
        first, other = op.inputs[::-1] if swapped else op.inputs
        pixel = int(np.prod(shapes[0])) != int(np.prod(shapes[1]))
        second = scope.tensor("b", other)
    lines = [scope.tensor("a", first), second, scope.tensor("out", op.output)]
    return lines, pixel, swapped


def _add(scope: Scope, op: ir.Add) -> list[str]:
    if table_of(scope.network, op) is not None:
        return _lookup(scope, op)
    parameters = add_parameters(scope.network, op)
    lines, pixel, swapped = _operands(scope, op)
    operands = [
        f"{zero_point}, {rescale.multiplier}, {rescale.shift}"
        for (_, zero_point), rescale in zip(
            scope.network.operands(op), parameters.inputs, strict=True
        )
    ]
    if swapped:
        operands.reverse()
    output = f"{parameters.output.multiplier}, {parameters.output.shift}"
    return [
        f"static const dtmm_add_params add = {{{', '.join(operands)}, {ADD_LEFT_SHIFT}, "
        f"{output}, {scope.output(op)}}};",
        *lines,
        f"return dtmm_add_{'broadcast_' if pixel else ''}s8(&add, &a, &b, &out);",
    ]


def _mul(scope: Scope, op: ir.Mul) -> list[str]:
    if table_of(scope.network, op) is not None:
        return _lookup(scope, op)
    rescale = mul_rescale(scope.network, op)
    lines, pixel, swapped = _operands(scope, op)
    zero_points = [zero_point for _, zero_point in scope.network.operands(op)]
    if swapped:
        zero_points.reverse()
    return [
        f"static const dtmm_mul_params mul = {{{zero_points[0]}, {zero_points[1]}, "
        f"{rescale.multiplier}, {rescale.shift}, {scope.output(op)}}};",
        *lines,
        f"return dtmm_mul_{'broadcast_' if pixel else ''}s8(&mul, &a, &b, &out);",
    ]


def _softmax(scope: Scope, op: ir.Softmax) -> list[str]:
    values = softmax_table(scope.network, op).exponentials.tolist()
    return [
        f"static const int32_t exponentials[{len(values)}] = {{{', '.join(map(str, values))}}};",
        f"static const dtmm_softmax_params softmax = {{exponentials, {len(values)}}};",
        scope.tensor("in", op.input),
        scope.tensor("out", op.output),
        "return dtmm_softmax_s8(&softmax, &in, &out);",
    ]


def _concat(scope: Scope, op: ir.Concat) -> list[str]:
    zero_point = scope.network.tensors[op.output].zero_point
    views = ", ".join(f"at(arena, {scope.views[name]})" for name in op.inputs)
    return [
        f"const dtmm_tensor in[{len(op.inputs)}] = {{{views}}};",
        scope.tensor("out", op.output),
        f"return dtmm_concat_s8({zero_point}, in, {len(op.inputs)}, &out);",
    ]


def _pad(scope: Scope, op: ir.Pad) -> list[str]:
    zero_point = scope.network.tensors[op.output].zero_point
    return [
        scope.tensor("in", op.input),
        scope.tensor("out", op.output),
        f"return dtmm_pad_s8({zero_point}, {op.padding[0]}, {op.padding[1]}, &in, &out);",
    ]


def _strided_slice(scope: Scope, op: ir.StridedSlice) -> list[str]:
    zero_point = scope.network.tensors[op.output].zero_point
    fields = ", ".join(map(str, (*op.begin, *op.stride)))
    return [
        f"static const dtmm_strided_slice_params slice = {{{fields}}};",
        scope.tensor("in", op.input),
        scope.tensor("out", op.output),
        f"return dtmm_strided_slice_s8(&slice, {zero_point}, &in, &out);",
    ]


WRITERS: Mapping[type, Callable[[Scope, Any], list[str]]] = {
    ir.DepthwiseConv2D: _depthwise,
    ir.Add: _add,
    ir.Mul: _mul,
    ir.Concat: _concat,
    ir.Pad: _pad,
    ir.StridedSlice: _strided_slice,
    ir.Softmax: _softmax,
    ir.Logistic: _lookup,
    ir.HardSwish: _lookup,
    ir.LeakyRelu: _lookup,
    ir.Quantize: _lookup,
}
"""By operator class: the body of its C function."""
