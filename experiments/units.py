"""Pruning units: which weights go together, and what storing the rest takes.

Every unit scores the same weights by the sum of the same scores and every layer keeps the same
share of its units, so that units differ in nothing but their shape and their index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.network.groups import channel_groups
from dtmm.network.ir import Network
from dtmm.planning.nouns import Selection
from dtmm.pruning.modes.base import encoded_bytes, prunable, with_masks
from dtmm.pruning.modes.patdnn import natural_patterns, project
from dtmm.pruning.removal import remove
from dtmm.storage.kernel_ids import CONV_CSR, CONV_DENSE, CONV_FKW
from dtmm.storage.stored import VECTOR_BYTES, round_up

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Scores = Mapping[str, Floats]
"""By convolution [C_out, kh, kw, C_in]."""

PATTERNS = 8
STEPS = 14
"""Halvings of the interval of shares."""


@dataclass(frozen=True)
class Kept:
    """A network pruned by one unit.

    Attributes:
        network: unfolded, what left is zero or gone.
        bytes: of the weights and index of all convolutions.
        index: of these, the index.
        importance: share of the summed scores that stays.
    """

    network: Network
    bytes: int
    index: int
    importance: float


Unit = Callable[[Network, Scores, float], Kept]
"""(network, scores, share of units kept) to what stays."""


def filters(network: Network, scores: Scores, share: float) -> Kept:
    """Whole channels of every group, stored dense; what reads them loses them as well."""
    groups = channel_groups(network)
    totals = {
        group.name: sum(
            scores[op.name].sum(axis=(1, 2, 3))
            for op in network.convs()
            if op.output in group.tensors
        )
        for group in groups
        if group.prunable and not group.segments
    }
    masks = {}
    for name, values in totals.items():
        if isinstance(values, np.ndarray):
            masks[name] = _largest(values, max(round(share * values.size), 1))
    small = remove(network, Selection(masks, {}))
    by_tensor = {tensor: masks.get(group.name) for group in groups for tensor in group.tensors}
    kept = 0.0
    for op in network.convs():
        values = scores[op.name]
        outputs, inputs = by_tensor.get(op.output), by_tensor.get(op.input)
        values = values if outputs is None else values[outputs]
        kept += float((values if inputs is None else values[..., inputs]).sum())
    size = sum(_dense_bytes(small, op.weight) for op in small.convs())
    return Kept(small, size, 0, kept / _total(scores))


def blocks(width: int | None) -> Unit:
    """`width` input channels of one position of one filter; None: all of them, the filterlet.

    Every filter keeps its best block. The index has a bit per block, a whole number of bytes per
    filter: FWCS, with the width as its parameter.
    """

    def unit(network: Network, scores: Scores, share: float) -> Kept:
        def mask(values: Floats) -> tuple[Bools, int, int]:
            count, height, columns, channels = values.shape
            size = min(width or channels, channels)
            blocks = -(-channels // size)
            padded = np.zeros((count, height, columns, blocks * size))
            padded[..., :channels] = values
            sums = padded.reshape(count, -1, size).sum(axis=2)
            kept = _with_best(sums, round(share * sums.size))
            wide = np.repeat(kept.reshape(count, height, columns, blocks), size, axis=3)
            weights = int(kept.sum()) * round_up(size, VECTOR_BYTES)
            return wide[..., :channels], weights, count * -(-sums.shape[1] // 8)

        return _masked(network, scores, mask)

    return unit


def patterns(network: Network, scores: Scores, share: float) -> Kept:
    """Four weights of every 3x3 kernel in one of PATTERNS patterns, and whole kernels: FKW."""
    layers = [op for op in prunable(network) if scores[op.name].shape[1:3] == (3, 3)]
    roots = {op.name: np.sqrt(scores[op.name]).astype(np.float32) for op in layers}
    allowed = natural_patterns(list(roots.values()), PATTERNS)

    def mask(values: Floats) -> tuple[Bools, int, int]:
        kept = project(np.sqrt(values).astype(np.float32), allowed, share)
        whole = encoded_bytes(kept, CONV_FKW)
        return kept, int(kept.sum()), whole - int(kept.sum())

    return _masked(network, scores, mask)


def single(network: Network, scores: Scores, share: float) -> Kept:
    """Single weights, stored as CSR; every filter keeps its best."""

    def mask(values: Floats) -> tuple[Bools, int, int]:
        flat = values.reshape(len(values), -1)
        kept = _with_best(flat, round(share * flat.size)).reshape(values.shape)
        whole = encoded_bytes(kept, CONV_CSR)
        return kept, int(kept.sum()), whole - int(kept.sum())

    return _masked(network, scores, mask)


UNITS: Mapping[str, Unit] = {
    "filter": filters,
    "filterlet": blocks(None),
    "block of 32": blocks(32),
    "block of 16": blocks(16),
    "kernel pattern": patterns,
    "single weight": single,
}
"""From the coarsest to the finest."""


def largest_within(unit: Unit, network: Network, scores: Scores, budget: int) -> Kept | None:
    """The most units that fit into bytes of weights and index; None if not even the fewest do."""
    if (best := unit(network, scores, 0.0)).bytes > budget:
        return None
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        tried = unit(network, scores, middle)
        if tried.bytes <= budget:
            low, best = middle, tried
        else:
            high = middle
    return best


def dense_bytes(network: Network) -> int:
    """Bytes of the weights of all convolutions."""
    return sum(_dense_bytes(network, op.weight) for op in network.convs())


def _masked(
    network: Network, scores: Scores, mask: Callable[[Floats], tuple[Bools, int, int]]
) -> Kept:
    """Masks on the prunable layers; a layer that is no smaller so stays dense."""
    masks: dict[str, Bools] = {}
    size = index = 0
    lost = 0.0
    names = {op.name for op in prunable(network)}
    for op in network.convs():
        dense = _dense_bytes(network, op.weight)
        if op.name in names:
            kept, weights, listed = mask(scores[op.name])
            if weights + listed < dense:
                masks[op.name] = kept
                size, index = size + weights + listed, index + listed
                lost += float(scores[op.name][~kept].sum())
                continue
        size += dense
    return Kept(with_masks(network, masks), size, index, 1 - lost / _total(scores))


def _dense_bytes(network: Network, weight: str) -> int:
    return encoded_bytes(np.ones(network.params[weight].shape, np.bool_), CONV_DENSE)


def _total(scores: Scores) -> float:
    return sum(float(values.sum()) for values in scores.values())


def _largest(values: Floats, count: int) -> Bools:
    kept = np.zeros(values.shape, np.bool_)
    kept.ravel()[np.argsort(-values.ravel(), kind="stable")[:count]] = True
    return kept


def _with_best(values: Floats, count: int) -> Bools:
    """[n, m] the `count` largest, and of every row the largest."""
    first = np.zeros(values.shape, np.bool_)
    first[np.arange(len(values)), values.argmax(axis=1)] = True
    rest = np.where(first, np.inf, values)
    return _largest(rest, max(count, len(values)))
