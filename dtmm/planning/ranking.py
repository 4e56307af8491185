"""Which units stay once their number is known: shared by the loss tables and by `select`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def kept_channels(scores: Floats, count: int) -> Bools:
    """[C] bool: the `count` highest scores; of equal ones the first."""
    mask = np.zeros(scores.shape, dtype=np.bool_)
    mask[np.argsort(-scores, kind="stable")[:count]] = True
    return mask


def kept_filterlets(scores: Floats, count: int) -> Bools:
    """[F, positions] bool for F kept filters: each keeps its best filterlet, the rest go by score.

    The quota costs little and keeps filters alive that consumers pay for anyway.
    Needs F <= count <= F * positions.
    """
    filters = len(scores)
    if not filters <= count <= scores.size:
        raise ValueError(f"{count} filterlets for {filters} filters of {scores.shape[1]} positions")
    mask = np.zeros(scores.shape, dtype=np.bool_)
    mask[np.arange(filters), np.argmax(scores, axis=1)] = True
    order = np.argsort(-scores.ravel(), kind="stable")
    others = order[~mask.ravel()[order]][: count - filters]
    mask.ravel()[others] = True
    return mask
