"""The integer reference: what every implementation must produce, byte for byte.

Plain numpy, vectorised over images; the operators are in reference_*.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from dtmm.errors import DtmmError, UnsupportedError
from dtmm.network import ir
from dtmm.quantization import reference_conv, reference_elementwise, reference_spatial
from dtmm.quantization.quantized import QuantizedNetwork

Int8 = npt.NDArray[np.int8]

_CHUNK = 32
"""Images at a time: bounds the memory of im2col."""


@overload
def run(network: QuantizedNetwork, images: Int8, keep_all: Literal[False] = ...) -> Int8: ...
@overload
def run(network: QuantizedNetwork, images: Int8, keep_all: Literal[True]) -> dict[str, Int8]: ...


def run(network: QuantizedNetwork, images: Int8, keep_all: bool = False) -> Int8 | dict[str, Int8]:
    """Run [N, H, W, C] int8 images; returns the output [N, ...], or every tensor by name.

    Raises:
        DtmmError: the images do not have the input's shape.
        UnsupportedError: the network has several inputs or outputs, or an unfolded operator.
    """
    _check(network, images)
    chunks = [
        _run_chunk(network, images[start : start + _CHUNK])
        for start in range(0, len(images), _CHUNK)
    ]
    if keep_all:
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return np.concatenate([chunk[network.outputs[0]] for chunk in chunks])


def _check(network: QuantizedNetwork, images: Int8) -> None:
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise UnsupportedError(
            f"network '{network.name}' has {len(network.inputs)} inputs and "
            f"{len(network.outputs)} outputs, expected one of each"
        )
    expected = network.tensors[network.inputs[0]].shape[1:]
    if images.dtype != np.int8 or images.shape[1:] != expected or not len(images):
        raise DtmmError(
            f"images are {images.dtype} of shape {images.shape}, expected int8 (N, "
            f"{', '.join(map(str, expected))}) with N >= 1"
        )


def _run_chunk(network: QuantizedNetwork, images: Int8) -> dict[str, Int8]:
    values: dict[str, Int8] = {network.inputs[0]: images}
    for op in network.ops:
        handler = _HANDLERS.get(type(op))
        if handler is None:
            raise UnsupportedError(f"{type(op).__name__} '{op.name}' is not an int8 operator")
        inputs = [values[name] for name in ir.op_inputs(op)]
        values[op.output] = handler(network, op, *inputs)
    return values


_HANDLERS: Mapping[type, Callable[..., Int8]] = {
    **reference_conv.HANDLERS,
    **reference_spatial.HANDLERS,
    **reference_elementwise.HANDLERS,
}
