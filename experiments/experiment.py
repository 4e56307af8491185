"""What every experiment is: tables that it measures, and figures drawn from those tables alone.

    EXPERIMENT = Experiment("my_table", __doc__, run, draw, quick="one network")
    main = EXPERIMENT.command()

A script defines `run` and `draw`; the command line, where results go and the look of figures are
the same for all (`python -m experiments.run --list` names them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import matplotlib.style
from matplotlib.figure import Figure

import dtmm
from dtmm.device.provenance import git_commit
from dtmm.errors import ConfigError, DtmmError
from dtmm.scheduler import Schedule

RESULTS = Path(__file__).with_name("results")
"""Where committed results lie."""

QUICK_RESULTS = Path("runs/experiments")
"""Where quick runs write, so that committed results stay."""

STYLE = Path(__file__).with_name("style.mplstyle")
"""For `matplotlib.style.use`: vector output, and series that differ without colour."""


@dataclass(frozen=True)
class Swap:
    """What a user may exchange: by a registry's name, or one's own as MODULE:NAME or FILE.py:NAME.

    None: the experiment's own choice. An experiment names in `swaps` those that it honours.
    """

    solver: str | None = None
    cost_model: str | None = None
    loss_model: str | None = None
    criterion: str | None = None
    device: str | None = None
    executor: str | None = None

    def given(self) -> dict[str, str]:
        """What is exchanged, by field."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


_HELP = {
    "solver": "A solver of `dtmm solvers`, or your own class: MODULE:CLASS or FILE.py:CLASS.",
    "cost_model": "measured, fitted, analytic, mac, your latency CSV, or your own function.",
    "loss_model": "A loss model of docs/scheduler.md, or your own function.",
    "criterion": "An importance criterion of docs/pruning.md, or your own function.",
    "device": "A device of `dtmm devices`.",
    "executor": "Who evaluates the sweep: here, processes, or dask://HOST:PORT.",
}


@dataclass(frozen=True)
class Job:
    """One run of an experiment: where its tables go, how much of it, what is exchanged."""

    folder: Path
    quick: bool
    swap: Swap = Swap()


@dataclass(frozen=True)
class Experiment:
    """One script.

    Attributes:
        name: of the module, and of its files.
        about: its docstring; the first line is its title.
        run: measures and writes CSVs with provenance into the job's folder; resumable where it
            takes long.
        draw: (folder) figures and LaTeX beside the CSVs, from the CSVs alone, in the common style.
        quick: what a quick run leaves out.
        swaps: fields of Swap that `run` honours.
    """

    name: str
    about: str
    run: Callable[[Job], None]
    draw: Callable[[Path], None]
    quick: str
    swaps: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """One line."""
        return self.about.splitlines()[0]

    def execute(self, job: Job) -> None:
        """Tables, then figures.

        Raises:
            ConfigError: something is exchanged that the experiment does not honour.
            DtmmError: what the experiment says.
        """
        self.check(job.swap)
        self.run(job)
        self.figures(job.folder)

    def check(self, swap: Swap) -> None:
        """Raises ConfigError where something is exchanged that the experiment does not honour."""
        for name, value in swap.given().items():
            if name not in self.swaps:
                known = ", ".join(option(each) for each in self.swaps) or "no exchange"
                raise ConfigError(
                    f"experiment {self.name} does not honour {option(name)} {value}, "
                    f"expected {known}"
                )

    def figures(self, folder: Path) -> None:
        """Figures and LaTeX of the tables that lie in `folder`.

        Raises:
            DataError: a table is missing or malformed.
        """
        with matplotlib.style.context(STYLE):
            self.draw(folder)

    def command(self) -> click.Command:
        """The script's command line."""

        def main(quick: bool, figures_only: bool, out: Path | None, **swap: str | None) -> None:
            given = Swap(**swap)
            folder = out or results_folder(quick, given)
            before = _stamps(folder, self.name)
            try:
                if figures_only:
                    self.figures(folder)
                else:
                    self.execute(Job(folder, quick, given))
            except DtmmError as error:
                raise click.ClickException(str(error)) from None
            after = _stamps(folder, self.name)
            written = sorted(path for path, stamp in after.items() if stamp != before.get(path))
            click.echo(" ".join(str(path) for path in written))

        options = [
            click.Option(["--quick"], is_flag=True, help=self.quick),
            click.Option(["--figures-only"], is_flag=True, help="Draw the tables that are there."),
            click.Option(
                ["--out"],
                type=click.Path(file_okay=False, path_type=Path),
                help=f"Where results go. [default: {RESULTS.parent.name}/{RESULTS.name}; "
                f"with --quick or an exchange {QUICK_RESULTS}, so that committed results stay]",
            ),
            *swap_options(self.swaps),
        ]
        return click.Command(self.name, callback=main, params=list(options), help=self.title)


def run_script(name: str) -> None:
    """The script's command line under the module's own name instead of `__main__`, by which results
    stores and workers of other processes know its functions."""
    command: click.Command = import_module(f"experiments.{name}").main
    command()


def option(name: str) -> str:
    """The command line's name of a field of Swap."""
    return f"--{name.replace('_', '-')}"


def swap_options(shown: Sequence[str]) -> list[click.Option]:
    """An option per field of Swap; those that are not `shown` in the help are refused by name."""
    return [
        click.Option([option(each.name)], help=_HELP[each.name], hidden=each.name not in shown)
        for each in fields(Swap)
    ]


def results_folder(quick: bool, swap: Swap) -> Path:
    """Committed results are those of a full run that exchanges nothing but who evaluates it."""
    changed = swap.given().keys() - {"executor"}
    return QUICK_RESULTS if quick or changed else RESULTS


def exchanged(swap: Swap) -> dict[str, str]:
    """Provenance of what is exchanged."""
    return {f"exchanged {name}": value for name, value in swap.given().items()}


@cache
def commit() -> str:
    """Of this checkout when the process first asked, "+changes" if it had any; or "unknown"."""
    return git_commit(Path(__file__).parent) or "unknown"


def row_provenance(
    seed: int,
    dataset_sha256: str | None = None,
    schedule: Schedule | None = None,
    measured: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Columns that every measured row carries, so that rows of one table may come from many runs.

    They belong to the result that a store keeps, not to its point: the commit is then the one that
    measured the row, whichever run writes the table.

    Args:
        dataset_sha256: `Dataset.hash`; twelve digits of it are kept.
        schedule: that the row carries out: how it was solved, and its proven gap (a share).
        measured: of a device (`Measurement.provenance`): compiler and cycle model.
    """
    row: dict[str, Any] = {"seed": seed, "commit": commit(), "dtmm": dtmm.__version__}
    if dataset_sha256 is not None:
        row["dataset_sha256"] = dataset_sha256[:12]
    if schedule is not None:
        row["solver"] = f"{schedule.solver} {schedule.solver_version}".strip()
        row |= {"solver_status": schedule.status, "gap": schedule.gap}
    if measured is not None:
        row |= {key: str(measured[key]) for key in ("compiler", "cycle_model")}
    return row


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """`name`.pdf for print, `name`.png to look at; the same bytes for the same figure."""
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    figure.savefig(folder / f"{name}.png", dpi=300)


def _stamps(folder: Path, name: str) -> dict[Path, int]:
    """Files of an experiment, by when they were last written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob(f"{name}*") if path.is_file()}
