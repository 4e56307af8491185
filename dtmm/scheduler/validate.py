"""Checks a problem's arrays before anything is solved: named errors instead of strange results."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from dtmm.errors import DtmmError
from dtmm.scheduler.evaluate import BUDGETED
from dtmm.scheduler.problem import Group, Layer, MemoryStep, Problem


def validate(problem: Problem) -> None:
    """Check every array, index and budget.

    Raises:
        DtmmError: one line that names the group, layer, step or budget, its value and what was
            expected.
    """
    where = f"problem {problem.name!r}"
    if not problem.groups:
        raise DtmmError(f"{where}: no channel groups, expected at least one")
    _unique(f"{where}: group", (group.name for group in problem.groups))
    _unique(f"{where}: layer", (layer.name for layer in problem.layers))
    for group in problem.groups:
        _check_group(group)
    for layer in problem.layers:
        _check_layer(layer, problem)
    for step in problem.steps:
        _check_step(step, problem)
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


def _check_layer(layer: Layer, problem: Problem) -> None:
    where = f"layer {layer.name!r}"
    for name in ("input_group", "output_group"):
        _index(f"{where}: {name}", getattr(layer, name), len(problem.groups))
    if layer.input_group == layer.output_group:
        raise DtmmError(f"{where}: input_group and output_group are both {layer.input_group}")
    if not layer.kernels:
        raise DtmmError(f"{where}: no kernels, expected at least one option")
    ni = len(problem.groups[layer.input_group].levels)
    nj = len(problem.groups[layer.output_group].levels)
    shape = (ni, nj, len(layer.kernels))
    for name in ("latency", "flash", "loss", "scratch"):
        _table(f"{where}: {name}", getattr(layer, name), shape)
    _shape(f"{where}: filterlets", np.asarray(layer.filterlets), shape[1:])
    _integers(f"{where}: filterlets", np.asarray(layer.filterlets), at_least=0)
    allowed = np.asarray(layer.allowed)
    _shape(f"{where}: allowed", allowed, shape)
    if allowed.dtype != np.bool_:
        raise DtmmError(f"{where}: allowed has dtype {allowed.dtype}, expected bool")
    if not allowed.any():
        raise DtmmError(f"{where}: no option is allowed at any level")


def _check_step(step: MemoryStep, problem: Problem) -> None:
    where = f"step {step.name!r}"
    _number(f"{where}: fixed", step.fixed)
    if step.layer is not None:
        _index(f"{where}: layer", step.layer, len(problem.layers))
    for g, size in step.groups.items():
        _index(f"{where}: group", g, len(problem.groups))
        group = problem.groups[g]
        _table(f"{where}: bytes of group {group.name!r}", size, (len(group.levels),))


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
