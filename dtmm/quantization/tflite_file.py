"""A .tflite file as plain data: bounded, checked, independent of the flatbuffer it came from.

The file is not trusted. Python's flatbuffers follow any offset, so nothing is read without a limit
on how much of it there may be, and whatever they raise on a malformed file becomes a DataError.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dtmm.errors import DataError, ToolchainError, UnsupportedError
from dtmm.quantization.tflite_external import ExternalBuffers

MOST_OPERATORS = 4096
MOST_TENSORS = 16384
MOST_OPERANDS = 256
MOST_ELEMENTS = 1 << 28
"""Of one tensor: 256 MiB of int8."""
MOST_CHANNELS = 1 << 14
"""Scales of one tensor."""
SCALES = (1e-30, 1e9)
"""Smallest and largest: far beyond what makes sense, but products stay finite in float32."""
MOST_TEXT = 1 << 20
"""Bytes of all names together: a file may repeat one long name for every tensor."""

_MALFORMED = (struct.error, IndexError, KeyError, ValueError, TypeError, OverflowError)
"""What flatbuffers and numpy raise on offsets and lengths that make no sense."""

DTYPES: Mapping[str, type[np.generic]] = {
    "INT8": np.int8, "INT32": np.int32, "FLOAT32": np.float32, "INT64": np.int64,
    "UINT8": np.uint8, "INT16": np.int16,
}  # fmt: skip
"""Element types whose constants can be read; a file may name others."""


@dataclass(frozen=True)
class FileTensor:
    """A tensor of the file.

    Attributes:
        name: as in the file, perhaps empty, perhaps not unique.
        kind: element type by TFLite's name, such as INT8.
        data: the values of a constant, of `shape`; None for an activation.
        scales, zero_points: [n], equally long; empty where the tensor is not quantized.
        axis: the dimension that several scales belong to.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    data: npt.NDArray[Any] | None
    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int64]
    axis: int


@dataclass(frozen=True)
class FileOperator:
    """An operator of the file.

    Attributes:
        number: its position in execution order.
        kind: TFLite's name, such as CONV_2D; a custom operator's is CUSTOM and its own name.
        inputs: tensors by index, -1 for one that is left out.
        outputs: tensors by index.
        options: the schema's ...OptionsT object; with default values where the file has none.
    """

    number: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any


@dataclass(frozen=True)
class TfliteFile:
    """The one subgraph of a file; `inputs` and `outputs` index `tensors`."""

    description: str
    tensors: tuple[FileTensor, ...]
    operators: tuple[FileOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def parse_tflite(content: bytes, folder: Path | None = None) -> TfliteFile:
    """Read a file's bytes.

    Args:
        folder: where the files lie that it may name for its constants; None: it may name none.

    Raises:
        DataError: it is no .tflite model, or malformed, or a file that it names cannot be read.
        UnsupportedError: several subgraphs, or constants in other files in a form not known.
        ToolchainError: the [tflite] extra is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise ToolchainError(
            f"reading .tflite needs {error.name}: pip install 'dtmm[tflite]'"
        ) from None
    if content[4:8] != b"TFL3":
        raise DataError(f"it begins with {content[:8].hex(' ')!r}, expected a .tflite file (TFL3)")
    try:
        return _Parser(schema, content, folder).file()
    except _MALFORMED as error:
        raise DataError(f"malformed .tflite: {type(error).__name__}: {error}") from None


class _Parser:
    def __init__(self, schema: Any, content: bytes, folder: Path | None) -> None:
        self.schema, self.content = schema, content
        self.model = schema.Model.GetRootAs(content, 0)
        self.kinds = _names(schema.BuiltinOperator)
        self.types = _names(schema.TensorType)
        self.text_left = MOST_TEXT
        self.external = ExternalBuffers(self.model, folder)

    def file(self) -> TfliteFile:
        if (count := self.model.SubgraphsLength()) != 1:
            raise UnsupportedError(f"the model has {count} subgraphs, expected 1")
        graph = self.model.Subgraphs(0)
        tensors = _bounded("tensors", graph.TensorsLength(), MOST_TENSORS)
        operators = _bounded("operators", graph.OperatorsLength(), MOST_OPERATORS)
        _bounded("buffers", self.model.BuffersLength(), MOST_TENSORS)
        file = TfliteFile(
            description=self._text(self.model.Description()),
            tensors=tuple(self._tensor(graph.Tensors(n)) for n in range(tensors)),
            operators=tuple(self._operator(n, graph.Operators(n)) for n in range(operators)),
            inputs=_indices(graph.InputsAsNumpy()),
            outputs=_indices(graph.OutputsAsNumpy()),
        )
        _check_indices(file)
        return file

    def _tensor(self, tensor: Any) -> FileTensor:
        shape = _indices(tensor.ShapeAsNumpy())
        name = self._text(tensor.Name())
        elements = math.prod(shape)
        if min(shape, default=1) < 0 or elements > MOST_ELEMENTS:
            raise DataError(f"tensor {name!r} has shape {shape}, expected at most 2^28 elements")
        kind = self.types.get(tensor.Type(), f"type {tensor.Type()}")
        scales, zero_points, axis = _quantization(tensor.Quantization())
        outside = tensor.ExternalBuffer()
        data = self.external.read(outside) if outside else self._constant(tensor.Buffer())
        values = None if data is None else _values(name, data, kind, shape)
        return FileTensor(name, shape, kind, values, scales, zero_points, axis)

    def _constant(self, number: int) -> npt.NDArray[np.uint8] | None:
        """The bytes of a buffer, inside the flatbuffer or behind it; None for an activation."""
        if not 0 <= number < self.model.BuffersLength():
            raise DataError(f"a tensor names buffer {number} of {self.model.BuffersLength()}")
        buffer = self.model.Buffers(number)
        if buffer.Offset() > 1:
            end = buffer.Offset() + buffer.Size()
            if end > len(self.content):
                raise DataError(f"buffer {number} ends at byte {end} of {len(self.content)}")
            return np.frombuffer(self.content, np.uint8)[buffer.Offset() : end]
        data = buffer.DataAsNumpy()
        return np.asarray(data, np.uint8) if isinstance(data, np.ndarray) and data.size else None

    def _operator(self, number: int, operator: Any) -> FileOperator:
        code = self.model.OperatorCodes(operator.OpcodeIndex())
        if operator.OpcodeIndex() >= self.model.OperatorCodesLength():
            raise DataError(
                f"operator {number} names code {operator.OpcodeIndex()}, beyond the list"
            )
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        kind = self.kinds.get(builtin, f"builtin {builtin}")
        if kind == "CUSTOM":
            kind = f"CUSTOM {self._text(code.CustomCode())}"
        inputs, outputs = operator.InputsAsNumpy(), operator.OutputsAsNumpy()
        return FileOperator(
            number, kind, _indices(inputs), _indices(outputs), self._options(kind, operator)
        )

    def _text(self, raw: bytes | None) -> str:
        text = b"" if raw is None else raw
        self.text_left -= len(text)
        if self.text_left < 0:
            raise DataError(f"the model's names are longer than {MOST_TEXT} bytes together")
        return text.decode("utf-8", "replace")

    def _options(self, kind: str, operator: Any) -> Any:
        name = OPTIONS.get(kind)
        if name is None:
            return None
        made = getattr(self.schema, f"{name}T")
        table = operator.BuiltinOptions()
        if table is None or operator.BuiltinOptionsType() != getattr(
            self.schema.BuiltinOptions, name
        ):
            return made()
        view = getattr(self.schema, name)()
        view.Init(table.Bytes, table.Pos)
        return made.InitFromObj(view)


OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "MUL": "MulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "SOFTMAX": "SoftmaxOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
}
"""Operators whose options are read; all of them are numbers."""


def _names(enum: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


def _bounded(what: str, count: int, most: int) -> int:
    if count > most:
        raise DataError(f"the model has {count} {what}, expected at most {most}")
    return count


def _indices(values: Any) -> tuple[int, ...]:
    """A vector of the file; flatbuffers give 0 for one that is absent."""
    if not isinstance(values, np.ndarray):
        return ()
    _bounded("entries of a vector", values.size, MOST_OPERANDS)
    return tuple(values.tolist())


def _quantization(
    table: Any,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int]:
    nothing = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if table is None:
        return nothing
    scales, zero_points = table.ScaleAsNumpy(), table.ZeroPointAsNumpy()
    if not isinstance(scales, np.ndarray) or not scales.size:
        return nothing
    if not isinstance(zero_points, np.ndarray) or not zero_points.size:
        zero_points = np.zeros(scales.size, np.int64)
    _bounded("scales of a tensor", scales.size, MOST_CHANNELS)
    if zero_points.size == 1:
        zero_points = np.broadcast_to(zero_points, scales.shape)
    if zero_points.size != scales.size:
        raise DataError(f"a tensor has {scales.size} scales and {zero_points.size} zero points")
    if not ((scales >= SCALES[0]) & (scales <= SCALES[1])).all():
        raise DataError(
            f"a tensor has scales from {scales.min():g} to {scales.max():g}, "
            f"expected {SCALES[0]:g} to {SCALES[1]:g}"
        )
    return scales, zero_points, int(table.QuantizedDimension())


def _values(
    name: str, data: npt.NDArray[np.uint8], kind: str, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    if kind not in DTYPES:
        raise UnsupportedError(f"constant {name!r} is of type {kind}, expected INT8 or INT32")
    dtype = np.dtype(DTYPES[kind])
    if data.size != math.prod(shape) * dtype.itemsize:
        raise DataError(
            f"constant {name!r} has {data.size} bytes, expected those of {kind} {list(shape)}"
        )
    return data.view(dtype).reshape(shape)


def _check_indices(file: TfliteFile) -> None:
    count = len(file.tensors)
    used = [(n, "the model") for n in (*file.inputs, *file.outputs)]
    for operator in file.operators:
        where = f"operator {operator.number} ({operator.kind})"
        used += [(n, where) for n in operator.outputs]
        used += [(n, where) for n in operator.inputs if n != -1]
    for n, where in used:
        if not 0 <= n < count:
            raise DataError(f"{where} names tensor {n}, expected 0 to {count - 1}")
