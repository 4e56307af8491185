"""`dtmm runs`: what there is under runs/, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dtmm.errors import ConfigError

RUNS = Path("runs")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--folder", default=RUNS, show_default=True, type=click.Path(path_type=Path),
              help="Where runs lie, at most two levels deep.")  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE",
              help="Draw the runs over each other, FILE as PNG and PDF: cycles per operator, "
              "accuracy against flash.")  # fmt: skip
@click.option("--csv", "table_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the table as CSV.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def runs(
    names: tuple[str, ...],
    folder: Path,
    plot: Path | None,
    table_file: Path | None,
    as_json: bool,
) -> None:
    """Runs side by side: accuracy, cycles, flash, SRAM and how each schedule was found.

    NAME is a run's name or its folder; without any, all runs are listed, the oldest first.
    """
    from dtmm.report import runs as reports
    from dtmm.table import write_table

    folders = _folders(names, folder)
    found = reports.table(folders)
    if table_file is not None:
        write_table(table_file, found, {"runs": folder, "unit": "bytes, cycles, nats; shares"})
    if plot is not None:
        finished = {
            name: report
            for name, path in folders.items()
            if (report := reports.read_report(path)) is not None
        }
        if not finished:
            raise ConfigError("none of these runs has a report to draw; `dtmm report` writes it")
        made = reports.save_figure(reports.draw(finished), plot)
        click.echo(" ".join(map(str, made)), err=True)
    if as_json:
        click.echo(json.dumps(json.loads(found.to_json(orient="records")), indent=1))
    else:
        _print(found.to_dict("records"))


def _folders(names: tuple[str, ...], root: Path) -> dict[str, Path]:
    """Run folders by the name that they are shown under.

    Raises:
        ConfigError: nothing of a name, or no run at all.
    """
    from dtmm.report.runs import SETTINGS, run_folders

    if not names:
        found = {str(path.relative_to(root)): path for path in run_folders(root)}
        if not found:
            raise ConfigError(f"no run under {root}/; `dtmm demo` or `dtmm compress` makes one")
        return found
    chosen: dict[str, Path] = {}
    for name in names:
        known = [path for path in (root / name, Path(name)) if (path / SETTINGS).is_file()]
        if not known:
            have = ", ".join(str(path.relative_to(root)) for path in run_folders(root)) or "none"
            raise ConfigError(
                f"{name!r} is no run folder and no run under {root}/, which has {have}"
            )
        chosen[name] = known[0]
    return chosen


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table()
    headings = ("run", "network", "mode", "accuracy", "points", "kcycles", "flash KiB",
                "SRAM KiB", "est. loss", "solver")  # fmt: skip
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < 3 else "right", overflow="fold")
    for row in rows:
        if row["stage"] != "report":
            stage = f"as far as {row['stage']}" if row["stage"] else "nothing finished"
            table.add_row(row["run"], stage)
            continue
        gap, change = _shown(row["gap"], ".2%"), row["accuracy_change"]
        table.add_row(
            row["run"],
            f"{row['model']} on {row['dataset']}",
            row["mode"],
            _shown(row["accuracy"], ".2%"),
            _shown(None if change is None else 100 * change, "+.2f"),
            f"{row['cycles'] / 1e3:,.0f}",
            f"{row['flash'] / 1024:,.1f}",
            f"{row['sram'] / 1024:,.1f}",
            _shown(row["estimated_loss"], ".3f"),
            f"{row['solver']}, gap {gap}" if gap else "",
        )
    Console(highlight=False).print(table)


def _shown(value: float | None, form: str) -> str:
    """Empty where it is not known: None, or NaN once in a table."""
    return "" if value is None or value != value else format(value, form)
