"""`dtmm pareto`: exact trade-offs between totals, as tables, CSV and figure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dtmm.cli.sources import (
    UNITS,
    amount,
    make_table,
    print_table,
    read_problem,
    schedule_dict,
    solve_options,
    source_file,
    source_name,
)
from dtmm.pipeline.progress import Progress
from dtmm.scheduler import METRICS, Metric

_METRIC = click.Choice(METRICS)


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--x", type=_METRIC, default="latency", show_default=True, help="Minimised.")
@click.option("--y", type=_METRIC, default="loss", show_default=True, help="Limited, swept.")
@click.option("--z", type=_METRIC, help="A third axis: several fronts, under limits on it.")
@click.option("--points", default=20, show_default=True, help="At most so many per front.")
@click.option("--solver", "names", multiple=True, metavar="NAME",
              help="Repeatable: a front per solver, in one figure. [default: auto]")  # fmt: skip
@click.option("--latency", "tables", multiple=True, metavar="CSV",
              type=click.Path(dir_okay=False, path_type=Path),
              help="Your own latency table instead of the run's, with the columns of latency.csv. "
              "Repeatable: a front per table; `-` is the run's own.")  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
              help="The CSV; PDF and PNG lie beside it. [default: pareto.csv in the run's folder, "
              "SOURCE_pareto.csv here for a file]")  # fmt: skip
@solve_options
def pareto(
    sources: tuple[str, ...],
    x: Metric,
    y: Metric,
    z: Metric | None,
    points: int,
    names: tuple[str, ...],
    tables: tuple[Path, ...],
    out: Path | None,
    budgets: tuple[str, ...],
    gap: float | None,
    time_limit: float,
    as_json: bool,
) -> None:
    """The exact trade-off between two totals, or three, within the other budgets.

    SOURCE is an instance (.dtmm), a run folder or a run's name [default: demo]. Several sources
    (other networks, other latency tables, other loss models) are drawn into one figure. Budgets of
    the totals on the axes are dropped unless --budget sets them.
    """
    from dtmm.scheduler.pareto import Front
    from dtmm.scheduler.pareto import pareto as solve_front

    sources = sources or ("demo",)
    axes = [axis for axis in (x, y, z) if axis is not None]
    latencies = [None if str(table) == "-" else table for table in tables] or [None]
    fronts: dict[str, Front] = {}
    progress = Progress()
    for source, table, name in itertools.product(sources, latencies, names or ("auto",)):
        problem = read_problem(source, budgets, axes, table)
        series = _series((source, sources), (table, latencies), (name, names))
        with progress.bar(f"{series}: solves") as bar:
            fronts[series] = solve_front(
                problem, x, y, z, points, name, 1e-4 if gap is None else gap, time_limit, bar
            )
    path = out or _default_out(sources[0])
    _save_fronts(fronts, path, axes, {"sources": ", ".join(sources), "budgets": ", ".join(budgets)})
    if as_json:
        shown = [_front_dict(series, front) for series, front in fronts.items()]
        click.echo(json.dumps({"csv": str(path), "fronts": shown}, indent=1))
        return
    for series, front in fronts.items():
        _show_front(series, front)
    click.echo(f"{path}, .pdf, .png")


def _series(
    source: tuple[str, Sequence[str]],
    table: tuple[Path | None, Sequence[Path | None]],
    solver: tuple[str, Sequence[str]],
) -> str:
    """What distinguishes a front from the others: of each pair (this one, all) what differs."""
    parts = [source_name(source[0])] if len(source[1]) > 1 else []
    parts += ["its own latency" if table[0] is None else table[0].stem] if len(table[1]) > 1 else []
    parts += [solver[0]] if len(solver[1]) > 1 else []
    return ", ".join(parts) or source_name(source[0])


def _default_out(source: str) -> Path:
    path = source_file(source)
    name = source_name(source)
    return path.parent / "pareto.csv" if path.stem != name else Path(f"{name}_pareto.csv")


def _save_fronts(
    fronts: dict[str, Any], path: Path, axes: Sequence[Metric], about: dict[str, str]
) -> None:
    import dtmm
    from dtmm.report.fronts import draw_fronts, front_table, save_figure
    from dtmm.table import write_table

    table = front_table(fronts)
    units = "cycles, bytes, bytes, nats for latency, flash, sram, loss"
    complete = {f"complete, {series}": front.complete for series, front in fronts.items()}
    provenance = {"axes": ", ".join(axes), **about, **complete, "dtmm": dtmm.__version__}
    write_table(path, table, {**provenance, "unit": units})
    save_figure(draw_fronts(table, *axes), path)


def _front_dict(series: str, front: Any) -> dict[str, Any]:
    points = [
        {"limits": dict(point.limits), "schedule": schedule_dict(point.schedule)}
        for point in front.points
    ]
    return {
        "series": series,
        "solver": front.solver,
        "axes": list(front.axes),
        "complete": front.complete,
        "solves": front.solves,
        "seconds": front.seconds,
        "points": points,
    }


def _show_front(series: str, front: Any) -> None:
    others = [metric for metric in METRICS if metric not in front.axes]
    shown: list[Metric] = [*front.axes, *others]
    table = make_table(f"{series} ({front.solver})", [f"{m}, {UNITS[m][0]}" for m in shown], 0)
    table.add_column("gap", justify="right")
    for point in front.points:
        found = point.schedule
        gap = "no bound" if found.bound <= 0 < found.objective else f"{100 * found.gap:.4f} %"
        table.add_row(*(amount(metric, getattr(found, metric)) for metric in shown), gap)
    print_table(table)
    whole = "every non-dominated point" if front.complete else "more points exist in between"
    click.echo(f"{len(front.points)} points, {front.solves} solves, {front.seconds:.1f} s; {whole}")
