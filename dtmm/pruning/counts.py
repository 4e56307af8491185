"""What pruning left of each convolution, read off the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dtmm.errors import DtmmError
from dtmm.network.ir import Network


@dataclass(frozen=True)
class KeptCounts:
    """One convolution before and after pruning.

    Attributes:
        name: the convolution.
        channels, original_channels: output channels (filters).
        input_channels, original_input_channels: input channels.
        filterlets, original_filterlets: filterlets that are not zero; kh*kw*C_out when unpruned.
        weights, original_weights: weights in those filterlets.
        dead_filters: filters that stay although all of their filterlets are pruned.
    """

    name: str
    channels: int
    original_channels: int
    input_channels: int
    original_input_channels: int
    filterlets: int
    original_filterlets: int
    weights: int
    original_weights: int
    dead_filters: int


def kept_counts(before: Network, after: Network) -> tuple[KeptCounts, ...]:
    """Counts per convolution, in execution order.

    Raises:
        DtmmError: the two networks do not have the same convolutions.
    """
    names = [op.name for op in before.convs()]
    if names != [op.name for op in after.convs()]:
        raise DtmmError(f"convolutions of '{before.name}' and '{after.name}' differ")
    counts = []
    for old_op, new_op in zip(before.convs(), after.convs(), strict=True):
        old, new = before.params[old_op.weight], after.params[new_op.weight]
        kept = np.any(new != 0, axis=3)
        counts.append(
            KeptCounts(
                name=old_op.name,
                channels=new.shape[0],
                original_channels=old.shape[0],
                input_channels=new.shape[3],
                original_input_channels=old.shape[3],
                filterlets=int(kept.sum()),
                original_filterlets=int(np.prod(old.shape[:3])),
                weights=int(kept.sum()) * new.shape[3],
                original_weights=old.size,
                dead_filters=int((kept.reshape(len(kept), -1).sum(axis=1) == 0).sum()),
            )
        )
    return tuple(counts)
