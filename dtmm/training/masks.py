"""Which weights a network has lost: read off its exact zeros, held at zero while it trains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dtmm.errors import DtmmError
from dtmm.network.ir import Network, Weighted

Masks = Mapping[str, npt.NDArray[np.bool_]]
"""By layer name: True where a weight stays, in the weight's own layout (OHWI, or [C_out, C_in]) or
a shape that broadcasts to it. A layer that is not named keeps every weight."""


def filterlet_masks(network: Network) -> Masks:
    """Per convolution with zero filterlets, bool [C_out, kh, kw, 1]: a single zero weight stays.

    Depthwise and fully connected layers have none: they lose whole channels only.
    """
    weights = {op.name: network.params[op.weight] for op in network.convs()}
    kept = {name: np.any(weight != 0, axis=3, keepdims=True) for name, weight in weights.items()}
    return {name: mask for name, mask in kept.items() if not mask.all()}


def element_masks(network: Network) -> Masks:
    """Per layer of any kind with zero weights, bool in the weight's shape: every zero stays one.

    For unstructured and pattern pruning. Not for networks read from int8 files, in which a small
    weight is zero by rounding.
    """
    kept = {name: weight.astype(np.bool_) for name, weight in _weights(network).items()}
    return {name: mask for name, mask in kept.items() if not mask.all()}


def check_masks(network: Network, masks: Masks) -> None:
    """Raises:
    DtmmError: a mask names no layer with weights, is not boolean, or does not fit its weight.
    """
    weights = _weights(network)
    for name, mask in masks.items():
        if name not in weights:
            raise DtmmError(f"mask names layer '{name}', expected one of {', '.join(weights)}")
        shape = weights[name].shape
        fits = mask.ndim == len(shape) and all(
            size in (1, full) for size, full in zip(mask.shape, shape, strict=True)
        )
        if mask.dtype != np.bool_ or not fits:
            raise DtmmError(
                f"mask of layer '{name}' is {mask.dtype} of shape {mask.shape}, "
                f"expected bool of shape {shape} or with 1 in place of an axis"
            )


def _weights(network: Network) -> dict[str, npt.NDArray[np.float32]]:
    return {op.name: network.params[op.weight] for op in network.ops if isinstance(op, Weighted)}
