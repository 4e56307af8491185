"""Checks a problem's arrays before anything is solved: named errors instead of strange results."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from dtmm.errors import DtmmError
from dtmm.scheduler.evaluate import BUDGETED
from dtmm.scheduler.problem import METRICS, Concat, Group, Layer, MemoryStep, Problem


def validate(problem: Problem, monotone: bool = False) -> None:
    """Check every array, index and budget.

    Args:
        monotone: also demand that latency, flash and filterlets never grow, and loss never falls,
            where fewer channels are kept. Measured tables may break that honestly (padding, odd
            channel counts), so it is off unless asked for; buffers' bytes are always checked.

    Raises:
        DtmmError: one line that names the group, layer, step or budget, its value and what was
            expected.
    """
    where = f"problem {problem.name!r}"
    if not problem.groups:
        raise DtmmError(f"{where}: no channel groups, expected at least one")
    _check_parts(problem)
    _check_order(problem)
    _check_exclusions(problem)
    _check_objective(problem)
    _check_numbers(where, problem)
    if monotone:
        _check_monotone(problem)


def _check_parts(problem: Problem) -> None:
    where = f"problem {problem.name!r}"
    _unique(f"{where}: group", (group.name for group in problem.groups))
    _unique(f"{where}: layer", (layer.name for layer in problem.layers))
    for group in problem.groups:
        _check_group(group)
    for layer in problem.layers:
        _check_layer(layer, problem)
    for step in problem.steps:
        _check_step(step, problem)
    for concat in problem.concats:
        _check_concat(concat, problem)


def _check_numbers(where: str, problem: Problem) -> None:
    if problem.budgets.loss_rule not in ("sum", "per_unit"):
        raise DtmmError(
            f"{where}: loss_rule is {problem.budgets.loss_rule!r}, expected 'sum' or 'per_unit'"
        )
    for metric in BUDGETED:
        budget = getattr(problem.budgets, metric)
        if budget is not None:
            _number(f"{where}: {metric} budget", budget)
    for name in ("fixed_latency", "fixed_flash", "fixed_loss", "fixed_sram"):
        _number(f"{where}: {name}", getattr(problem, name))
    for kernel, code in (problem.kernel_code or {}).items():
        _number(f"{where}: kernel_code[{kernel!r}]", code)


def _check_group(group: Group) -> None:
    where = f"group {group.name!r}"
    levels = np.asarray(group.levels)
    if levels.ndim != 1 or levels.size == 0:
        raise DtmmError(f"{where}: levels have shape {levels.shape}, expected at least one level")
    _integers(f"{where}: levels", levels, at_least=1)
    if np.any(np.diff(levels) >= 0):
        raise DtmmError(f"{where}: levels {levels.tolist()} must be strictly descending")
    for name in ("latency", "flash", "loss"):
        _table(f"{where}: {name}", getattr(group, name), (levels.size,))
    if group.unit_loss is not None:
        _table(f"{where}: unit_loss", group.unit_loss, (levels.size,))
    if group.allowed is not None:
        _allowed(where, group.allowed, (levels.size,))


def _check_layer(layer: Layer, problem: Problem) -> None:
    where = f"layer {layer.name!r}"
    for name in ("input_group", "output_group"):
        _index(f"{where}: {name}", getattr(layer, name), len(problem.groups))
    if not layer.kernels:
        raise DtmmError(f"{where}: no kernels, expected at least one option")
    ni = len(problem.groups[layer.input_group].levels)
    nj = len(problem.groups[layer.output_group].levels)
    shape = (ni, nj, len(layer.kernels))
    for name in ("latency", "flash", "loss", "scratch"):
        _table(f"{where}: {name}", getattr(layer, name), shape)
    _shape(f"{where}: filterlets", np.asarray(layer.filterlets), shape[1:])
    _integers(f"{where}: filterlets", np.asarray(layer.filterlets), at_least=0)
    _allowed(where, layer.allowed, shape)
    if layer.unit_loss is not None:
        _table(f"{where}: unit_loss", layer.unit_loss, shape)


def _allowed(where: str, table: npt.ArrayLike, shape: tuple[int, ...]) -> None:
    allowed = np.asarray(table)
    _shape(f"{where}: allowed", allowed, shape)
    if allowed.dtype != np.bool_:
        raise DtmmError(f"{where}: allowed has dtype {allowed.dtype}, expected bool")
    if not allowed.any():
        raise DtmmError(f"{where}: no option is allowed at any level")


def _check_concat(concat: Concat, problem: Problem) -> None:
    _index("concat: group", concat.group, len(problem.groups))
    where = f"concat {problem.groups[concat.group].name!r}"
    if not concat.segments:
        raise DtmmError(f"{where}: no segments, expected at least one group")
    for segment in concat.segments:
        _index(f"{where}: segment", segment, len(problem.groups))
    kept = [problem.groups[segment].levels for segment in concat.segments]
    full = sum(int(levels[0]) for levels in kept)
    virtual = problem.groups[concat.group].levels
    if int(virtual[0]) > full:
        raise DtmmError(f"{where}: has {virtual[0]} channels, its segments only {full}")
    sums = {0}
    for levels in kept:
        sums = {total + int(c) for total in sums for c in levels}
    unreachable = [int(c) for c in virtual if int(c) not in sums]
    if unreachable:
        raise DtmmError(f"{where}: level {unreachable[0]} is no sum of its segments' levels")


def _check_order(problem: Problem) -> None:
    """Each group is the concatenation of others at most once, and of itself never."""
    inside: dict[int, tuple[int, ...]] = {}
    for concat in problem.concats:
        name = problem.groups[concat.group].name
        if concat.group in inside:
            raise DtmmError(f"concat {name!r}: is given twice, expected once")
        inside[concat.group] = concat.segments
    for start in inside:
        seen, todo = set(), list(inside[start])
        while todo:
            group = todo.pop()
            if group == start:
                raise DtmmError(f"concat {problem.groups[start].name!r}: contains itself")
            if group not in seen:
                seen.add(group)
                todo += inside.get(group, ())


def _check_exclusions(problem: Problem) -> None:
    for n, known in enumerate(problem.exclusions):
        where = f"exclusion {n}"
        sizes = [len(group.levels) for group in problem.groups]
        options = [len(layer.kernels) for layer in problem.layers]
        for what, given, most in (
            ("levels", known.levels, sizes),
            ("options", known.options, options),
        ):
            if len(given) != len(most):
                raise DtmmError(f"{where}: has {len(given)} {what}, expected {len(most)}")
            for value, size in zip(given, most, strict=True):
                _index(f"{where}: {what}", value, size)
        if known.differ < 1:
            raise DtmmError(f"{where}: differ is {known.differ}, expected at least 1")


def _check_objective(problem: Problem) -> None:
    where = f"problem {problem.name!r}: objective"
    for metric in METRICS:
        _number(f"{where}: weight of {metric}", getattr(problem.objective, metric))
    if not problem.objective.weights():
        raise DtmmError(f"{where}: all weights are 0, expected one above 0")


def _check_monotone(problem: Problem) -> None:
    for group in problem.groups:
        for name, sign in (("latency", 1), ("flash", 1), ("loss", -1)):
            _falling(f"group {group.name!r}: {name}", sign * np.asarray(getattr(group, name)), (0,))
    for layer in problem.layers:
        where = f"layer {layer.name!r}"
        _falling(f"{where}: filterlets", np.asarray(layer.filterlets), (0,))
        axes = (0, 1) if layer.input_group != layer.output_group else ()
        for name in ("latency", "flash"):
            table = np.where(layer.allowed, getattr(layer, name), np.nan)
            _falling(f"{where}: {name}", table, axes)


def _falling(where: str, table: npt.NDArray[np.generic], axes: tuple[int, ...]) -> None:
    """No value grows along an axis; nan stands for no value."""
    for axis in axes:
        with np.errstate(invalid="ignore"):
            rises = np.diff(table.astype(np.float64), axis=axis) > 0
        if rises.any():
            at = [int(i) for i in np.argwhere(rises)[0]]
            raise DtmmError(f"{where} is not monotone: it changes the wrong way after {at}")


def _check_step(step: MemoryStep, problem: Problem) -> None:
    where = f"step {step.name!r}"
    _number(f"{where}: fixed", step.fixed)
    if step.layer is not None:
        _index(f"{where}: layer", step.layer, len(problem.layers))
    for g, size in step.groups.items():
        _index(f"{where}: group", g, len(problem.groups))
        group = problem.groups[g]
        _table(f"{where}: bytes of group {group.name!r}", size, (len(group.levels),))
        _falling(f"{where}: bytes of group {group.name!r}", np.asarray(size), (0,))


def _unique(where: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DtmmError(f"{where} {name!r} appears twice, expected unique names")
        seen.add(name)


def _number(where: str, value: float) -> None:
    if not (np.isfinite(value) and value >= 0):
        raise DtmmError(f"{where} is {value}, expected a finite number >= 0")


def _index(where: str, value: int, size: int) -> None:
    if not 0 <= value < size:
        raise DtmmError(f"{where} is index {value}, expected 0 to {size - 1}")


def _shape(where: str, table: npt.NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if table.shape != shape:
        raise DtmmError(f"{where} has shape {table.shape}, expected {shape}")


def _integers(where: str, table: npt.NDArray[np.generic], at_least: int) -> None:
    if not np.issubdtype(table.dtype, np.integer):
        raise DtmmError(f"{where} have dtype {table.dtype}, expected integers")
    if table.size and int(table.min()) < at_least:
        raise DtmmError(f"{where} hold {table.min()}, expected integers >= {at_least}")


def _table(where: str, table: npt.ArrayLike, shape: tuple[int, ...]) -> None:
    values = np.asarray(table)
    _shape(where, values, shape)
    if not np.issubdtype(values.dtype, np.number):
        raise DtmmError(f"{where} has dtype {values.dtype}, expected numbers")
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DtmmError(f"{where} is {values[at]} at {list(at)}, expected finite numbers >= 0")
