"""One-operator .tflite models and their answer by TFLM's interpreter, the oracle."""

from __future__ import annotations

from dataclasses import dataclass

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from tflite_micro import runtime


@dataclass(frozen=True)
class Quantized:
    """Scale(s) and zero point of a tensor."""

    scale: float | npt.NDArray[np.float32]
    zero_point: int = 0


class Model:
    """Tensors are added one by one; `answer` runs a single operator over them."""

    def __init__(self) -> None:
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.buffers = [], [schema.BufferT()]

    def tensor(
        self,
        shape: tuple[int, ...],
        quantized: Quantized | None,
        data: npt.NDArray[np.generic] | None = None,
    ) -> int:
        """Adds an int8 activation, or a constant of the data's type; returns its number."""
        tensor = schema.TensorT()
        tensor.shape, tensor.hasRank, tensor.buffer = np.array(shape, np.int32), True, 0
        is_int32 = data is not None and data.dtype == np.int32
        tensor.type = schema.TensorType.INT32 if is_int32 else schema.TensorType.INT8
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        if quantized is not None:
            parameters = schema.QuantizationParametersT()
            parameters.scale = np.atleast_1d(np.asarray(quantized.scale, np.float32))
            parameters.zeroPoint = np.full(parameters.scale.size, quantized.zero_point, np.int64)
            parameters.quantizedDimension = 0
            tensor.quantization = parameters
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def answer(
        self,
        code: int,
        options: object,
        inputs: list[int],
        output: int,
        images: dict[int, npt.NDArray[np.int8]],
        version: int = 1,
    ) -> npt.NDArray[np.int8]:
        """The output for these activations (by tensor number)."""
        operator = schema.OperatorT()
        operator.opcodeIndex = 0
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output])
        operator.builtinOptions = options
        kind = type(options).__name__.removesuffix("T")
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self.graph.operators = [operator]
        self.graph.inputs, self.graph.outputs = np.array(list(images), np.int32), np.array([output])
        opcode = schema.OperatorCodeT()
        opcode.builtinCode = opcode.deprecatedBuiltinCode = code
        opcode.version = version
        model = schema.ModelT()
        model.version, model.operatorCodes = 3, [opcode]
        model.subgraphs, model.buffers = [self.graph], self.buffers
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        interpreter = runtime.Interpreter.from_bytes(bytes(builder.Output()), arena_size=1 << 20)
        for position, image in enumerate(images.values()):
            interpreter.set_input(image, position)
        interpreter.invoke()
        result: npt.NDArray[np.int8] = interpreter.get_output(0)
        return result.copy()


def quantize_multiplier(real: float) -> tuple[int, int]:
    """TFLite's QuantizeMultiplier: real = multiplier / 2^31 * 2^shift."""
    if real == 0:
        return 0, 0
    mantissa, exponent = np.frexp(real)
    multiplier = int(np.floor(float(mantissa) * (1 << 31) + 0.5))
    if multiplier == 1 << 31:
        multiplier, exponent = multiplier // 2, exponent + 1
    return multiplier, int(exponent)
