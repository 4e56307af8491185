"""The annealer of the paper's published code, on our tables, for comparison.

As there (github.com/LixiangHan/DTMM, pruning/solve_sa.py): the state is a share beta of removed
channels per group and a share alpha of removed filterlets per layer; every step moves all of them
by up to 0.05 at random; accuracy is a threshold on single units, that is, an upper limit on each
share; where SRAM and then flash are exceeded, shares are raised until they are not, if need be
beyond the thresholds; temperatures fall from 100 to 0.1 by 0.9, 100 steps at each.

What had to be decided: shares are rounded to the nearest level and option that the problem has;
energies are per cent of the unpruned objective (the code's unit is its latency model's); a problem
that limits the *sum* of losses is annealed shortly at several thresholds, then as above at the one
with the best result that meets the sum, since the rule itself knows nothing of sums.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from dtmm.scheduler.evaluate import (
    Decision,
    all_unit_losses,
    broken_rules,
    evaluate,
    is_per_unit,
    limit,
    objective_value,
)
from dtmm.scheduler.presolve import presolve
from dtmm.scheduler.problem import Budgets, Problem
from dtmm.scheduler.solvers.base import Outcome, Settings, Solver
from dtmm.scheduler.solvers.flat import FlatTables
from dtmm.scheduler.solvers.walk import completed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HOT, COLD, COOLING = 100.0, 0.1, 0.9
STEPS = 100
TRIAL_STEPS = 5
"""Steps at each temperature while a threshold is looked for."""
DISTURBANCE = 0.05
RAISE = 0.05
BEYOND = 0.01
MOST_SHARE = 0.8
QUANTILES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85)
"""Of all scores: the thresholds tried for a summed loss budget; then those beside the best one."""
REFINE = 0.06
REPAIRS = 200


class PaperAnnealing(Solver):
    """The paper's simulated annealing with per-unit thresholds.

    Args:
        steps: at each temperature; the paper's code takes STEPS.
    """

    name: ClassVar[str] = "annealing_paper"
    keeps_time_limit: ClassVar[bool] = True
    randomised: ClassVar[bool] = True

    def __init__(self, steps: int = STEPS) -> None:
        self.steps = steps

    def minimise(self, problem: Problem, settings: Settings) -> Outcome:
        """See `Solver.minimise`; `gap` and `threads` mean nothing here."""
        stop = time.perf_counter() + settings.time_limit_s
        chance = np.random.default_rng(settings.seed)
        if is_per_unit(problem) or problem.budgets.loss is None:
            found = _anneal(problem, problem.budgets.loss, chance, stop, self.steps)
        else:
            found = _best_threshold(problem, chance, stop, self.steps)
        if found is None:
            return Outcome("unknown", None, 0.0)
        return Outcome("feasible", found[1], 0.0)


def _best_threshold(
    problem: Problem, chance: np.random.Generator, stop: float, most_steps: int
) -> tuple[float, Decision] | None:
    """The best result that keeps the sum of losses, over several thresholds."""
    known = all_unit_losses(problem)
    results: dict[float, tuple[float, Decision]] = {}

    def attempt(quantile: float, steps: int) -> None:
        threshold = float(np.quantile(known, quantile))
        found = _anneal(problem, threshold, chance, stop, steps)
        if found and (quantile not in results or found[0] < results[quantile][0]):
            results[quantile] = found

    for quantile in QUANTILES:
        attempt(quantile, min(TRIAL_STEPS, most_steps))
    if results:
        best = min(results, key=lambda quantile: results[quantile][0])
        for quantile in (best - REFINE, best + REFINE):
            attempt(quantile, min(TRIAL_STEPS, most_steps))
        attempt(min(results, key=lambda quantile: results[quantile][0]), most_steps)
    return min(results.values(), key=lambda found: found[0], default=None)


def _anneal(
    problem: Problem,
    threshold: float | None,
    chance: np.random.Generator,
    stop: float,
    steps: int,
) -> tuple[float, Decision] | None:
    """The best decision of one annealing under a threshold that keeps all of the budgets."""
    state = _State(problem, threshold)
    if state.candidates.empty:
        return None
    beta, alpha = np.zeros(len(problem.groups)), np.zeros(len(problem.layers))
    current, best = math.inf, math.inf
    chosen: tuple[float, Decision] | None = None
    temperature = HOT
    while temperature > COLD:
        for _ in range(steps):
            if time.perf_counter() > stop:
                return chosen
            new_beta = beta + chance.uniform(-DISTURBANCE, DISTURBANCE, len(beta))
            new_alpha = alpha + chance.uniform(-DISTURBANCE, DISTURBANCE, len(alpha))
            repaired = state.repaired(*state.clipped(new_beta, new_alpha))
            if repaired is None:
                continue
            new_beta, new_alpha, levels, options = repaired
            value = state.percent(levels, options)
            worse = value - current
            if worse < 0 or chance.random() < math.exp(-worse / temperature):
                beta, alpha, current = new_beta, new_alpha, value
            if value < best:
                decision = Decision(tuple(levels.tolist()), tuple(options.tolist()))
                totals = evaluate(problem, decision.levels, decision.options)
                if not broken_rules(problem, decision, totals):
                    best, chosen = value, (objective_value(problem, totals), decision)
        temperature *= COOLING
    return chosen


class _State:
    """Shares to levels and options, thresholds as limits of shares, and the repairs."""

    def __init__(self, problem: Problem, threshold: float | None) -> None:
        self.problem = problem
        self.flat = FlatTables(problem)
        unlimited = dataclasses.replace(problem, budgets=Budgets())
        ruled = dataclasses.replace(problem, budgets=Budgets(loss=threshold, loss_rule="per_unit"))
        within = presolve(ruled if threshold is not None else unlimited)
        # Beyond the thresholds, where SRAM or flash need it: only if the problem lets it.
        self.candidates = within if is_per_unit(problem) else presolve(unlimited)
        self._lay_out_levels()
        self._lay_out_options()
        self.most_beta = self._most(self.shares, within.levels)
        most_alpha = [
            float(layer_removed[mask.any(axis=0)].max()) if mask.any() else 0.0
            for layer_removed, mask in zip(self.removed_shares, within.options, strict=True)
        ]
        self.most_alpha = np.array(most_alpha)
        zero = np.zeros(len(problem.groups), dtype=np.int64)
        first = np.zeros(len(problem.layers), dtype=np.int64)
        dense = evaluate(problem, zero.tolist(), first.tolist())
        self.percent_unit = max(objective_value(problem, dense), 1e-12) / 100.0

    @staticmethod
    def _most(shares: list[Floats], masks: tuple[npt.NDArray[np.bool_], ...]) -> Floats:
        return np.array([
            float(share[mask].max()) if mask.any() else 0.0
            for share, mask in zip(shares, masks, strict=True)
        ])  # fmt: skip

    def _lay_out_levels(self) -> None:
        """[groups, most levels] share removed at each level, infinite where not allowed."""
        groups = self.problem.groups
        self.shares = [1.0 - g.levels / float(g.levels[0]) for g in groups]
        self.level_shares = np.full((len(groups), max(len(g.levels) for g in groups)), np.inf)
        for n, (share, mask) in enumerate(zip(self.shares, self.candidates.levels, strict=True)):
            self.level_shares[n, : len(share)] = np.where(mask, share, np.inf)

    def _lay_out_options(self) -> None:
        """Per layer, output level and option, the share of filterlets removed besides filters'."""
        layers = self.problem.layers
        most = max((len(x.kernels) for x in layers), default=0)
        self.within_row = np.arange(most)
        self.counts = np.array([len(x.kernels) for x in layers], dtype=np.int64)[:, None]
        self.removed_shares, rows, starts = [], [], [0]
        for layer in layers:
            whole = max(float(layer.filterlets[0].max()), 1.0)
            beta = self.shares[layer.output_group][:, None]
            removed = 1.0 - layer.filterlets / whole - beta
            self.removed_shares.append(removed)
            padded = np.full((len(removed), most), np.inf)
            padded[:, : removed.shape[1]] = removed
            rows.append(padded)
            starts.append(starts[-1] + len(removed))
        self.removed = np.concatenate([np.zeros((0, most)), *rows])
        self.removed_start = np.array(starts[:-1], dtype=np.int64)
        self.allowed = np.concatenate(
            [np.zeros(0, dtype=np.bool_), *(m.ravel() for m in self.candidates.options)]
        )

    def clipped(self, beta: Floats, alpha: Floats) -> tuple[Floats, Floats]:
        """Within the thresholds."""
        beta = np.clip(beta, 0.0, self.most_beta)
        room = np.maximum(self.most_alpha - beta[self.flat.outputs], 0.0)
        return beta, np.clip(alpha, 0.0, room)

    def rounded(self, beta: Floats, alpha: Floats) -> tuple[Ints, Ints] | None:
        """The nearest levels and options; None if a concat or a layer has none there."""
        levels = np.argmin(np.abs(self.level_shares - beta[:, None]), axis=1)
        if self.problem.concats:
            full = completed(self.problem, tuple(levels.tolist()))
            if full is None:
                return None
            levels = np.array(full, dtype=np.int64)
        if not len(alpha):
            return levels, np.zeros(0, dtype=np.int64)
        row = self.flat.entries(levels, np.zeros(len(alpha), dtype=np.int64))
        at = row[:, None] + np.minimum(self.within_row, self.counts - 1)
        removed = self.removed[self.removed_start + levels[self.flat.outputs]]
        off = np.where(self.allowed[at], np.abs(removed - alpha[:, None]), np.inf)
        # Several kernels may keep the same filterlets: the fastest of them is meant.
        latency = self.flat.layer_tables[0, at]
        off += 1e-9 * latency / np.maximum(latency.max(axis=1, keepdims=True), 1e-12)
        options = np.argmin(off, axis=1)
        if not np.isfinite(off[np.arange(len(options)), options]).all():
            return None
        return levels, options

    def percent(self, levels: Ints, options: Ints) -> float:
        """The objective in per cent of the unpruned one."""
        totals = self.flat.totals(levels, options)
        weights = self.problem.objective.weights()
        return sum(w * totals[m] for m, w in weights.items()) / self.percent_unit

    def repaired(self, beta: Floats, alpha: Floats) -> tuple[Floats, Floats, Ints, Ints] | None:
        """Shares raised until SRAM and then flash are kept; None if that does not end."""
        beta, alpha = beta.copy(), alpha.copy()
        budgets = self.problem.budgets
        before = np.concatenate([beta, alpha])
        for _ in range(REPAIRS):
            found = self.rounded(beta, alpha)
            if found is None:
                return None
            levels, options = found
            at = self.flat.entries(levels, options)
            sizes = self.flat.step_sizes(levels, self.flat.layer_tables[3, at])
            over = sizes > limit(budgets.sram)
            if over.any():
                live = np.unique(self.flat.live_group[over[self.flat.live_step]])
                self._raise_beta(beta, live)
            elif self.flat.totals(levels, options)["flash"] > limit(budgets.flash):
                self._raise_all(beta, alpha)
            else:
                return beta, alpha, levels, options
            after = np.concatenate([beta, alpha])
            if (after == before).all():
                return None
            before = after
        return None

    def _raise_beta(self, beta: Floats, groups: Ints) -> None:
        margin = self.most_beta[groups] - beta[groups]
        if (margin > 0).any():
            beta[groups] += np.clip(margin, 0.0, RAISE)
        else:
            beta[groups] = np.maximum(beta[groups], np.minimum(beta[groups] + BEYOND, MOST_SHARE))

    def _raise_all(self, beta: Floats, alpha: Floats) -> None:
        margin_beta = self.most_beta - beta
        margin_alpha = self.most_alpha - alpha - beta[self.flat.outputs]
        if not ((margin_beta > 1e-4).any() or (margin_alpha > 1e-4).any()):
            np.maximum(beta, np.minimum(beta + BEYOND, MOST_SHARE), out=beta)
        beta += np.clip(margin_beta, 0.0, RAISE)
        alpha += np.clip(margin_alpha, 0.0, RAISE)
