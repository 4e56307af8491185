"""The convolution weights of a .tflite file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm.errors import DataError, UnsupportedError


def conv_weights(path: Path) -> dict[str, npt.NDArray[np.int8]]:
    """int8 [C_out, kh, kw, C_in] of every CONV_2D, by the number of the operator in the graph.

    Raises:
        DataError: the file cannot be read or is no .tflite model.
        UnsupportedError: the package ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError:
        raise UnsupportedError(
            "ai-edge-litert is not installed: install it with: pip install 'dtmm[tflite]'"
        ) from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the model {path}: {error}") from None
    if content[4:8] != b"TFL3":
        raise DataError(f"{path} begins with {content[:8]!r}: expected a .tflite model (TFL3)")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    [graph] = model.subgraphs
    found = {}
    for number, operator in enumerate(graph.operators):
        code = model.operatorCodes[operator.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) != schema.BuiltinOperator.CONV_2D:
            continue
        tensor = graph.tensors[operator.inputs[1]]
        if tensor.type != schema.TensorType.INT8:
            continue
        buffer = model.buffers[tensor.buffer]
        if buffer.offset:  # behind the flatbuffer
            data = np.frombuffer(content[buffer.offset : buffer.offset + buffer.size], np.int8)
        else:
            data = np.asarray(buffer.data, np.uint8).view(np.int8)
        found[f"conv {number}"] = data.reshape(tensor.shape)
    return found
