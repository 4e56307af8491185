"""`dtmm solvers` and `dtmm schedule INSTANCE`."""

from __future__ import annotations

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
    schedule_summary,
)
from dtmm.errors import ConfigError
from dtmm.pipeline.progress import Progress
from dtmm.scheduler import METRICS, Problem, Schedule, all_solvers

CAPABILITIES = ("coincident", "concat", "kernel_code", "per_unit", "pool")
FROM_SCORES = ("taylor", "taylor_squared", "fisher")
LOSS_MODEL_NAMES = (
    *FROM_SCORES, "capacity", "measured", "calibrated", "joint", "joint_capacity"
)  # fmt: skip


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
    table = make_table(None, ("solver", "version", "result", "minimises", "cannot"), left=5)
    for row in found:
        version = row["version"] or f"[yellow]absent[/yellow]: {row['needs']}"
        result = "optimum, proven" if row["exact"] else "a schedule"
        if row["proves_bound"] and not row["exact"]:
            result += " and a bound"
        cannot = ", ".join(name for name in CAPABILITIES if not row[name])
        missing = len(row["objectives"]) < len(METRICS)
        minimises = ", ".join(row["objectives"]) if missing else "anything"
        table.add_row(str(row["name"]), str(version), result, minimises, cannot)
    print_table(table)


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
                  help="Of a run: first-order Taylor is the paper's.")  # fmt: skip
    @click.option("--out", type=click.Path(dir_okay=False, path_type=Path),
                  help="Where an INSTANCE's schedule (or pool) goes, as a .dtmm file.")  # fmt: skip
    @click.option("--time-limit", type=float, metavar="SECONDS", help="Per solve.")
    @click.option("--gap", type=float, metavar="SHARE", help="At which a schedule is optimal.")
    @click.option("--solver", metavar="NAME", help="See `dtmm solvers`.")
    @click.pass_context
    def schedule(
        context: click.Context,
        /,
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
    table = make_table(
        problem.name, ("layer", "kernel", "channels in", "channels out", "filterlets"), 2
    )
    for layer in problem.layers:
        source, target = (problem.groups[g] for g in (layer.input_group, layer.output_group))
        sides = [f"{found.channels[g.name]} / {int(g.levels[0])}" for g in (source, target)]
        most = int(layer.filterlets.max())
        kept = f"{found.filterlets[layer.name]} / {most}"
        table.add_row(layer.name, found.kernels[layer.name], *sides, kept)
    print_table(table)
    click.echo(schedule_summary(found))


def _show_pool(problem: Problem, found: Any) -> None:
    from dtmm.scheduler import distance
    from dtmm.scheduler.evaluate import Decision

    headings = ("", *(f"{m}, {UNITS[m][0]}" for m in METRICS), "over the best", "differences")
    table = make_table(problem.name, headings)
    best = found.schedules[0]
    for n, each in enumerate(found.schedules, 1):
        apart = distance(Decision(each.levels, each.options), best.levels, best.options)
        totals = [amount(m, getattr(each, m)) for m in METRICS]
        over = f"{100 * (each.objective / best.objective - 1):.3f} %" if best.objective else ""
        table.add_row(str(n), *totals, over, str(apart))
    print_table(table)
    click.echo("differences: groups and layers that are decided otherwise than in the best one")
    if found.exhausted:
        click.echo(f"no further schedule differs in {found.differ} groups and layers")
