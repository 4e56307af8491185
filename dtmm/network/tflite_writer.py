"""Writes an int8 network as a standard .tflite file, for TFLM's and LiteRT's interpreters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dtmm.errors import ToolchainError, UnsupportedError
from dtmm.network import ir
from dtmm.network.tflite_ops import ENCODERS

if TYPE_CHECKING:
    from dtmm.quantization.quantized import QuantizedNetwork, QuantizedTensor

ALIGNMENT = 64
"""Of constant buffers: TFLM needs 16 bytes, LiteRT hands constants of 64 to custom operators."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class CustomOperator:
    """What takes the place of an operator of one input: it reads that input and one constant.

    Attributes:
        code: the name under which an interpreter knows it.
        options: bytes that it interprets itself.
        constant: its weights, as bytes.
    """

    code: str
    options: bytes
    constant: bytes


def write_tflite(
    network: QuantizedNetwork,
    custom: Mapping[str, CustomOperator] | None = None,
    metadata: Mapping[str, bytes] | None = None,
) -> bytes:
    """The network as a flatbuffer: zeros stored densely, one subgraph, version 3 of the schema.

    Args:
        custom: by operator's name, what is written instead of it.
        metadata: entries of the file by name, beside the graph; interpreters pass over them.

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
    writer = TfliteWriter(schema, network)
    custom = custom or {}
    for op in network.ops:
        if op.name in custom:
            writer.custom(op, custom[op.name])
            continue
        handler = ENCODERS.get(type(op))
        if handler is None:
            raise UnsupportedError(f"{type(op).__name__} '{op.name}' has no .tflite form")
        handler(writer, op)
    builder = flatbuffers.Builder(1 << 16)
    model = writer.model(_aligned_buffer(schema), metadata or {})
    builder.Finish(model.Pack(builder), b"TFL3")
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


class TfliteWriter:
    """Collects tensors, operators and constants."""

    def __init__(self, schema: Any, network: QuantizedNetwork) -> None:
        self.schema = schema
        self.network = network
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._constants: list[bytes | None] = [None]  # buffer 0 is empty by convention
        self._codes: dict[tuple[int, int, str | None], int] = {}
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
        self,
        name: str,
        values: Array,
        scales: Array | None = None,
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        """A new constant, quantized along an axis where scales are given."""
        kind = {np.dtype(np.int8): "INT8", np.dtype(np.int32): "INT32"}[values.dtype]
        return self._tensor(name, values.shape, kind, values.tobytes(), scales, zero_point, axis)

    def _tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: str,
        data: bytes | None,
        scales: Array | None,
        zero_point: int,
        axis: int = 0,
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
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def operator(
        self, kind: str, inputs: list[int], outputs: list[int], version: int, options: Any = None
    ) -> None:
        """Append an operator; `options` is one of the schema's ...OptionsT objects."""
        code = getattr(self.schema.BuiltinOperator, kind)
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((code, version, None), len(self._codes))
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(
                self.schema.BuiltinOptions, type(options).__name__.removesuffix("T")
            )
        self._operators.append(operator)

    def custom(self, op: Any, made: CustomOperator) -> None:
        """Append a custom operator in the place of `op`, which has one input."""
        data = np.frombuffer(made.constant, np.uint8)
        constant = self._tensor(f"{op.name}/constant", data.shape, "UINT8", made.constant, None, 0)
        operator = self.schema.OperatorT()
        code = (self.schema.BuiltinOperator.CUSTOM, 1, made.code)
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        operator.inputs = np.array([self.index(op.input), constant], np.int32)
        operator.outputs = np.array([self.index(op.output)], np.int32)
        operator.customOptions = np.frombuffer(made.options, np.uint8)
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

    def model(self, buffer_class: type, metadata: Mapping[str, bytes]) -> Any:
        """The schema's ModelT of all that was appended."""
        graph = self.schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self._tensors, self._operators
        graph.inputs = np.array([self.index(name) for name in self.network.inputs], np.int32)
        graph.outputs = np.array([self.index(name) for name in self.network.outputs], np.int32)
        model = self.schema.ModelT()
        model.version, model.description, model.subgraphs = 3, self.network.name, [graph]
        model.operatorCodes = []
        for code, version, name in self._codes:
            entry = self.schema.OperatorCodeT()
            entry.builtinCode, entry.version, entry.customCode = code, version, name
            entry.deprecatedBuiltinCode = min(code, 127)
            model.operatorCodes.append(entry)
        model.buffers, model.metadata = [], []
        for name, content in metadata.items():
            entry = self.schema.MetadataT()
            entry.name, entry.buffer = name, len(self._constants)
            model.metadata.append(entry)
            self._constants.append(content)
        for data in self._constants:
            buffer = buffer_class()
            buffer.data = None if data is None else np.frombuffer(data, np.uint8)
            model.buffers.append(buffer)
        return model
