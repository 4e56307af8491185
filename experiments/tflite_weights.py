"""The convolution weights of a .tflite file, whatever its other operators are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm.errors import DataError
from dtmm.quantization.tflite_file import parse_tflite


def conv_weights(path: Path) -> dict[str, npt.NDArray[np.int8]]:
    """int8 [C_out, kh, kw, C_in] of every CONV_2D, by the number of the operator in the graph.

    Raises:
        DataError: the file cannot be read or is no .tflite model.
        UnsupportedError, ToolchainError: see `parse_tflite`.
    """
    try:
        file = parse_tflite(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read the model {path}: {error}") from None
    except DataError as error:
        raise DataError(f"model {path}: {error}") from None
    found = {}
    for operator in file.operators:
        if operator.kind == "CONV_2D" and len(operator.inputs) > 1:
            weights = file.tensors[operator.inputs[1]]
            if weights.kind == "INT8" and weights.data is not None:
                found[f"conv {operator.number}"] = weights.data
    return found
