"""What the scheduler's verbs share: where problems come from, how budgets and results look."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from dtmm.config_values import KIB, parse_bytes, parse_nats
from dtmm.errors import ConfigError
from dtmm.scheduler import METRICS, Metric, Problem, Schedule

Function = TypeVar("Function", bound=Callable[..., Any])

RUNS = Path("runs")
PROBLEM = "problem.dtmm"
UNITS: Mapping[str, tuple[str, float, str]] = {
    "latency": ("kcycles", 1e3, ",.1f"),
    "flash": ("KiB", float(KIB), ",.1f"),
    "sram": ("KiB", float(KIB), ",.1f"),
    "loss": ("nats", 1.0, ".4f"),
}
"""Unit for people, what it is in the problem's own unit, and its format."""


def source_file(source: str) -> Path:
    """The instance file behind SOURCE: a file, a run folder, or a run's name.

    Raises:
        ConfigError: nothing of that name.
    """
    for folder in (Path(source), RUNS / source):
        if (folder / PROBLEM).is_file():
            return folder / PROBLEM
    if Path(source).is_file():
        return Path(source)
    if Path(source).is_dir() or (RUNS / source).is_dir():
        raise ConfigError(f"{source}: no {PROBLEM} in this run yet; `dtmm schedule` writes it")
    raise ConfigError(
        f"{source!r} is no instance file, no run folder and no run under {RUNS}/; "
        "`dtmm schedule` makes a run's instance"
    )


def read_problem(
    source: str,
    budgets: Sequence[str] = (),
    free: Sequence[Metric] = (),
    latency: Path | None = None,
) -> Problem:
    """The problem of SOURCE under other budgets.

    Args:
        budgets: `METRIC=VALUE` each, see `parse_budget`.
        free: metrics whose own budget is dropped unless `budgets` names them.
        latency: a latency table that replaces the one of SOURCE, which must be a run then.

    Raises:
        ConfigError, ArtifactError: no such source, a damaged file, a malformed budget.
    """
    from dtmm import artifact

    changes: dict[str, Any] = dict.fromkeys(free)
    changes |= dict(parse_budget(text) for text in budgets)
    path = source_file(source)
    if latency is None:
        problem = artifact.load(path, Problem)
    else:
        problem = _with_latency(source, path, latency)
    return dataclasses.replace(problem, budgets=dataclasses.replace(problem.budgets, **changes))


def _with_latency(source: str, path: Path, latency: Path) -> Problem:
    from dtmm.latency.table import LatencyTable
    from dtmm.pipeline.variants import run_problem

    if path.name != PROBLEM:
        raise ConfigError(f"{source} is an instance: a latency table can replace only a run's")
    return run_problem(path.parent, LatencyTable.load(latency))


def source_name(source: str) -> str:
    """How a source is called in tables: the run's name or the file's."""
    path = source_file(source)
    return path.parent.resolve().name if path.name == PROBLEM else path.stem


def parse_budget(text: str) -> tuple[Metric, float | None]:
    """(metric, limit) of `flash=400KiB`, `sram=65536`, `loss=0.5`, `latency=4e6`, `flash=none`.

    Raises:
        ConfigError: anything else.
    """
    metric, equals, value = text.partition("=")
    if not equals or metric not in METRICS:
        raise ConfigError(
            f"budget {text!r}: expected METRIC=VALUE with a metric of {', '.join(METRICS)}"
        )
    if value == "none":
        return metric, None
    try:
        return metric, parse_amount(metric, value)
    except ConfigError as error:
        raise ConfigError(f"budget {metric}: {error}") from None


def parse_amount(metric: Metric, value: str) -> float:
    """A total in the problem's unit: sizes as `128KiB`, losses in nats, latencies in cycles."""
    if metric in ("flash", "sram"):
        return float(parse_bytes(value))
    if metric == "loss":
        return float(parse_nats(value))
    try:
        cycles = float(value)
    except ValueError:
        cycles = -1.0
    if not 0 <= cycles < float("inf"):
        raise ConfigError(f"{value!r} is not a latency: expected cycles, e.g. 4.5e6")
    return cycles


def amount(metric: str, value: float | None, sign: bool = False) -> str:
    """A total for people, without its unit; empty for None."""
    if value is None:
        return ""
    _, scale, style = UNITS[metric]
    return format(value / scale, ("+" if sign else "") + style)


def solve_options(function: Function) -> Function:
    """--budget, --gap, --time-limit and --json."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout."),
        click.option(
            "--time-limit", default=60.0, show_default=True, metavar="SECONDS", help="Per solve."
        ),
        click.option(
            "--gap", type=float, metavar="SHARE", help="At which a solution counts as optimal."
        ),
        click.option(
            "--budget",
            "budgets",
            multiple=True,
            metavar="METRIC=VALUE",
            help="flash=400KiB, sram=64KiB, loss=0.5 (nats), latency=4e6 (cycles); "
            "METRIC=none drops one. Repeatable; others stay as in SOURCE.",
        ),
    ):
        function = decorate(function)
    return function


def schedule_dict(found: Schedule) -> dict[str, Any]:
    """A schedule for JSON: everything but the bare indices."""
    result = dataclasses.asdict(found)
    del result["levels"], result["options"]
    return result


def schedule_summary(found: Schedule) -> str:
    """One line: totals, gap and how it was found."""
    totals = ", ".join(f"{amount(m, getattr(found, m))} {UNITS[m][0]} {m}" for m in METRICS)
    gap = "no bound" if found.bound <= 0 < found.objective else f"gap {100 * found.gap:.4f} %"
    return (
        f"{totals}; {gap} ({found.status}, {found.solver} {found.solver_version}, "
        f"{found.seconds:.1f} s)"
    )


def print_table(table: Table) -> None:
    """On stdout."""
    Console(highlight=False).print(table)


def make_table(title: str | None, headings: Sequence[str], left: int = 1) -> Table:
    """A table whose first `left` columns are text."""
    table = Table(title=title)
    for n, heading in enumerate(headings):
        table.add_column(heading, justify="left" if n < left else "right", overflow="fold")
    return table
