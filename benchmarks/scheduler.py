"""How fast and how good every solver is on the public instances.

python -m benchmarks.scheduler                       everything: results/scheduler.csv
python -m benchmarks.scheduler --only resnet12 --solver lagrangian --json
python -m benchmarks.scheduler --solver lagrangian --keep    these rows of the kept table anew
python -m benchmarks.scheduler --report              the kept table again, nothing solved
python -m benchmarks.scheduler --markdown            the kept table into docs/scheduler.md

A row is an instance and a solver. Seconds are wall time of `solve` (validation, presolve, building
the program and proof included) on one thread, CPU seconds what the process and its children spent
of them, which a busy machine changes less. The ratio is the objective over the best one known of
the instance, from instances/bounds.csv and this run; `--bounds` writes what this run improved.
A solver that stops at its time limit shows the gap it really proved.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

import dtmm
from benchmarks.instances import LIBRARY, Entry
from dtmm.artifact import write_atomic
from dtmm.device.provenance import git_commit
from dtmm.errors import ConfigError, DataError, DtmmError, InfeasibleError
from dtmm.scheduler import Problem, Schedule, all_solvers, solve
from dtmm.table import read_table, write_table

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "scheduler.csv"
DOCUMENT = HERE.parent / "docs" / "scheduler.md"
BEGIN = "<!-- measured: python -m benchmarks.scheduler --markdown -->"
END = "<!-- end of measured -->"
BOUNDS = HERE / "instances" / "bounds.csv"
GAP = 1e-4
TIME_LIMIT_S = 60.0
MOST = {"highs": 40_000, "cbc": 40_000}
MOST_OF_OTHERS = 300_000
"""Combinations (l, i, j, k) up to which solvers are tried; the first of `all_solvers` always is."""
SKIPPED = ("brute_force",)
COLUMNS = (
    *("network", "grid", "seed", "groups", "layers", "combinations", "solver", "version"),
    *("status", "time_limit", "seconds", "cpu_seconds", "objective", "bound", "gap", "ratio"),
)
KEYS = ("network", "grid", "seed")
"""What names an instance."""
_LEFT = ("network", "grid", "solver", "status")
_FORMATS = {
    "time_limit": "g",
    "seconds": ".2f",
    "cpu_seconds": ".2f",
    "objective": ",.0f",
    "bound": ",.0f",
    "gap": ".4%",
    "ratio": ".4f",
}


def tasks(only: Sequence[str], solvers: Sequence[str]) -> list[tuple[Entry, list[str]]]:
    """(instance, solvers that are tried on it). `only`: names of instances or of networks.

    Raises:
        ConfigError: a name that nothing has.
    """
    known = all_solvers()
    for name in solvers:
        if name not in known:
            raise ConfigError(f"unknown solver {name!r}, expected one of {', '.join(known)}")
    for name in only:
        if not any(name in (entry.name, entry.network) for entry in LIBRARY.values()):
            raise ConfigError(f"unknown instance {name!r}, expected one of {', '.join(LIBRARY)}")
    names = list(solvers) or [n for n in known if n not in SKIPPED and known[n].version()]
    chosen = [e for e in LIBRARY.values() if not only or {e.name, e.network} & set(only)]
    return [(entry, names) for entry in chosen]


def measure(
    entry: Entry, solvers: Sequence[str], forced: bool, gap: float, time_limit_s: float
) -> Iterator[dict[str, Any]]:
    """One row per solver; without `forced`, those are left out that the instance is too much for.

    Solvers that lack a capability that the instance needs are always left out.
    """
    problem = entry.problem()
    combinations = sum(int(layer.allowed.sum()) for layer in problem.layers)
    about = {
        "network": entry.network,
        "grid": entry.grid.name,
        "seed": entry.seed,
        "groups": len(problem.groups),
        "layers": len(problem.layers),
        "combinations": combinations,
    }
    for solver in solvers:
        first = solver == next(iter(all_solvers()))
        too_much = not first and combinations > MOST.get(solver, MOST_OF_OTHERS)
        if all_solvers()[solver].lacks(problem) or (too_much and not forced):
            continue
        yield {**about, **_solved(problem, solver, gap, time_limit_s)}


def _solved(problem: Problem, solver: str, gap: float, time_limit_s: float) -> dict[str, Any]:
    row: dict[str, Any] = {"solver": solver, "version": all_solvers()[solver].version()}
    row["time_limit"] = time_limit_s
    nothing = dict.fromkeys(("seconds", "cpu_seconds", "objective", "bound", "gap"))
    before = os.times()
    try:
        found: Schedule = solve(problem, solver, gap, time_limit_s)
    except InfeasibleError:
        return {**row, "status": "infeasible", **nothing}
    except DtmmError:
        return {**row, "status": "nothing found", **nothing}
    spent = [after - start for start, after in zip(before[:4], os.times()[:4], strict=True)]
    return {
        **row,
        "status": found.status,
        "seconds": round(found.seconds, 3),
        "cpu_seconds": round(sum(spent), 2),
        "objective": found.objective,
        "bound": found.bound,
        "gap": found.gap,
    }


def with_ratios(rows: list[dict[str, Any]], known: pd.DataFrame) -> pd.DataFrame:
    """The rows with the column `ratio`: objective over the best one known."""
    table = pd.DataFrame(rows)
    keys = list(KEYS)
    both = pd.concat([table[[*keys, "objective"]], known[[*keys, "objective"]]])
    best = both.astype({"objective": float}).groupby(keys)["objective"].min().rename("best")
    table = table.join(best, on=keys)
    table["ratio"] = table["objective"].astype(float) / table.pop("best")
    return table[list(COLUMNS)]


def merged(kept: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The kept table with the rows of `table` in place of those of the same instance and solver."""
    both = pd.concat([kept, table]).drop_duplicates([*KEYS, "solver"], keep="last")
    order = {name: n for n, name in enumerate(all_solvers())}
    place = {(e.network, e.grid.name, e.seed): n for n, e in enumerate(LIBRARY.values())}
    at = [
        (place.get((row["network"], row["grid"], row["seed"]), 0), order.get(row["solver"], 0))
        for row in both.to_dict("records")
    ]
    return both.iloc[sorted(range(len(at)), key=at.__getitem__)].reset_index(drop=True)


def known_bounds(path: Path = BOUNDS) -> pd.DataFrame:
    """The best objective and lower bound known of every instance; empty without the file."""
    if not path.is_file():
        columns = ["network", "grid", "seed", "objective", "bound", "gap", "solver", "version"]
        return pd.DataFrame(columns=columns)
    return read_table(path)[0]


def improved(known: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """`known` with what `table` proves better: the lowest objective and the highest bound."""
    keys, columns = list(KEYS), list(known.columns)
    rows = []
    solved = table.dropna(subset=["objective"])
    for key, group in pd.concat([known, solved[columns]]).groupby(keys, sort=False):
        group = group.reset_index(drop=True)
        best = group.iloc[int(group["objective"].astype(float).argmin())]
        bound = float(group["bound"].max())
        objective = float(best["objective"])
        gap = max(objective - bound, 0.0) / objective
        values = {"objective": objective, "bound": bound, "gap": gap}
        rows.append(dict(zip(keys, key, strict=True)) | dict(best[["solver", "version"]]) | values)
    return pd.DataFrame(rows)[columns]


def show(table: pd.DataFrame, console: Console) -> None:
    """The table for people."""
    shown = Table()
    names = [name for name in COLUMNS if name not in ("seed", "groups", "version")]
    for name in names:
        shown.add_column(name, justify="left" if name in _LEFT else "right")
    for row in table.to_dict("records"):
        shown.add_row(*(_text(name, row[name]) for name in names))
    console.print(shown)


def _text(name: str, value: Any) -> str:
    if value is None or value != value:
        return ""
    if name == "gap" and value == 1:
        return "no bound"
    return format(value, _FORMATS.get(name, ""))


def write_section(document: Path, table: pd.DataFrame, about: Mapping[str, str]) -> None:
    """Replace what stands between BEGIN and END of the document by the table.

    Raises:
        DataError: the document lacks the marks.
    """
    text = document.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise DataError(f"{document} lacks the marks {BEGIN} and {END}")
    write_atomic(document, "".join((head, begin, "\n", render(table, about), end, tail)))


def render(table: pd.DataFrame, about: Mapping[str, str]) -> str:
    """The table as Markdown: a row per instance, a column per solver."""
    solvers = list(dict.fromkeys(table["solver"]))
    names = ["network", "grid", "layers", "combinations"]
    rows = [[*names, *solvers], ["---", "---", *["---:"] * (len(names) - 2 + len(solvers))]]
    for _, group in table.groupby(list(KEYS), sort=False):
        found = {row["solver"]: row for row in group.to_dict("records")}
        first = next(iter(found.values()))
        cells = [_cell(found[name]) if name in found else "not tried" for name in solvers]
        rows.append([*(_text(name, first[name]) for name in names), *cells])
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"One thread of {about['machine']}, gap {about['gap']}. Proven: CPU seconds (wall seconds, "
        "marked w, where only those are known). Not proven: ratio to the best known, with the gap "
        f"where there is a bound.\n\n{text}\n"
    )


def _cell(row: Mapping[str, Any]) -> str:
    if row["status"] == "optimal":
        cpu = row["cpu_seconds"]
        return f"{cpu:.2f} s" if cpu == cpu else f"{row['seconds']:.2f} s w"
    if row["status"] != "feasible":
        return str(row["status"])
    return f"{row['ratio']:.3f}x" + (f", gap {row['gap']:.2%}" if row["gap"] < 1 else "")


def provenance(gap: float) -> Mapping[str, object]:
    """What the CSV says of itself."""
    return {
        "benchmark": "benchmarks.scheduler",
        "commit": git_commit(HERE) or "unknown",
        "dtmm": dtmm.__version__,
        "python": platform.python_version(),
        "machine": _cpu(),
        "threads": 1,
        "gap": f"{gap:g}",
        "unit": "objective and bound in cycles; time_limit, seconds, cpu_seconds in s",
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


@click.command(help=__doc__.splitlines()[0])
@click.option("--only", multiple=True, metavar="NAME", help="A network or an instance; repeatable.")
@click.option("--solver", multiple=True, metavar="NAME", help="Repeatable. [default: all]")
@click.option("--gap", default=GAP, show_default=True, help="At which optimality counts as proven.")
@click.option("--time-limit", default=TIME_LIMIT_S, show_default=True, help="Seconds per solve.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON on stdout.")
@click.option("--report", is_flag=True, help="Show the kept table; nothing is solved.")
@click.option("--keep", is_flag=True, help="Put these rows into results/scheduler.csv.")
@click.option("--markdown", is_flag=True, help="Write the kept table into docs/scheduler.md.")
@click.option("--bounds", is_flag=True, help="Write improved bounds to instances/bounds.csv.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The CSV. [default: results/scheduler.csv for a full run, else none]",
)
def main(
    only: tuple[str, ...],
    solver: tuple[str, ...],
    gap: float,
    time_limit: float,
    as_json: bool,
    report: bool,
    keep: bool,
    markdown: bool,
    bounds: bool,
    out: Path | None,
) -> None:
    """Command line."""
    try:
        if report or markdown:
            table, about = read_table(out or RESULTS)
            if markdown:
                write_section(DOCUMENT, table, about)
        else:
            rows = []
            for entry, names in tasks(only, solver):
                click.echo(entry.name, err=True)
                rows += list(measure(entry, names, bool(solver), gap, time_limit))
            table = with_ratios(rows, known_bounds())
            whole = not (only or solver)
            if keep and not whole:
                before = merged(read_table(RESULTS)[0], table)
                table = with_ratios(before.to_dict("records"), known_bounds())
            if path := out or (RESULTS if keep or whole else None):
                write_table(path, table, provenance(gap))
            if bounds:
                better = improved(known_bounds(), table)
                write_table(BOUNDS, better, {**provenance(gap), "benchmark": "bounds"})
    except DtmmError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(table.to_json(orient="records", indent=1))
    else:
        show(table, Console(highlight=False, width=None if Console().is_terminal else 160))


if __name__ == "__main__":
    main()
