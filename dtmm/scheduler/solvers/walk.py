"""A decision that is changed step by step, with its totals kept up to date: for local searches."""

from __future__ import annotations

import dataclasses

import numpy as np

from dtmm.scheduler.evaluate import Decision, limit, summed_budgets
from dtmm.scheduler.presolve import Candidates
from dtmm.scheduler.problem import Budgets, Concat, Metric, Objective, Problem
from dtmm.scheduler.relaxation import Relaxation

SUMS: tuple[Metric, ...] = ("latency", "flash", "loss")


def starting_point(problem: Problem, candidates: Candidates, metric: Metric) -> Decision | None:
    """The decision of the least latency, flash or loss that the candidates allow, exactly.

    Concats and the SRAM budget are kept, the other budgets are not. None if there is none.
    """
    budgets = Budgets(sram=problem.budgets.sram)
    alone = dataclasses.replace(problem, objective=Objective.only(metric), budgets=budgets)
    return Relaxation(alone, candidates).solve(np.zeros(0)).decision


def concat_order(problem: Problem) -> tuple[Concat, ...]:
    """The concats, those that others contain first."""
    virtual = {concat.group: concat for concat in problem.concats}
    done: dict[int, Concat] = {}

    def add(concat: Concat) -> None:
        for segment in concat.segments:
            if segment in virtual:
                add(virtual[segment])
        done[concat.group] = concat

    for concat in problem.concats:
        add(concat)
    return tuple(done.values())


def completed(problem: Problem, levels: tuple[int, ...]) -> tuple[int, ...] | None:
    """`levels` with those of virtual groups set to their segments' sums; None if there is none."""
    full = list(levels)
    for concat in concat_order(problem):
        total = sum(int(problem.groups[s].levels[full[s]]) for s in concat.segments)
        found = np.flatnonzero(problem.groups[concat.group].levels == total)
        if not len(found):
            return None
        full[concat.group] = int(found[0])
    return tuple(full)


class Walk:
    """The present decision among `candidates`, its totals and how far they exceed the budgets.

    Attributes:
        free: groups whose level may be set; virtual groups follow their segments.
    """

    def __init__(self, problem: Problem, candidates: Candidates, start: Decision) -> None:
        self.problem, self.candidates = problem, candidates
        self.levels, self.options = list(start.levels), list(start.options)
        self.tables = [
            np.stack([x.latency, x.flash, x.loss, x.scratch], axis=-1) for x in problem.layers
        ]
        self.group_tables = [
            np.stack([g.latency, g.flash, g.loss], axis=-1) for g in problem.groups
        ]
        virtual = {concat.group for concat in problem.concats}
        self.free = [g for g in range(len(problem.groups)) if g not in virtual]
        self._connect()
        self.code = dict(problem.kernel_code or {})
        self.budgets = [
            (m, limit(b), max(b, 1e-9)) for m, b in summed_budgets(problem).items() if m != "sram"
        ]
        self.sram_limit = limit(problem.budgets.sram)
        self.weights = problem.objective.weights()
        self.undo_log: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]] = []
        self.users: dict[str, int] = {}
        self._sum_up()

    def _connect(self) -> None:
        """Which layers, steps and concats depend on which group, and which steps on which layer."""
        count = len(self.problem.groups)
        self.layers_of: list[list[int]] = [[] for _ in range(count)]
        self.steps_of: list[list[int]] = [[] for _ in range(count)]
        self.steps_of_layer: list[list[int]] = [[] for _ in self.problem.layers]
        for n, layer in enumerate(self.problem.layers):
            for g in {layer.input_group, layer.output_group}:
                self.layers_of[g].append(n)
        for t, step in enumerate(self.problem.steps):
            for g in step.groups:
                self.steps_of[g].append(t)
            if step.layer is not None:
                self.steps_of_layer[step.layer].append(t)
        self.concats_of: list[list[Concat]] = [[] for _ in range(count)]
        for concat in concat_order(self.problem):
            for segment in dict.fromkeys(concat.segments):
                self.concats_of[segment].append(concat)
        self.level_at = [
            {int(c): j for j, c in enumerate(group.levels)} for group in self.problem.groups
        ]

    def _sum_up(self) -> None:
        problem = self.problem
        self.sums = [problem.fixed_latency, problem.fixed_flash, problem.fixed_loss]
        self.group_rows = [self._group_row(g) for g in range(len(problem.groups))]
        self.layer_rows = [self._layer_row(n) for n in range(len(problem.layers))]
        for row in (*self.group_rows, *self.layer_rows):
            for m in range(3):
                self.sums[m] += row[m]
        for n in range(len(problem.layers)):
            self._use(n, 1)
        self.steps = [problem.fixed_sram + step.fixed for step in problem.steps]
        for t, step in enumerate(problem.steps):
            self.steps[t] += sum(float(s[self.levels[g]]) for g, s in step.groups.items())
            if step.layer is not None:
                self.steps[t] += self.layer_rows[step.layer][3]
        self.over_sram = sum(self._over(size) for size in self.steps)

    def _group_row(self, g: int) -> list[float]:
        row: list[float] = self.group_tables[g][self.levels[g]].tolist()
        return row

    def _layer_row(self, n: int) -> list[float]:
        layer = self.problem.layers[n]
        at = (self.levels[layer.input_group], self.levels[layer.output_group], self.options[n])
        row: list[float] = self.tables[n][at].tolist()
        return row

    def _use(self, n: int, change: int) -> None:
        kernel = self.problem.layers[n].kernels[self.options[n]]
        if kernel in self.code:
            users = self.users.get(kernel, 0) + change
            self.users[kernel] = users
            if users == (1 if change > 0 else 0):
                self.sums[1] += change * self.code[kernel]

    def _over(self, size: float) -> float:
        return max(size - self.sram_limit, 0.0)

    # --- reading ---------------------------------------------------------------------------------

    @property
    def decision(self) -> Decision:
        """The present decision."""
        return Decision(tuple(self.levels), tuple(self.options))

    @property
    def loss(self) -> float:
        """Total loss, nats."""
        return self.sums[2]

    @property
    def objective(self) -> float:
        """The weighted sum that the problem minimises."""
        peak = max(self.steps, default=self.problem.fixed_sram) if "sram" in self.weights else 0.0
        values = dict(zip(SUMS, self.sums, strict=True), sram=peak)
        return sum(weight * values[metric] for metric, weight in self.weights.items())

    def excess(self, skip: Metric | None = None) -> float:
        """How far the budgets are exceeded, as shares of them; 0 if they are kept."""
        over = self.over_sram / max(self.sram_limit, 1.0) if self.over_sram > 0 else 0.0
        for metric, most, scale in self.budgets:
            value = self.sums[SUMS.index(metric)]
            if metric != skip and value > most:
                over += (value - most) / scale
        return over

    # --- moving ----------------------------------------------------------------------------------

    def set_level(self, g: int, j: int) -> bool:
        """Move a free group to a level; False, with nothing changed, if that is impossible."""
        levels, options = [(g, self.levels[g])], []
        self._place(g, j)
        possible = bool(self.candidates.levels[g][j])
        for concat in self._containing(g):
            total = sum(int(self.problem.groups[s].levels[self.levels[s]]) for s in concat.segments)
            level = self.level_at[concat.group].get(total)
            if level is None or not self.candidates.levels[concat.group][level]:
                possible = False
                break
            levels.append((concat.group, self.levels[concat.group]))
            self._place(concat.group, level)
        touched = sorted({n for changed, _ in levels for n in self.layers_of[changed]})
        if possible:
            for n in touched:
                option = self._allowed_option(n)
                if option is None:
                    possible = False
                    break
                if option != self.options[n]:
                    options.append((n, self.options[n]))
                    self._choose(n, option)
        for n in touched:
            self._refresh(n)
        self.undo_log.append((levels, options))
        if not possible:
            self.undo()
        return possible

    def set_option(self, n: int, k: int) -> bool:
        """Move a layer to an option; False, with nothing changed, if it is not allowed here."""
        layer = self.problem.layers[n]
        i, j = self.levels[layer.input_group], self.levels[layer.output_group]
        if not self.candidates.options[n][i, j, k]:
            return False
        self.undo_log.append(([], [(n, self.options[n])]))
        self._choose(n, k)
        self._refresh(n)
        return True

    def undo(self) -> None:
        """Take back the last successful move."""
        levels, options = self.undo_log.pop()
        touched = {n for g, _ in levels for n in self.layers_of[g]} | {n for n, _ in options}
        for g, j in reversed(levels):
            self._place(g, j)
        for n, k in reversed(options):
            self._choose(n, k)
        for n in sorted(touched):
            self._refresh(n)

    def forget(self) -> None:
        """Past moves cannot be taken back any more."""
        self.undo_log.clear()

    def _containing(self, g: int) -> list[Concat]:
        """The concats that a group is part of, directly or not, inner ones first."""
        if not self.concats_of[g]:
            return []
        found: dict[int, Concat] = {}
        for concat in self.concats_of[g]:
            found[concat.group] = concat
            for outer in self._containing(concat.group):
                found.pop(outer.group, None)
                found[outer.group] = outer
        return list(found.values())

    def _allowed_option(self, n: int) -> int | None:
        """The present option, or the nearest allowed one, of the same kernel if there is one."""
        layer = self.problem.layers[n]
        i, j = self.levels[layer.input_group], self.levels[layer.output_group]
        allowed = self.candidates.options[n][i, j]
        k = self.options[n]
        if allowed[k]:
            return k
        left = np.flatnonzero(allowed).tolist()
        if not left:
            return None
        kernel = layer.kernels[k]
        return int(min(left, key=lambda other: (layer.kernels[other] != kernel, abs(other - k))))

    def _place(self, g: int, j: int) -> None:
        before = self.levels[g]
        self.levels[g] = j
        row, old = self._group_row(g), self.group_rows[g]
        for m in range(3):
            self.sums[m] += row[m] - old[m]
        self.group_rows[g] = row
        for t in self.steps_of[g]:
            size = self.problem.steps[t].groups[g]
            self._grow(t, float(size[j]) - float(size[before]))

    def _choose(self, n: int, k: int) -> None:
        self._use(n, -1)
        self.options[n] = k
        self._use(n, 1)

    def _refresh(self, n: int) -> None:
        """A layer's row after one of its indices changed."""
        row, old = self._layer_row(n), self.layer_rows[n]
        for m in range(3):
            self.sums[m] += row[m] - old[m]
        self.layer_rows[n] = row
        if row[3] != old[3]:
            for t in self.steps_of_layer[n]:
                self._grow(t, row[3] - old[3])

    def _grow(self, t: int, change: float) -> None:
        self.over_sram -= self._over(self.steps[t])
        self.steps[t] += change
        self.over_sram += self._over(self.steps[t])
