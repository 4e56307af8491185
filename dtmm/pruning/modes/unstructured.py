"""Unstructured magnitude pruning, stored as CSR: single weights go, wherever they are.

Layers share the budget by LAMP (Lee et al., "Layer-adaptive sparsity for the magnitude-based
pruning", ICLR 2021): a weight's score is its square over the sum of squares of its layer's weights
that are not smaller, and the highest scores of all layers stay. It needs no training and no setting
and is about the strongest magnitude rule known.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dtmm.config import PruneConfig
from dtmm.data import Samples
from dtmm.network.ir import Network
from dtmm.pruning.modes.base import (
    Bools,
    Progress,
    Pruned,
    encoded_bytes,
    largest_within,
    prunable,
    with_masks,
)
from dtmm.storage.kernel_ids import CONV_CSR, CONV_DENSE


def unstructured(
    network: Network,
    dataset: Samples,
    budget: int,
    config: PruneConfig,
    progress: Progress | None = None,
) -> Pruned:
    """See `Mode`. A layer that would be no smaller as CSR stays dense, all of it."""
    scores = {op.name: lamp(network.params[op.weight]) for op in prunable(network)}
    ranking = np.sort(np.concatenate([values.ravel() for values in scores.values()]))[::-1]

    def make(share: float) -> Pruned:
        count = round(share * ranking.size)
        least = ranking[count - 1] if count else np.inf
        masks: dict[str, Bools] = {}
        for name, values in scores.items():
            kept = (values >= least) | (values == values.max())
            if encoded_bytes(kept, CONV_CSR) < encoded_bytes(np.ones_like(kept), CONV_DENSE):
                masks[name] = kept
        return Pruned(with_masks(network, masks), dict.fromkeys(masks, CONV_CSR), masks)

    return largest_within(budget, make)


def lamp(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The score of each weight; the largest of a layer has 1."""
    squares = np.square(weights.astype(np.float64)).ravel()
    order = np.argsort(squares, kind="stable")
    # sums of the squares from each rank on
    rest = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = squares[order] / np.maximum(rest, np.finfo(np.float64).tiny)
    return scores.reshape(weights.shape)
