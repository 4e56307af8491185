"""The Lagrangian relaxation: budgets become prices, and what is left is solved exactly by tables.

With a price per nat, per byte of flash and per cycle for each of those that is limited, no row
ties all layers together any more, and `Elimination` finds the cheapest decision exactly. Its cost
less what the budgets are worth at these prices is a lower bound for any prices; the best prices are
found by Kelley's cutting planes (solvers/lagrangian.py).

Kernel code that is paid once (4) would tie layers together too. It is divided among the layers
instead: a layer that uses a kernel pays its share. Whatever the shares (sum at most 1 per kernel),
all layers together never pay more than the code, so the bound stays a bound.

SRAM rows (7) where a further group decides, and concats (8), are tables of zeros and infinities.
A row whose table would be too large is left out, as exclusions (10) are: that lowers the bound and
nothing else, because the remaining exact program holds them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dtmm.scheduler.elimination import Elimination, Scope
from dtmm.scheduler.evaluate import Decision, limit, summed_budgets
from dtmm.scheduler.presolve import Candidates
from dtmm.scheduler.problem import Concat, MemoryStep, Metric, Problem

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LARGEST_ROW = 100_000
"""Entries of the largest table for one SRAM row."""

SCALE = 100.0
"""The objective's size in the relaxation's own unit."""


@dataclass(frozen=True)
class Point:
    """The relaxed optimum at some prices.

    Attributes:
        value: the lower bound, in the relaxation's unit; infinite if there is no decision.
        cost: the relaxed objective of its decision; usage: what it takes of each resource, as
            shares of what is there.
    """

    value: float
    cost: float
    usage: Floats
    decision: Decision | None


class Relaxation:
    """A problem's candidates as flat arrays, one entry per (l, i, j, k) and per (g, j).

    Attributes:
        resources: the limited totals, in the order of prices; each is scaled to 1 = all there is.
        unit: of the problem's objective per unit here; offset: what no decision changes.
        most: no decision costs more, in own units.
    """

    def __init__(self, problem: Problem, candidates: Candidates) -> None:
        self.problem, self.candidates = problem, candidates
        self.alive = [np.flatnonzero(mask) for mask in candidates.levels]
        self._index_candidates()
        weights = problem.objective.weights()
        self.offset = sum(w * getattr(problem, f"fixed_{m}") for m, w in weights.items())
        objective = self._flat(weights)
        self.unit = max(self._largest(objective), 1e-12) / SCALE
        self.objective = objective / self.unit
        self.code_weight = weights.get("flash", 0.0) / self.unit
        self.most = SCALE + self.code_weight * sum((problem.kernel_code or {}).values())
        self.resources, self.usage, self.rooms = self._resources()
        self._divide_code()
        self._build_tables()

    def value(self, own: float) -> float:
        """A bound or cost in the problem's unit."""
        return float(own * self.unit + self.offset)

    def own(self, value: float) -> float:
        """The inverse of `value`."""
        return float((value - self.offset) / self.unit)

    # --- candidates ----------------------------------------------------------------------------

    def _index_candidates(self) -> None:
        """Flat order: all levels of all groups, then all options of all layers by (i, j), k."""
        self.group_start = np.cumsum([0, *(len(a) for a in self.alive)])
        self.index = [np.argwhere(mask) for mask in self.candidates.options]
        start = int(self.group_start[-1])
        self.layer_start = start + np.cumsum([0, *(len(index) for index in self.index)])
        self.cells: list[tuple[Ints, ...]] = []
        """Per layer, where its (i, j) that have candidates lie in its table of alive levels."""
        cell_starts = []
        for n, (layer, index) in enumerate(zip(self.problem.layers, self.index, strict=True)):
            new = np.ones(len(index), dtype=np.bool_)
            new[1:] = (np.diff(index[:, :2], axis=0) != 0).any(axis=1)
            cell_starts.append(np.flatnonzero(new) + self.layer_start[n] - start)
            first = index[new]
            sides = [np.searchsorted(self.alive[layer.input_group], first[:, 0])]
            if layer.input_group != layer.output_group:
                sides.append(np.searchsorted(self.alive[layer.output_group], first[:, 1]))
            self.cells.append(tuple(sides))
        self.cell_start = np.concatenate([[0], np.cumsum([len(c) for c in cell_starts])])
        self.starts = np.concatenate([*cell_starts, []]).astype(np.int64)
        lengths = np.diff([*self.starts, self.layer_start[-1] - start])
        self.cell_of = np.repeat(np.arange(len(self.starts)), lengths)

    def _flat(self, weights: dict[Metric, float]) -> Floats:
        """The weighted sum of tables for every candidate, without kernel code."""
        parts = []
        for group, alive in zip(self.problem.groups, self.alive, strict=True):
            tables = [w * getattr(group, m)[alive] for m, w in weights.items()]
            parts.append(np.sum(tables, axis=0))
        for layer, index in zip(self.problem.layers, self.index, strict=True):
            at = tuple(index.T)
            parts.append(np.sum([w * getattr(layer, m)[at] for m, w in weights.items()], axis=0))
        return np.concatenate(parts)

    def _largest(self, flat: Floats) -> float:
        """The total if every group and layer took its most expensive candidate."""
        starts = np.concatenate([self.group_start[:-1], self.layer_start[:-1]])
        return float(np.maximum.reduceat(flat, starts).sum())

    def _resources(self) -> tuple[tuple[Metric, ...], Floats, Floats]:
        """Those budgets that can bind at all, and every candidate's share of each."""
        names, usage, rooms = [], [], []
        code = sum((self.problem.kernel_code or {}).values())
        for metric, budget in summed_budgets(self.problem).items():
            if metric == "sram":
                continue
            room = limit(budget) - getattr(self.problem, f"fixed_{metric}")
            flat = self._flat({metric: 1.0})
            largest = self._largest(flat) + (code if metric == "flash" else 0.0)
            if largest > room > 1e-6 * largest:
                names.append(metric)
                usage.append(flat / room)
                rooms.append(room)
        return (
            tuple(names),
            np.array(usage).reshape(len(names), len(self.objective)),
            np.array(rooms),
        )

    # --- kernel code -----------------------------------------------------------------------------

    def _divide_code(self) -> None:
        """Number the pairs (layer, paid kernel) and divide each kernel equally at first."""
        code = self.problem.kernel_code or {}
        pairs: dict[tuple[int, str], int] = {}
        pair_of = []
        for n, (layer, index) in enumerate(zip(self.problem.layers, self.index, strict=True)):
            by_option = [-1] * len(layer.kernels)
            for k in np.unique(index[:, 2]).tolist():
                kernel = layer.kernels[k]
                if code.get(kernel):
                    by_option[k] = pairs.setdefault((n, kernel), len(pairs))
            pair_of.append(np.array(by_option, dtype=np.int64)[index[:, 2]])
        self.pair_of = np.concatenate([np.array([], dtype=np.int64), *pair_of])
        names = sorted({kernel for _, kernel in pairs})
        self.pair_kernel = np.array([names.index(kernel) for _, kernel in pairs], dtype=np.int64)
        self.pair_bytes = np.array([code[kernel] for _, kernel in pairs])
        users = np.bincount(self.pair_kernel, minlength=len(names))
        self.shares = 1.0 / users[self.pair_kernel]

    def _code_bytes(self) -> Floats:
        """Bytes of kernel code that each layer candidate pays."""
        return np.asarray(np.append(self.shares * self.pair_bytes, 0.0)[self.pair_of])

    def share_code(self, prices: Floats) -> bool:
        """Let those layers pay that would not change their kernel for it; False if none pays.

        A layer's stake in a kernel is how much dearer the whole gets if it must not use it.
        """
        if not len(self.pair_of) or not (self.pair_of >= 0).any():
            return False
        price = self.code_weight
        if "flash" in self.resources:
            n = self.resources.index("flash")
            price += prices[n] / self.rooms[n]
        if price <= 0:
            return False
        values = self._marginals(prices)[1]
        best = np.full(len(self.shares) + 1, np.inf)
        np.minimum.at(best, self.pair_of, values)
        stakes = np.empty(len(self.shares))
        for n in range(len(self.problem.layers)):
            span = slice(*(self.layer_start[n : n + 2] - self.group_start[-1]))
            for pair in np.unique(self.pair_of[span]):
                if pair >= 0:
                    others = values[span][self.pair_of[span] != pair]
                    without = float(others.min()) if len(others) else np.inf
                    stakes[pair] = max(without - best[pair], -SCALE)
        stakes = np.minimum(stakes, SCALE) + self.shares * self.pair_bytes * price
        stakes = np.maximum(stakes, 0.0)
        total = np.bincount(self.pair_kernel, weights=stakes)[self.pair_kernel]
        self.shares = np.where(total > 0, stakes / np.maximum(total, 1e-300), self.shares)
        return True

    # --- tables ----------------------------------------------------------------------------------

    def _build_tables(self) -> None:
        """Scopes: one table per group, per layer, then those of zeros and infinities."""
        sizes = [len(alive) for alive in self.alive]
        scopes: list[Scope] = [(g,) for g in range(len(sizes))]
        for layer in self.problem.layers:
            sides = dict.fromkeys((layer.input_group, layer.output_group))
            scopes.append(tuple(sides))
        self.fixed_tables: list[Floats] = []
        for concat in self.problem.concats:
            self._add_concat(concat, sizes, scopes)
        for step in self.candidates.rows:
            self._add_row(step, scopes)
        self.elimination = Elimination(sizes, scopes)

    def _add_concat(self, concat: Concat, sizes: list[int], scopes: list[Scope]) -> None:
        """(8), one segment after the other: partial sums are variables of their own."""

        def kept(group: int) -> Ints:
            return np.asarray(self.problem.groups[group].levels[self.alive[group]])

        segments = list(dict.fromkeys(concat.segments))
        times = [concat.segments.count(s) for s in segments]
        sums, scope = times[0] * kept(segments[0]), segments[0]
        for segment, count in zip(segments[1:], times[1:], strict=True):
            added = count * kept(segment)
            reached = sums[:, None] + added
            if segment == segments[-1]:
                break
            partial = np.unique(reached)
            sizes.append(len(partial))
            scopes.append((scope, segment, len(sizes) - 1))
            self.fixed_tables.append(_forbid(reached[:, :, None] == partial))
            sums, scope = partial, len(sizes) - 1
        total = kept(concat.group)
        if len(segments) == 1:
            scopes.append((scope, concat.group))
            self.fixed_tables.append(_forbid(sums[:, None] == total))
        else:
            scopes.append((scope, segments[-1], concat.group))
            self.fixed_tables.append(_forbid(reached[:, :, None] == total))

    def _add_row(self, step: MemoryStep, scopes: list[Scope]) -> None:
        """(7) of a step where a further group decides, with the least scratch at each (i, j)."""
        groups = dict.fromkeys(step.groups)
        if step.layer is not None:
            layer = self.problem.layers[step.layer]
            groups |= dict.fromkeys((layer.input_group, layer.output_group))
        scope = tuple(groups)
        shape = [len(self.alive[g]) for g in scope]
        if math.prod(shape) > LARGEST_ROW:
            return
        used = np.full(shape, self.problem.fixed_sram + step.fixed)
        for axis, g in enumerate(scope):
            if g in step.groups:
                along = [-1 if a == axis else 1 for a in range(len(scope))]
                used = used + step.groups[g][self.alive[g]].reshape(along)
        if step.layer is not None:
            used = used + self._least_scratch(step.layer, scope)
        scopes.append(scope)
        self.fixed_tables.append(_forbid(used <= limit(self.problem.budgets.sram)))

    def _least_scratch(self, n: int, scope: Scope) -> Floats:
        layer = self.problem.layers[n]
        allowed = self.candidates.options[n]
        least = np.where(allowed, layer.scratch, np.inf).min(axis=2)
        i, j = layer.input_group, layer.output_group
        shape = [1] * len(scope)
        shape[scope.index(i)] = len(self.alive[i])
        if i == j:
            return np.asarray(np.diag(least)[self.alive[i]].reshape(shape))
        shape[scope.index(j)] = len(self.alive[j])
        table = least[np.ix_(self.alive[i], self.alive[j])]
        return np.asarray((table if scope.index(i) < scope.index(j) else table.T).reshape(shape))

    def _priced(self, prices: Floats) -> tuple[Floats, Floats, list[Floats]]:
        """Every candidate's cost at these prices, each cell's cheapest, and all tables."""
        costs = self.objective + prices @ self.usage if len(prices) else self.objective.copy()
        code_price = self.code_weight
        if "flash" in self.resources:
            n = self.resources.index("flash")
            code_price += prices[n] / self.rooms[n]
        first = int(self.group_start[-1])
        if code_price and len(self.shares):
            costs[first:] += code_price * self._code_bytes()
        cheapest = (
            np.minimum.reduceat(costs[first:], self.starts) if len(self.starts) else costs[:0]
        )
        tables = [
            costs[self.group_start[g] : self.group_start[g + 1]] for g in range(len(self.alive))
        ]
        scopes = self.elimination.scopes
        for n, cells in enumerate(self.cells):
            table = np.full(
                [self.elimination.sizes[v] for v in scopes[len(self.alive) + n]], np.inf
            )
            table[cells] = cheapest[self.cell_start[n] : self.cell_start[n + 1]]
            tables.append(table)
        return costs, cheapest, [*tables, *self.fixed_tables]

    # --- solving ---------------------------------------------------------------------------------

    def solve(self, prices: Floats) -> Point:
        """The cheapest decision at these prices and the lower bound it proves."""
        costs, _, tables = self._priced(prices)
        solved = self.elimination.minimise(tables)
        if not math.isfinite(solved.value):
            return Point(math.inf, math.inf, np.zeros(len(prices)), None)
        chosen = [int(self.group_start[g]) + solved.assignment[g] for g in range(len(self.alive))]
        options = []
        for n, scope in enumerate(self.elimination.scopes[len(self.alive) :][: len(self.cells)]):
            at = [solved.assignment[v] for v in scope]
            cell = int(
                np.flatnonzero(
                    np.logical_and.reduce(
                        [side == v for side, v in zip(self.cells[n], at, strict=True)]
                    )
                )[0]
            ) + int(self.cell_start[n])
            first = int(self.starts[cell])
            last = int(self.starts[cell + 1]) if cell + 1 < len(self.starts) else None
            offset = int(self.group_start[-1])
            span = costs[offset:][first:last]
            pick = offset + first + int(np.argmin(span))
            chosen.append(pick)
            options.append(int(self.index[n][pick - self.layer_start[n], 2]))
        levels = tuple(int(alive[solved.assignment[g]]) for g, alive in enumerate(self.alive))
        usage = self.usage[:, chosen].sum(axis=1)
        cost = float(self.objective[chosen].sum())
        if len(self.shares):
            code = float(self._code_bytes()[np.array(chosen[len(self.alive) :], dtype=np.int64)
                                            - int(self.group_start[-1])].sum())  # fmt: skip
            cost += self.code_weight * code
            if "flash" in self.resources:
                n = self.resources.index("flash")
                usage[n] += code / self.rooms[n]
        return Point(
            solved.value - float(prices.sum()), cost, usage, Decision(levels, tuple(options))
        )

    def _marginals(self, prices: Floats) -> tuple[list[Floats], Floats]:
        """Per group and level, and per layer candidate: the bound if it is chosen."""
        costs, cheapest, tables = self._priced(prices)
        _, found = self.elimination.marginals(tables)
        total = float(prices.sum())
        levels = [table - total for table in found[: len(self.alive)]]
        cells = [found[len(self.alive) + n][cells] for n, cells in enumerate(self.cells)]
        through = np.concatenate([*cells, []]) - total
        first = int(self.group_start[-1])
        return levels, costs[first:] - cheapest[self.cell_of] + through[self.cell_of]

    def within(self, prices: Floats, most: float) -> Candidates:
        """The candidates whose bound is at most `most` (own unit): all others are dearer."""
        levels, values = self._marginals(prices)
        kept = values <= most
        masks = []
        for n, index in enumerate(self.index):
            mask = np.zeros_like(self.candidates.options[n])
            span = slice(*(self.layer_start[n : n + 2] - self.group_start[-1]))
            mask[tuple(index[kept[span]].T)] = True
            masks.append(mask)
        level_masks = []
        for mask, alive, value in zip(self.candidates.levels, self.alive, levels, strict=True):
            keep = np.zeros_like(mask)
            keep[alive[value <= most]] = True
            level_masks.append(keep)
        return Candidates(tuple(level_masks), tuple(masks), self.candidates.rows)


def _forbid(allowed: npt.NDArray[np.bool_]) -> Floats:
    return np.where(allowed, 0.0, np.inf)
