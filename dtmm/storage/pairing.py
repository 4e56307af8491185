"""Which filters a two-filter kernel computes together: those that keep the same positions.

A filterlet that both filters of a pair keep loads its input once for both (DESIGN section 7), so
the more filterlets the pairs share, the faster. The pairs are a maximum weight matching.
"""

from __future__ import annotations

import networkx
import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Permutation = npt.NDArray[np.intp]

QUAD = 4
"""Kernels requantize four consecutive filters at a time: 4q + j and 4q + j + 2 are a pair."""

MATCHING_LIMIT = 256
"""Filters up to which the matching is exact (1.3 s; it grows with the cube). Beyond, the best pair
that is left is taken again and again: about 2 points of shared filterlets fewer."""


def pair_order(kept: Bools) -> Permutation:
    """The order of the filters that makes pairs share most filterlets.

    Args:
        kept: bool [C_out, positions]; several layers that share their filters' order (a residual
            group) are laid side by side.

    Returns:
        [C_out]: filter number by place; the filters of a pair are the places 4q + j and 4q + j + 2
        for j in {0, 1}. A last quad of fewer than four places has what is left. The identity where
        no order is better, as in a dense layer.
    """
    filters = len(kept)
    pairs = _match(kept) if not kept.all() else []
    if not pairs:
        return np.arange(filters)
    places = 2 * (filters // QUAD) + (filters % QUAD == 3)
    by_gain = sorted(pairs, key=lambda pair: -int((kept[pair[0]] & kept[pair[1]]).sum()))
    chosen = sorted(by_gain[:places])
    paired = {f for pair in chosen for f in pair}
    single = sorted(set(range(filters)) - paired)
    order = np.full(filters, -1, np.intp)
    for place, pair in enumerate(chosen):
        first = QUAD * (place // 2) + place % 2
        order[[first, first + 2]] = pair
    order[order < 0] = single
    return order


def pair_places(filters: int) -> list[tuple[int, int]]:
    """(place, place) of every pair among so many filters; places without a partner are left out."""
    first = [q + j for q in range(0, filters, QUAD) for j in (0, 1)]
    return [(place, place + 2) for place in first if place + 2 < filters]


def shared_filterlets(kept: Bools, order: Permutation) -> int:
    """Number of positions kept by both filters of a pair, over all pairs of an order."""
    ordered = kept[order]
    return sum(int((ordered[a] & ordered[b]).sum()) for a, b in pair_places(len(kept)))


def _match(kept: Bools) -> list[tuple[int, int]]:
    """Disjoint pairs (a, b), a < b, none left over that could still be made."""
    wide = kept.astype(np.int64)
    shared = wide @ wide.T
    first, second = np.triu_indices(len(kept), 1)
    if len(kept) <= MATCHING_LIMIT:
        graph = networkx.Graph()
        edges = zip(first.tolist(), second.tolist(), shared[first, second].tolist(), strict=True)
        graph.add_weighted_edges_from(edges)
        matching = networkx.max_weight_matching(graph, maxcardinality=True)
        return sorted((min(pair), max(pair)) for pair in matching)
    free = np.ones(len(kept), np.bool_)
    pairs = []
    for edge in np.argsort(-shared[first, second], kind="stable"):
        a, b = int(first[edge]), int(second[edge])
        if free[a] and free[b]:
            free[[a, b]] = False
            pairs.append((a, b))
    return pairs
