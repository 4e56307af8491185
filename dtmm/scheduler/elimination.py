"""Exact minimisation of a sum of tables over shared indices, by eliminating one index at a time.

This is dynamic programming over the groups that are open at a time: for a chain of layers it walks
from layer to layer, a residual connection keeps one group more in the tables. Cost and memory are
those of the largest table, exponential only in how many groups hang together (the treewidth).
"Bucket elimination", Dechter, Artificial Intelligence 113 (1999).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Scope = tuple[int, ...]


@dataclass(frozen=True)
class Solved:
    """The result of one elimination.

    Attributes:
        value: the minimum; infinite if every assignment has an infinite table entry.
        assignment: a minimising index per variable; all 0 where the value is infinite.
    """

    value: float
    assignment: tuple[int, ...]


class Elimination:
    """The order of elimination for fixed sizes and scopes, to be run on changing tables.

    Args:
        sizes: number of values of each variable.
        scopes: the variables of each table, in the order of its axes; each variable in one at
            least.
    """

    def __init__(self, sizes: Sequence[int], scopes: Sequence[Scope]) -> None:
        self.sizes, self.scopes = list(sizes), list(scopes)
        order = _order(self.sizes, scopes)
        rank = {variable: n for n, variable in enumerate(order)}
        self.order = order
        self.permuted = [
            tuple(sorted(range(len(s)), key=lambda axis, s=s: rank[s[axis]]))  # type: ignore[misc]
            for s in scopes
        ]
        self.sorted_scopes = [tuple(sorted(scope, key=rank.__getitem__)) for scope in scopes]
        self.members: list[list[int]] = [[] for _ in order]
        self.children: list[list[int]] = [[] for _ in order]
        for n, scope in enumerate(self.sorted_scopes):
            self.members[rank[scope[0]]].append(n)
        self.buckets: list[Scope] = []
        self.parents: list[int | None] = []
        for n, variable in enumerate(order):
            union = {variable}.union(
                *(self.sorted_scopes[m] for m in self.members[n]),
                *(self.buckets[child][1:] for child in self.children[n]),
            )
            bucket = tuple(sorted(union, key=rank.__getitem__))
            self.buckets.append(bucket)
            self.parents.append(rank[bucket[1]] if len(bucket) > 1 else None)
            if len(bucket) > 1:
                self.children[rank[bucket[1]]].append(n)

    @property
    def largest(self) -> int:
        """Entries of the largest table."""
        return max(math.prod(self.sizes[v] for v in bucket) for bucket in self.buckets)

    def minimise(self, tables: Sequence[Floats]) -> Solved:
        """The minimum of the sum of `tables` and where it is."""
        return self._solve(tables)[0]

    def marginals(self, tables: Sequence[Floats]) -> tuple[Solved, list[Floats]]:
        """Also, for every table and entry, the minimum over all assignments that use it."""
        solved, joint, messages = self._solve(tables)
        if not math.isfinite(solved.value):
            return solved, [np.full_like(table, np.inf) for table in tables]
        roots = {n: float(joint[n].min()) for n, p in enumerate(self.parents) if p is None}
        total = sum(roots.values())
        for n in reversed(range(len(self.order))):
            parent = self.parents[n]
            if parent is None:
                joint[n] = joint[n] + (total - roots[n])  # what the other components cost
                continue
            message = messages[n]
            assert message is not None
            rest = self._reduced(joint[parent], self.buckets[parent], self.buckets[n][1:])
            with np.errstate(invalid="ignore"):
                outside = np.where(np.isfinite(message), rest - message, np.inf)
            joint[n] = joint[n] + outside[None]
        found: list[Floats] = [np.empty(0)] * len(tables)
        for n, members in enumerate(self.members):
            for m in members:
                marginal = self._reduced(joint[n], self.buckets[n], self.sorted_scopes[m])
                found[m] = np.transpose(marginal, np.argsort(self.permuted[m]))
        return solved, found

    def _solve(self, tables: Sequence[Floats]) -> tuple[Solved, list[Floats], list[Floats | None]]:
        joint: list[Floats] = []
        messages: list[Floats | None] = []
        value = 0.0
        for n, bucket in enumerate(self.buckets):
            total = np.zeros([self.sizes[v] for v in bucket])
            for m in self.members[n]:
                table = np.transpose(tables[m], self.permuted[m])
                total = total + self._expanded(table, self.sorted_scopes[m], bucket)
            for child in self.children[n]:
                message = messages[child]
                assert message is not None
                total = total + self._expanded(message, self.buckets[child][1:], bucket)
            joint.append(total)
            lowest = total.min(axis=0)
            messages.append(lowest if self.parents[n] is not None else None)
            if self.parents[n] is None:
                value += float(lowest)
        chosen = [0] * len(self.sizes)
        if math.isfinite(value):
            for n in reversed(range(len(self.order))):
                bucket = self.buckets[n]
                at: Any = (slice(None), *(chosen[v] for v in bucket[1:]))
                chosen[bucket[0]] = int(np.argmin(joint[n][at]))
        return Solved(value, tuple(chosen)), joint, messages

    def _expanded(self, table: Floats, scope: Scope, bucket: Scope) -> Floats:
        """A view that broadcasts over the bucket's axes; both scopes are in elimination order."""
        members = set(scope)
        return table.reshape([self.sizes[v] if v in members else 1 for v in bucket])

    def _reduced(self, table: Floats, bucket: Scope, scope: Scope) -> Floats:
        members = set(scope)
        away = tuple(axis for axis, v in enumerate(bucket) if v not in members)
        return np.asarray(table.min(axis=away)) if away else table


def _order(sizes: Sequence[int], scopes: Sequence[Scope]) -> list[int]:
    """Always the variable whose elimination needs the smallest table."""
    neighbours: list[set[int]] = [set() for _ in sizes]
    for scope in scopes:
        for variable in scope:
            neighbours[variable].update(scope)
    for variable, near in enumerate(neighbours):
        near.discard(variable)

    def cost(variable: int) -> float:
        return math.prod(sizes[v] for v in neighbours[variable]) * sizes[variable]

    costs = {variable: cost(variable) for variable in range(len(sizes))}
    order = []
    while costs:
        variable = min(costs, key=costs.__getitem__)
        del costs[variable]
        order.append(variable)
        near = neighbours[variable]
        for other in near:
            neighbours[other] |= near
            neighbours[other] -= {other, variable}
        for other in near:
            costs[other] = cost(other)
    return order
