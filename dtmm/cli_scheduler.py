"""`dtmm solvers`, `dtmm schedule INSTANCE`, `dtmm pareto`, `dtmm explain`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dtmm.cli_sources import (
    UNITS,
    amount,
    parse_amount,
    read_problem,
    schedule_dict,
    schedule_summary,
    solve_options,
    source_file,
    source_name,
)
from dtmm.errors import ConfigError, InfeasibleError
from dtmm.pipeline.progress import Progress
from dtmm.scheduler import METRICS, Metric, Problem, Schedule, all_solvers

CAPABILITIES = ("coincident", "concat", "kernel_code", "per_unit", "pool")
FROM_SCORES = ("taylor", "taylor_squared", "fisher")
LOSS_MODEL_NAMES = (*FROM_SCORES, "measured", "calibrated")
_METRIC = click.Choice(METRICS)


def _print(table: Table) -> None:
    Console(highlight=False).print(table)


def _table(title: str | None, headings: Sequence[str], left: int = 1) -> Table:
    """A table whose first `left` columns are text."""
    table = Table(title=title)
    for n, heading in enumerate(headings):
        table.add_column(heading, justify="left" if n < left else "right", overflow="fold")
    return table


# --- solvers ---------------------------------------------------------------------------------


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def solvers(as_json: bool) -> None:
    """The scheduler's solvers: version, whether it is here, what it can do and what it proves."""
    found = [
        {
            "name": name,
            "version": solver.version(),
            "available": solver.version() is not None,
            "needs": solver.needs,
            "exact": solver.exact,
            "proves_bound": solver.proves_bound,
            "keeps_time_limit": solver.keeps_time_limit,
            "randomised": solver.randomised,
            "objectives": [metric for metric in METRICS if metric in solver.objectives],
            **{name: getattr(solver, name) for name in CAPABILITIES},
        }
        for name, solver in all_solvers().items()
    ]
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    table = _table(None, ("solver", "version", "result", "minimises", "cannot"), left=5)
    for row in found:
        version = row["version"] or f"[yellow]absent[/yellow]: {row['needs']}"
        result = "optimum, proven" if row["exact"] else "a schedule"
        if row["proves_bound"] and not row["exact"]:
            result += " and a bound"
        cannot = ", ".join(name for name in CAPABILITIES if not row[name])
        missing = len(row["objectives"]) < len(METRICS)
        minimises = ", ".join(row["objectives"]) if missing else "anything"
        table.add_row(str(row["name"]), str(version), result, minimises, cannot)
    _print(table)


# --- schedule --------------------------------------------------------------------------------


def with_instances(stage: click.Command) -> click.Command:
    """The stage verb `schedule`, which also solves saved instances and makes pools."""

    @click.command("schedule")
    @click.option("--pool", "pool_size", type=int, metavar="K", help="The K best schedules.")
    @click.option("--differ", type=int, default=1, show_default=True, metavar="D",
                  help="With --pool: any two differ in at least D groups and layers.")  # fmt: skip
    @click.option("--sensitivity", type=click.Path(dir_okay=False, path_type=Path), metavar="CSV",
                  help="Measured losses, for --loss-model measured and calibrated.")  # fmt: skip
    @click.option("--loss-model", type=click.Choice(LOSS_MODEL_NAMES),
                  help="Of a run: the paper's first-order Taylor sum, others, or measured.")  # fmt: skip
    @click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
                  help="Where an INSTANCE's schedule (or pool) goes, as a .dtmm file.")  # fmt: skip
    @click.option("--time-limit", type=float, metavar="SECONDS", help="Per solve.")
    @click.option("--gap", type=float, metavar="SHARE", help="At which a schedule is optimal.")
    @click.option("--solver", metavar="NAME", help="See `dtmm solvers`.")
    @click.pass_context
    def schedule(
        context: click.Context,
        overrides: tuple[str, ...],
        pool_size: int | None,
        differ: int,
        loss_model: str | None,
        sensitivity: Path | None,
        out: Path | None,
        time_limit: float | None,
        gap: float | None,
        solver: str | None,
        **stage_options: Any,
    ) -> None:
        """Choose every layer's filters and filterlets.

        As a stage of a run, or of a saved INSTANCE: a .dtmm file, a run folder or a run's name,
        solved as it is under its own budgets or those given. Stages before it are not run then.
        """
        settings = {"solver": solver, "gap": gap, "time_limit_s": time_limit}
        losses = _loss_settings(loss_model, sensitivity)
        given = {name: value for name, value in settings.items() if value is not None}
        sources = [text for text in overrides if "=" not in text]
        if len(sources) > 1:
            raise ConfigError(f"instances {', '.join(sources)} given, expected one")
        if sources:
            _refuse_run_options([*overrides, *losses], stage_options)
            options = (("flash", "flash"), ("sram", "sram"), ("loss", "max_loss"))
            budgets = [
                f"{m}={stage_options[o]}" for m, o in options if stage_options[o] is not None
            ]
            problem = read_problem(sources[0], budgets)
            _solve(problem, given, pool_size, differ, out, stage_options["as_json"])
            return
        if pool_size is not None or out is not None:
            raise ConfigError("--pool and --out need an INSTANCE: a run's name or a .dtmm file")
        as_stage = [f"schedule.{name}={value}" for name, value in given.items()]
        context.invoke(stage, overrides=(*overrides, *losses, *as_stage), **stage_options)

    argument = click.Argument(["overrides"], nargs=-1, metavar="[INSTANCE] [SECTION.KEY=VALUE]...")
    options = [p for p in stage.params if not isinstance(p, click.Argument)]
    schedule.params = [argument, *options, *schedule.params]
    return schedule


def _loss_settings(model: str | None, sensitivity: Path | None) -> list[str]:
    """A run's settings for --loss-model and --sensitivity: scores have their own criterion."""
    given = [] if sensitivity is None else [f"schedule.sensitivity={sensitivity}"]
    if model in FROM_SCORES:
        return [*given, f"importance.criterion={model}", "schedule.loss_model=scores"]
    return given if model is None else [*given, f"schedule.loss_model={model}"]


def _refuse_run_options(overrides: Sequence[str], options: dict[str, Any]) -> None:
    settings = [text for text in overrides if "=" in text]
    settings += [f"--{name}" for name in ("name", "config") if options[name] is not None]
    if settings:
        raise ConfigError(f"{settings[0]} has no meaning for a saved instance, only for a run")


def _solve(
    problem: Problem,
    settings: dict[str, Any],
    pool_size: int | None,
    differ: int,
    out: Path | None,
    as_json: bool,
) -> None:
    from dtmm import artifact
    from dtmm.scheduler import solve
    from dtmm.scheduler.pool import Pool, pool

    result: Schedule | Pool
    if pool_size is None:
        result = solve(problem, **settings)
        shown: dict[str, Any] = schedule_dict(result)
    else:
        with Progress().bar("schedules") as bar:
            result = pool(problem, pool_size, differ, progress=bar, **settings)
        schedules = [schedule_dict(each) for each in result.schedules]
        shown = {"differ": differ, "exhausted": result.exhausted, "schedules": schedules}
    if out is not None:
        artifact.save(result, out)
    if as_json:
        click.echo(json.dumps(shown, indent=1))
    elif isinstance(result, Pool):
        _show_pool(problem, result)
    else:
        _show_schedule(problem, result)


def _show_schedule(problem: Problem, found: Schedule) -> None:
    table = _table(
        problem.name, ("layer", "kernel", "channels in", "channels out", "filterlets"), 2
    )
    for layer in problem.layers:
        source, target = (problem.groups[g] for g in (layer.input_group, layer.output_group))
        sides = [f"{found.channels[g.name]} / {int(g.levels[0])}" for g in (source, target)]
        most = int(layer.filterlets.max())
        kept = f"{found.filterlets[layer.name]} / {most}"
        table.add_row(layer.name, found.kernels[layer.name], *sides, kept)
    _print(table)
    click.echo(schedule_summary(found))


def _show_pool(problem: Problem, found: Any) -> None:
    from dtmm.scheduler import distance
    from dtmm.scheduler.evaluate import Decision

    headings = ("", *(f"{m}, {UNITS[m][0]}" for m in METRICS), "over the best", "differences")
    table = _table(problem.name, headings)
    best = found.schedules[0]
    for n, each in enumerate(found.schedules, 1):
        apart = distance(Decision(each.levels, each.options), best.levels, best.options)
        totals = [amount(m, getattr(each, m)) for m in METRICS]
        over = f"{100 * (each.objective / best.objective - 1):.3f} %" if best.objective else ""
        table.add_row(str(n), *totals, over, str(apart))
    _print(table)
    click.echo("differences: groups and layers that are decided otherwise than in the best one")
    if found.exhausted:
        click.echo(f"no further schedule differs in {found.differ} groups and layers")


# --- pareto ----------------------------------------------------------------------------------


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
    table = _table(f"{series} ({front.solver})", [f"{m}, {UNITS[m][0]}" for m in shown], 0)
    table.add_column("gap", justify="right")
    for point in front.points:
        found = point.schedule
        gap = "no bound" if found.bound <= 0 < found.objective else f"{100 * found.gap:.4f} %"
        table.add_row(*(amount(metric, getattr(found, metric)) for metric in shown), gap)
    _print(table)
    whole = "every non-dominated point" if front.complete else "more points exist in between"
    click.echo(f"{len(front.points)} points, {front.solves} solves, {front.seconds:.1f} s; {whole}")


# --- explain ---------------------------------------------------------------------------------


@click.command()
@click.argument("source", default="demo", metavar="[SOURCE]")
@click.option("--step", "given_steps", multiple=True, metavar="METRIC=VALUE",
              help="By how much a budget is moved, e.g. flash=4KiB. Repeatable. "
              "[default: flash=1KiB, sram=1KiB, loss=0.01, latency=1e4]")  # fmt: skip
@click.option("--solver", default="auto", show_default=True, metavar="NAME", help="An exact one.")
@solve_options
def explain(
    source: str,
    given_steps: tuple[str, ...],
    solver: str,
    budgets: tuple[str, ...],
    gap: float | None,
    time_limit: float,
    as_json: bool,
) -> None:
    """Which budgets bind, what each is worth, and what to relax where nothing fits.

    SOURCE is an instance (.dtmm), a run folder or a run's name [default: demo]. Every figure comes
    from solving again with that budget moved, not from a relaxation's dual prices.
    """
    from dtmm.scheduler.explain import GAP
    from dtmm.scheduler.explain import explain as ask

    problem = read_problem(source, budgets)
    steps = dict(_step(text) for text in given_steps)
    try:
        with Progress().bar("budgets") as bar:
            found = ask(problem, steps, solver, GAP if gap is None else gap, time_limit, bar)
    except InfeasibleError:
        _explain_infeasible(problem, time_limit, as_json)
        return
    if as_json:
        click.echo(json.dumps({"feasible": True, **_explanation_dict(found)}, indent=1))
    else:
        _show_explanation(found)


def _step(text: str) -> tuple[Metric, float]:
    metric, equals, value = text.partition("=")
    if not equals or metric not in METRICS:
        raise ConfigError(
            f"step {text!r}: expected METRIC=VALUE with a metric of {', '.join(METRICS)}"
        )
    return metric, parse_amount(metric, value)


def _explanation_dict(found: Any) -> dict[str, Any]:
    def change(each: Any) -> dict[str, Any]:
        return {
            name: getattr(each, name) for name in ("limit", "objective", "saved", "low", "high")
        }

    moved = ("dropped", "looser", "tighter")
    plain = ("metric", "budget", "used", "binds", "step", "spare", "next")
    prices = [
        {name: getattr(price, name) for name in plain}
        | {name: change(getattr(price, name)) for name in moved}
        for price in found.prices
    ]
    return {
        "problem": found.problem,
        "unit": found.unit,
        "schedule": schedule_dict(found.schedule),
        "prices": prices,
        "seconds": found.seconds,
    }


def _show_explanation(found: Any) -> None:
    unit = found.unit
    headings = ("budget", "asked", "used", "binds", "step", "a step more saves",
                "a step less costs", "as good down to", "better from")  # fmt: skip
    table = _table(None, headings)
    for price in found.prices:
        metric = price.metric
        binds = {True: "yes", False: "no", None: "not settled in time"}[price.binds]
        less = price.tighter.saved
        table.add_row(
            f"{metric}, {UNITS[metric][0]}",
            *(amount(metric, value) for value in (price.budget, price.used)),
            binds,
            amount(metric, price.step),
            _worth(unit, price.looser.saved),
            "no fit" if less is None else _worth(unit, -less),
            amount(metric, price.spare),
            amount(metric, price.next) or "-",
        )
    click.echo(f"{found.problem}: {schedule_summary(found.schedule)}")
    _print(table)
    worth = f"{unit} in {UNITS[unit][0]}" if unit in UNITS else f"the {unit}"
    click.echo(f"savings and costs: {worth}; budgets that do not bind buy nothing at any value")


def _worth(unit: str, saved: float) -> str:
    saved = saved if abs(saved) > 1e-9 else 0.0
    return amount(unit, saved) if unit in UNITS else f"{saved:,.6g}"


def _explain_infeasible(problem: Problem, time_limit: float, as_json: bool) -> None:
    from dtmm.scheduler.relax import limited, smallest_budget, smallest_combination

    metrics = limited(problem)
    alone = {m: smallest_budget(problem, m, True, time_limit) for m in metrics}
    free = {m: smallest_budget(problem, m, False, time_limit) for m in metrics}
    best = smallest_combination(problem, time_limit)
    if as_json:
        rows = [
            {
                "metric": m,
                "budget": alone[m].budget,
                "alone": alone[m].needed,
                "others_dropped": free[m].needed,
                "together": None if best is None else best.budgets.get(m),
                "proven": alone[m].proven and free[m].proven,
            }
            for m in metrics
        ]
        relaxation = None if best is None else best.relaxation
        shown = {"feasible": False, "budgets": rows, "smallest_sum_of_relaxations": relaxation}
        click.echo(json.dumps(shown, indent=1))
        return
    headings = ("budget", "asked", "enough alone", "enough with the others dropped", "together")
    table = _table(f"{problem.name}: nothing fits", headings)
    for m in metrics:
        together = None if best is None else best.budgets.get(m)
        table.add_row(
            f"{m}, {UNITS[m][0]}",
            amount(m, alone[m].budget),
            amount(m, alone[m].needed) or ("never" if alone[m].proven else "not found in time"),
            amount(m, free[m].needed) or ("never" if free[m].proven else "not found in time"),
            amount(m, together),
        )
    _print(table)
    if best is not None:
        click.echo(
            "together: the budgets with the smallest sum of relative relaxations, "
            f"{100 * best.relaxation:.1f} %"
        )
