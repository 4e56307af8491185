"""Runs experiments by name: tables, then figures made from the tables alone.

python -m experiments.run --list [--json]
python -m experiments.run operator_latency --quick
python -m experiments.run all --quick
python -m experiments.run all --figures-only      # redraws what is committed
python -m experiments.run all --quick --solver my_solver.py:Mine    # all that know solvers
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from dtmm.errors import DtmmError
from experiments.experiment import (
    QUICK_RESULTS,
    RESULTS,
    Experiment,
    Job,
    Swap,
    option,
    results_folder,
    swap_options,
)

NAMES = (
    "operator_latency",
    "operator_ablation",
    "operator_complexity",
    "storage_overhead",
    "fwcs_forms",
    "scheduler_comparison",
    "pareto_fronts",
    "trained_fronts",
    "loss_fidelity",
    "quantization",
    "latency_fidelity",
    "pruned_share",
    "scheduler_gain",
    "pruning_units",
    "memory_components",
    "overheads",
    "transfer",
    "compare_methods",
    "detection",
    "overall",
)
"""Every experiment, by the name of its module. A new one is a script and a line here."""


def experiment(name: str) -> Experiment:
    """The experiment of a module of this package."""
    found: Experiment = import_module(f"experiments.{name}").EXPERIMENT
    return found


def execute(
    names: Sequence[str], folder: Path, quick: bool, figures_only: bool, swap: Swap
) -> list[str]:
    """Runs one after the other, a failure does not stop the next; says how each went.

    Returns:
        The names of those that failed.
    """
    failed = []
    for name in names:
        started = time.monotonic()
        outcome = "done"
        try:
            if figures_only:
                experiment(name).figures(folder)
            else:
                experiment(name).execute(Job(folder, quick, swap))
        except DtmmError as error:
            failed.append(name)
            outcome = f"FAILED: {error}"
        click.echo(f"{name}: {outcome}, {time.monotonic() - started:.0f} s", err=True)
    return failed


def _listed() -> Iterator[dict[str, object]]:
    for name in NAMES:
        found = experiment(name)
        yield {
            "name": name,
            "title": found.title,
            "quick": found.quick,
            "swaps": list(found.swaps),
            "results": sorted(path.name for path in RESULTS.glob(f"{name}*.csv")),
        }


def _show(rows: Iterator[dict[str, object]]) -> None:
    table = Table("experiment", "what it shows")
    for row in rows:
        table.add_row(str(row["name"]), str(row["title"]))
    Console().print(table)


def chosen_names(names: Sequence[str], swap: Swap) -> Sequence[str]:
    """The experiments named; of `all` those that honour everything that is exchanged.

    Raises:
        UsageError: none, an unknown one, or one that does not honour an exchange.
    """
    if unknown := [name for name in names if name not in (*NAMES, "all")]:
        raise click.UsageError(f"unknown experiment {unknown[0]!r}, expected {', '.join(NAMES)}")
    if not names:
        raise click.UsageError("name an experiment, or `all`; --list shows them")
    given = swap.given()
    if "all" in names:
        found = [name for name in NAMES if given.keys() <= set(experiment(name).swaps)]
        if not found:
            flags = ", ".join(option(name) for name in given)
            raise click.UsageError(f"no experiment honours {flags} together; --list --json shows")
        return found
    try:
        for name in names:
            experiment(name).check(swap)
    except DtmmError as error:
        raise click.UsageError(str(error)) from None
    return names


@click.command(help="Runs experiments by name; `all` runs every one.")
@click.argument("names", nargs=-1, metavar="[NAME]...|all")
@click.option("--list", "listing", is_flag=True, help="Name every experiment.")
@click.option("--json", "as_json", is_flag=True, help="With --list: as JSON.")
@click.option("--quick/--full", default=None, help="Minutes in all, or the committed results.")
@click.option("--figures-only", is_flag=True, help="Draw the tables that are there.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Where results go. [default: {RESULTS.parent.name}/{RESULTS.name}; with --quick or an "
    f"exchange {QUICK_RESULTS}]",
)
def main(
    names: tuple[str, ...],
    listing: bool,
    as_json: bool,
    quick: bool | None,
    figures_only: bool,
    out: Path | None,
    **swap: str | None,
) -> None:
    """Command line."""
    if listing:
        rows = _listed()
        if as_json:
            click.echo(json.dumps(list(rows), indent=1))
        else:
            _show(rows)
        return
    given = Swap(**swap)
    chosen = chosen_names(names, given)
    if quick is None and not figures_only:
        raise click.UsageError("say --quick (minutes) or --full (the committed results, hours)")
    folder = out or results_folder(bool(quick), given)
    if failed := execute(chosen, folder, bool(quick), figures_only, given):
        raise click.ClickException(f"{len(failed)} of {len(chosen)} failed: {', '.join(failed)}")


main.params.extend(swap_options(tuple(Swap.__dataclass_fields__)))

if __name__ == "__main__":
    main()
