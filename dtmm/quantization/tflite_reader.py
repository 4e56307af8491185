"""Reads an int8 .tflite file as a `QuantizedNetwork`.

Operators at the border that only change between float or uint8 and int8 are left out: the network
begins and ends with int8. Operators that compute shapes (SHAPE, PACK, ... on int32) are folded: a
file states the shape of every tensor. What `tflite_decoders` does not know is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dtmm.errors import DataError, DtmmError, UnsupportedError
from dtmm.network import ir
from dtmm.network.check import check
from dtmm.quantization.dequantize import dequantize
from dtmm.quantization.quantized import QuantizedNetwork, QuantizedTensor
from dtmm.quantization.tflite_decoders import DECODERS
from dtmm.quantization.tflite_file import FileOperator, FileTensor, TfliteFile, parse_tflite

LARGEST_FILE = 1 << 30
"""Bytes."""


def load_tflite(path: Path) -> QuantizedNetwork:
    """The network of a file, named after it.

    Raises:
        DataError: the file cannot be read, is larger than LARGEST_FILE or malformed.
        UnsupportedError, ToolchainError: see `read_tflite`.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(f"model {path} has {path.stat().st_size} bytes, expected at most 2^30")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read model {path}: {error.strerror}") from None
    try:
        return read_tflite(content, path.stem, path.parent)
    except DataError as error:
        raise DataError(f"model {path}: {error}") from None
    except UnsupportedError as error:
        raise UnsupportedError(f"model {path}: {error}") from None


def read_tflite(content: bytes, name: str, folder: Path | None = None) -> QuantizedNetwork:
    """The network that a file's bytes hold.

    Args:
        folder: see `parse_tflite`.

    Raises:
        DataError: malformed, or shapes, scales and constants that do not fit together.
        UnsupportedError: a float or hybrid model, an operator or a form of one that is not
            supported, a batch other than 1.
        ToolchainError: the [tflite] extra is not installed.
    """
    file = parse_tflite(content, folder)
    network = TfliteReader(file).network(name)
    try:
        check(dequantize(network))
    except UnsupportedError:
        raise
    except DtmmError as error:
        raise DataError(str(error)) from None
    return network


OUTSIDE = ("FLOAT32", "UINT8")
"""Types that a model may have at its border, where a QUANTIZE makes int8 of them."""


class TfliteReader:
    """Collects the operators, tensors and parameters of a network from those of a file."""

    def __init__(self, file: TfliteFile) -> None:
        self.file = file
        self.ops: list[ir.Op] = []
        self.params: dict[str, npt.NDArray[np.int8] | npt.NDArray[np.int32]] = {}
        self.weight_scales: dict[str, npt.NDArray[np.float32]] = {}
        self.zero_points: dict[str, int] = {}
        self.tensors: dict[str, QuantizedTensor] = {}
        self._names = _unique([tensor.name for tensor in file.tensors])
        self._same: dict[int, int] = {}
        self._kept: dict[int, ir.Shape] = {}
        self._op_names: dict[str, int] = {}

    def network(self, name: str) -> QuantizedNetwork:
        """Everything decoded."""
        inputs, outputs = list(self.file.inputs), list(self.file.outputs)
        for operator in self.file.operators:
            if self._shapes_only(operator):
                continue
            if operator.kind == "QUANTIZE" and self._kind(operator.inputs[:1]) in OUTSIDE:
                if operator.inputs[0] not in inputs:
                    kind = self._kind(operator.inputs[:1])
                    raise UnsupportedError(f"{self.where(operator)} reads {kind} inside the model")
                inputs[inputs.index(operator.inputs[0])] = operator.outputs[0]
            elif operator.kind == "QUANTIZE" and self._kind(operator.outputs[:1]) == "UINT8":
                if operator.outputs[0] not in outputs:
                    raise UnsupportedError(f"{self.where(operator)} makes UINT8 inside the model")
                outputs[outputs.index(operator.outputs[0])] = operator.inputs[0]
            elif operator.kind == "DEQUANTIZE":
                if operator.outputs[0] not in outputs:
                    raise UnsupportedError(
                        f"{self.where(operator)} makes float32 inside the model: a hybrid model, "
                        "expected int8 from input to output"
                    )
                outputs[outputs.index(operator.outputs[0])] = operator.inputs[0]
            else:
                self._decode(operator)
        return QuantizedNetwork(
            name=name,
            tensors=self.tensors,
            ops=tuple(self.ops),
            params=self.params,
            weight_scales=self.weight_scales,
            zero_points=self.zero_points,
            inputs=tuple(self.activation(n) for n in inputs),
            outputs=tuple(self.activation(n) for n in outputs),
        )

    def _decode(self, operator: FileOperator) -> None:
        decode = DECODERS.get(operator.kind)
        if decode is None:
            raise UnsupportedError(
                f"{self.where(operator)} is not supported, expected one of {', '.join(DECODERS)}"
            )
        if not operator.inputs or len(operator.outputs) != 1:
            raise DataError(
                f"{self.where(operator)} has {len(operator.inputs)} inputs and "
                f"{len(operator.outputs)} outputs"
            )
        decode(self, operator)

    def _kind(self, tensors: Sequence[int]) -> str:
        return self.file.tensors[tensors[0]].kind if tensors and tensors[0] >= 0 else ""

    def _shapes_only(self, operator: FileOperator) -> bool:
        """Whether an operator computes with integers that only a RESHAPE's shape can be."""
        return bool(operator.outputs) and self._kind(operator.outputs) in ("INT32", "INT64")

    def where(self, operator: FileOperator) -> str:
        """How messages name an operator: its kind, number and what it writes."""
        made = self._names[operator.outputs[0]] if operator.outputs else "nothing"
        return f"operator {operator.number} {operator.kind} (makes '{made}')"

    def name(self, operator: FileOperator) -> str:
        """A unique name: that of the tensor it writes."""
        return self._names[operator.outputs[0]]

    def tensor(self, operator: FileOperator, position: int) -> FileTensor | None:
        """An operand; None where it is left out."""
        if position >= len(operator.inputs) or operator.inputs[position] < 0:
            return None
        return self.file.tensors[operator.inputs[position]]

    def constant(self, operator: FileOperator, position: int, kind: str) -> npt.NDArray[Any]:
        """The values of an operand that must be a constant of this kind."""
        tensor = self.tensor(operator, position)
        if tensor is None or tensor.data is None or tensor.kind != kind:
            found = "missing" if tensor is None else tensor.kind
            found += "" if tensor is None or tensor.data is not None else ", computed"
            raise UnsupportedError(
                f"{self.where(operator)}: operand {position} is {found}, expected a constant {kind}"
            )
        return tensor.data

    def input(self, operator: FileOperator, position: int = 0) -> str:
        """The name of an operand that is an activation."""
        if position >= len(operator.inputs) or operator.inputs[position] < 0:
            raise DataError(f"{self.where(operator)} lacks operand {position}")
        return self.activation(operator.inputs[position])

    def output(self, operator: FileOperator) -> str:
        """The name of the activation that it writes."""
        return self.activation(operator.outputs[0])

    def rename(self, operator: FileOperator) -> None:
        """The operator does nothing: its output is its input."""
        self._same[operator.outputs[0]] = self._root(operator.inputs[0])

    def _root(self, number: int) -> int:
        return self._same.get(number, number)

    def activation(self, number: int) -> str:
        """The name of an int8 activation, which it enters into the network's tensors."""
        number = self._root(number)
        tensor, name = self.file.tensors[number], self._names[number]
        if tensor.kind != "INT8":
            raise UnsupportedError(
                f"tensor '{name}' is {tensor.kind}, expected a model in INT8: a float model, or a "
                "hybrid one with int8 weights alone, must be quantized with its activations first "
                "(the converter's representative_dataset)"
            )
        if tensor.data is not None:
            raise UnsupportedError(f"tensor '{name}' is a constant where an activation is expected")
        if len(tensor.scales) != 1 or not -128 <= tensor.zero_points[0] <= 127:
            raise UnsupportedError(
                f"tensor '{name}' has {len(tensor.scales)} scales and zero points "
                f"{tensor.zero_points[:3].tolist()}, expected one of each, -128 to 127"
            )
        if len(tensor.shape) not in (2, 4) or min(tensor.shape) < 1 or tensor.shape[0] != 1:
            raise UnsupportedError(
                f"tensor '{name}' has shape {list(tensor.shape)}, expected [1, H, W, C] or [1, C]: "
                "batch 1"
            )
        scale, zero_point = float(tensor.scales[0]), int(tensor.zero_points[0])
        shape = self._kept.get(number, tensor.shape)
        self.tensors[name] = QuantizedTensor(shape, scale, zero_point)
        return name

    def keep_pixel(self, operator: FileOperator) -> bool:
        """Make the vector of a MEAN that the operator alone reads an image of one pixel, as squeeze
        and excite asks for; whether that could be done."""
        source = self.activation(operator.inputs[0])
        at = next((n for n, op in enumerate(self.ops) if op.output == source), None)
        mean = None if at is None else self.ops[at]
        readers = [each for each in self.file.operators if operator.inputs[0] in each.inputs]
        if at is None or not isinstance(mean, ir.Mean) or readers != [operator]:
            return False
        like = self.tensors[source]
        self.tensors[source] = replace(like, shape=(1, 1, 1, like.shape[-1]))
        self.ops[at] = replace(mean, keep_dims=True)
        self._kept[self._root(operator.inputs[0])] = (1, 1, 1, like.shape[-1])
        return True

    def vector_of(self, operator: FileOperator) -> str:
        """Its first operand as a vector: an image is flattened first, as FULLY_CONNECTED does."""
        name = self.input(operator)
        like = self.tensors[name]
        if len(like.shape) != 4:
            return name
        flat = f"{self.name(operator)}/flat"
        shape = (1, int(np.prod(like.shape)))
        self.tensors[flat] = QuantizedTensor(shape, like.scale, like.zero_point)
        self.ops.append(ir.Reshape(flat, name, flat))
        return flat


_FUSED = re.compile(r"(/(Conv2D|depthwise|MatMul|BiasAdd|Relu6?|ReadVariableOp|resource)\d*)+$")
"""What TensorFlow's converter puts behind the name of a layer."""


def _unique(names: Sequence[str]) -> list[str]:
    """Short, printable, different names. Converters join the names of what they fused by ';', the
    layer's own comes last."""
    taken: set[str] = set()
    found = []
    for number, name in enumerate(names):
        layer = _FUSED.sub("", name.split(";")[-1])
        short = re.sub(r"[^\w./:-]+", "_", layer)[-64:].strip("_/") or f"t{number}"
        if short in taken:
            short = f"{short}#{number}"
        taken.add(short)
        found.append(short)
    return found
