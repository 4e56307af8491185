"""`dtmm explain`: which budgets bind, what they are worth, what to relax."""

from __future__ import annotations

import json
from typing import Any

import click

from dtmm.cli.sources import (
    UNITS,
    amount,
    make_table,
    parse_amount,
    print_table,
    read_problem,
    schedule_dict,
    schedule_summary,
    solve_options,
)
from dtmm.errors import ConfigError, InfeasibleError
from dtmm.pipeline.progress import Progress
from dtmm.scheduler import METRICS, Metric, Problem


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
    headings = ("budget", "asked", "used", "binds", "step", "saves", "costs", "least", "next")
    table = make_table(None, headings)
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
    print_table(table)
    worth = f"{unit} in {UNITS[unit][0]}" if unit in UNITS else f"the {unit}"
    click.echo(f"saves, costs: {worth}, of a step more or less; what does not bind buys nothing")
    click.echo("least: as good down to this limit; next: better from this limit on")


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
    table = make_table(f"{problem.name}: nothing fits", headings)
    for m in metrics:
        together = None if best is None else best.budgets.get(m)
        table.add_row(
            f"{m}, {UNITS[m][0]}",
            amount(m, alone[m].budget),
            amount(m, alone[m].needed) or ("never" if alone[m].proven else "not found in time"),
            amount(m, free[m].needed) or ("never" if free[m].proven else "not found in time"),
            amount(m, together),
        )
    print_table(table)
    if best is not None:
        click.echo(
            "together: the budgets with the smallest sum of relative relaxations, "
            f"{100 * best.relaxation:.1f} %"
        )
