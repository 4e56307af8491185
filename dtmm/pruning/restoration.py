"""Puts a pruned network's weights back where they came from: the inverse of removal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dtmm.errors import DtmmError
from dtmm.network.ir import BatchNorm, Network
from dtmm.planning.nouns import Selection
from dtmm.pruning.removal import remove


def restore(small: Network, original: Network, selection: Selection) -> Network:
    """`original` with the weights of `small`, which stay where they stood, and zeros elsewhere.

    It computes what `small` computes, in the shapes of `original`: for `copy_to` a user's module,
    or to prune on. A removed channel's batch normalization has variance 1.

    Args:
        small: `remove(original, selection)`, trained on or not.

    Raises:
        DtmmError: `small` does not have the shapes of `remove(original, selection)`.
    """
    numbered = {
        key: np.arange(values.size, dtype=np.float64).reshape(values.shape)
        for key, values in original.params.items()
    }
    channels = Selection(selection.channels, {})
    places = remove(replace(original, params=numbered), channels).params  # type: ignore[arg-type]
    ones = {op.variance for op in original.ops if isinstance(op, BatchNorm)}
    params = {}
    for key, values in original.params.items():
        found, expected = small.params[key].shape, places[key].shape
        if found != expected:
            raise DtmmError(f"parameter '{key}' has shape {found}, the selection keeps {expected}")
        whole = np.full(values.size, 1 if key in ones else 0, np.float32)
        whole[places[key].astype(np.int64).ravel()] = small.params[key].ravel()
        params[key] = whole.reshape(values.shape)
    return replace(original, params=params)
