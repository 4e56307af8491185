"""Writes an int8 network as a standard .tflite file, for TFLM's and LiteRT's interpreters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dtmm.errors import ToolchainError, UnsupportedError
from dtmm.network import ir
from dtmm.network.shapes import window_extent

if TYPE_CHECKING:
    from dtmm.quantization.quantized import QuantizedNetwork, QuantizedTensor

ALIGNMENT = 64
"""Of constant buffers: TFLM needs 16 bytes, LiteRT hands constants of 64 to custom operators."""

Array = npt.NDArray[Any]


def write_tflite(network: QuantizedNetwork) -> bytes:
    """The network as a flatbuffer: zeros stored densely, one subgraph, version 3 of the schema.

    Padding that is neither TFLite's SAME nor VALID becomes a PAD (PADV2) operator before the
    convolution (maximum). TFLM runs the file as `dtmm.quantization.run` does, byte for byte;
    LiteRT's reference kernels differ in FULLY_CONNECTED, which they round once.

    Raises:
        ToolchainError: the [tflite] extra is not installed.
        UnsupportedError: an operator or a padding that .tflite cannot express.
    """
    try:
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise ToolchainError(
            f"writing .tflite needs {error.name}: pip install 'dtmm[tflite]'"
        ) from None
    writer = _Writer(schema, network)
    for op in network.ops:
        handler = _HANDLERS.get(type(op))
        if handler is None:
            raise UnsupportedError(f"{type(op).__name__} '{op.name}' has no .tflite form")
        handler(writer, op)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(writer.model(_aligned_buffer(schema)).Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _aligned_buffer(schema: Any) -> type:
    """A BufferT that packs its data at ALIGNMENT, which the Python generator does not do itself."""

    class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> Any:  # noqa: N802 (flatbuffers' name)
            vector = None
            if self.data is not None:
                content = np.asarray(self.data, np.uint8).tobytes()
                builder.StartVector(1, len(content), ALIGNMENT)
                builder.head -= len(content)
                builder.Bytes[builder.head : builder.head + len(content)] = content
                vector = builder.EndVector()
            schema.BufferStart(builder)
            if vector is not None:
                schema.BufferAddData(builder, vector)
            return schema.BufferEnd(builder)

    return AlignedBuffer


class _Writer:
    """Collects tensors, operators and constants."""

    def __init__(self, schema: Any, network: QuantizedNetwork) -> None:
        self.schema = schema
        self.network = network
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._constants: list[bytes | None] = [None]  # buffer 0 is empty by convention
        self._codes: dict[tuple[int, int], int] = {}
        self._index = {
            name: self.activation(name, tensor) for name, tensor in network.tensors.items()
        }

    def index(self, name: str) -> int:
        """Position of an activation of the network."""
        return self._index[name]

    def activation(self, name: str, like: QuantizedTensor, shape: ir.Shape | None = None) -> int:
        """A new int8 activation with the scale of `like`."""
        return self._tensor(
            name,
            shape or like.shape,
            "INT8",
            None,
            np.array([like.scale], np.float32),
            like.zero_point,
        )

    def constant(
        self, name: str, values: Array, scales: Array | None = None, zero_point: int = 0
    ) -> int:
        """A new constant, quantized along its first axis where scales are given."""
        kind = {np.dtype(np.int8): "INT8", np.dtype(np.int32): "INT32"}[values.dtype]
        return self._tensor(name, values.shape, kind, values.tobytes(), scales, zero_point)

    def _tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: str,
        data: bytes | None,
        scales: Array | None,
        zero_point: int,
    ) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = name, np.array(shape, np.int32), True
        tensor.type = getattr(self.schema.TensorType, kind)
        tensor.buffer = 0
        if data is not None:
            self._constants.append(data)
            tensor.buffer = len(self._constants) - 1
        if scales is not None:
            quantization = self.schema.QuantizationParametersT()
            quantization.scale = np.asarray(scales, np.float32)
            quantization.zeroPoint = np.full(len(scales), zero_point, np.int64)
            quantization.quantizedDimension = 0
            tensor.quantization = quantization
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def operator(
        self, kind: str, inputs: list[int], outputs: list[int], version: int, options: Any = None
    ) -> None:
        """Append an operator; `options` is one of the schema's ...OptionsT objects."""
        code = getattr(self.schema.BuiltinOperator, kind)
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((code, version), len(self._codes))
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(
                self.schema.BuiltinOptions, type(options).__name__.removesuffix("T")
            )
        self._operators.append(operator)

    def options(self, kind: str, **fields: Any) -> Any:
        """A ...OptionsT object with these fields."""
        options = getattr(self.schema, f"{kind}T")()
        for name, value in fields.items():
            setattr(options, name, value)
        return options

    def fused(self, activation: ir.Activation) -> int:
        kinds = self.schema.ActivationFunctionType
        return int({"none": kinds.NONE, "relu": kinds.RELU, "relu6": kinds.RELU6}[activation.value])

    def padding(self, same: bool) -> int:
        return int(self.schema.Padding.SAME if same else self.schema.Padding.VALID)

    def model(self, buffer_class: type) -> Any:
        graph = self.schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self._tensors, self._operators
        graph.inputs = np.array([self.index(name) for name in self.network.inputs], np.int32)
        graph.outputs = np.array([self.index(name) for name in self.network.outputs], np.int32)
        model = self.schema.ModelT()
        model.version, model.description, model.subgraphs = 3, self.network.name, [graph]
        model.operatorCodes = []
        for code, version in self._codes:
            entry = self.schema.OperatorCodeT()
            entry.builtinCode, entry.version = code, version
            entry.deprecatedBuiltinCode = min(code, 127)
            model.operatorCodes.append(entry)
        model.buffers = []
        for data in self._constants:
            buffer = buffer_class()
            buffer.data = None if data is None else np.frombuffer(data, np.uint8)
            model.buffers.append(buffer)
        return model


def same_padding(size: int, extent: int, stride: int) -> tuple[int, int]:
    """TFLite's SAME along one axis: (before, after)."""
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def _is_same(shape: ir.Shape, kernel: ir.Pair, stride: ir.Pair, padding: ir.Padding) -> bool:
    top, bottom = same_padding(shape[1], kernel[0], stride[0])
    left, right = same_padding(shape[2], kernel[1], stride[1])
    return padding == (top, left, bottom, right)


def _conv(writer: _Writer, op: ir.Conv2D) -> None:
    network = writer.network
    weight, shape = network.params[op.weight], network.tensors[op.input].shape
    extent = window_extent((weight.shape[1], weight.shape[2]), op.dilation)
    same = _is_same(shape, extent, op.stride, op.padding)
    source = writer.index(op.input) if same else _padded(writer, op)
    options = writer.options(
        "Conv2DOptions",
        padding=writer.padding(same),
        strideH=op.stride[0],
        strideW=op.stride[1],
        dilationHFactor=op.dilation[0],
        dilationWFactor=op.dilation[1],
        fusedActivationFunction=writer.fused(op.activation),
    )
    inputs = [source, *_weights(writer, op)]
    writer.operator("CONV_2D", inputs, [writer.index(op.output)], 3, options)


def _padded(writer: _Writer, op: ir.Conv2D | ir.MaxPool2D) -> int:
    """The operator's input with its explicit padding: zeros, or -128 for a maximum."""
    source = writer.index(op.input)
    if not any(op.padding):
        return source
    tensor = writer.network.tensors[op.input]
    _, height, width, channels = tensor.shape
    top, left, bottom, right = op.padding
    shape = (1, height + top + bottom, width + left + right, channels)
    padded = writer.activation(f"{op.name}/padded", tensor, shape)
    amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    inputs = [source, writer.constant(f"{op.name}/padding", amounts)]
    if isinstance(op, ir.Conv2D):
        writer.operator("PAD", inputs, [padded], 2, writer.options("PadOptions"))
    else:
        lowest = np.array([-128], np.int8)
        value = writer.constant(
            f"{op.name}/lowest", lowest, np.array([tensor.scale]), tensor.zero_point
        )
        options = writer.options("PadV2Options")
        writer.operator("PADV2", [*inputs, value], [padded], 2, options)
    return padded


def _weights(writer: _Writer, op: ir.Conv2D | ir.FullyConnected) -> list[int]:
    network = writer.network
    scales = network.weight_scales[op.weight]
    assert op.bias is not None, "a quantized layer has a bias"
    bias_scales = np.float32(network.tensors[op.input].scale) * scales
    return [
        writer.constant(op.weight, network.params[op.weight], scales),
        writer.constant(op.bias, network.params[op.bias], bias_scales),
    ]


def _fully_connected(writer: _Writer, op: ir.FullyConnected) -> None:
    options = writer.options(
        "FullyConnectedOptions", fusedActivationFunction=writer.fused(op.activation),
        keepNumDims=False, weightsFormat=0,
    )  # fmt: skip
    inputs = [writer.index(op.input), *_weights(writer, op)]
    writer.operator("FULLY_CONNECTED", inputs, [writer.index(op.output)], 4, options)


def _add(writer: _Writer, op: ir.Add) -> None:
    options = writer.options("AddOptions", fusedActivationFunction=writer.fused(op.activation))
    inputs = [writer.index(name) for name in op.inputs]
    writer.operator("ADD", inputs, [writer.index(op.output)], 2, options)


def _max_pool(writer: _Writer, op: ir.MaxPool2D) -> None:
    same = _is_same(writer.network.tensors[op.input].shape, op.window, op.stride, op.padding)
    source = writer.index(op.input) if same else _padded(writer, op)
    _pool(writer, "MAX_POOL_2D", op, source, same)


def _average_pool(writer: _Writer, op: ir.AveragePool2D) -> None:
    same = _is_same(writer.network.tensors[op.input].shape, op.window, op.stride, op.padding)
    if not same and any(op.padding):
        raise UnsupportedError(
            f"AveragePool2D '{op.name}' has padding {op.padding}: .tflite knows SAME and VALID only"
        )
    _pool(writer, "AVERAGE_POOL_2D", op, writer.index(op.input), same)


def _pool(
    writer: _Writer, kind: str, op: ir.MaxPool2D | ir.AveragePool2D, source: int, same: bool
) -> None:
    options = writer.options(
        "Pool2DOptions",
        padding=writer.padding(same),
        strideH=op.stride[0],
        strideW=op.stride[1],
        filterHeight=op.window[0],
        filterWidth=op.window[1],
        fusedActivationFunction=writer.fused(ir.Activation.NONE),
    )
    writer.operator(kind, [source], [writer.index(op.output)], 2, options)


def _mean(writer: _Writer, op: ir.Mean) -> None:
    axes = writer.constant(f"{op.name}/axes", np.array([1, 2], np.int32))
    options = writer.options("ReducerOptions", keepDims=False)
    writer.operator("MEAN", [writer.index(op.input), axes], [writer.index(op.output)], 2, options)


def _reshape(writer: _Writer, op: ir.Reshape) -> None:
    shape = np.array(writer.network.tensors[op.output].shape, np.int32)
    inputs = [writer.index(op.input), writer.constant(f"{op.name}/shape", shape)]
    options = writer.options("ReshapeOptions", newShape=shape)
    writer.operator("RESHAPE", inputs, [writer.index(op.output)], 1, options)


_HANDLERS: Mapping[type, Callable[[_Writer, Any], None]] = {
    ir.Conv2D: _conv,
    ir.FullyConnected: _fully_connected,
    ir.Add: _add,
    ir.MaxPool2D: _max_pool,
    ir.AveragePool2D: _average_pool,
    ir.Mean: _mean,
    ir.Reshape: _reshape,
}
