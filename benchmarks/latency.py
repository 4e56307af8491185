"""The latency table of ResNet-12 and the model fitted to a twentieth of it: time and errors.

python -m benchmarks.latency              measures all 16 x 16 levels: results/latency.csv
python -m benchmarks.latency --refit      the fit anew, on the stored table; the rest stays
python -m benchmarks.latency --report     the kept figures again, nothing measured
python -m benchmarks.latency --markdown   the kept figures into docs/latency.md
python -m benchmarks.latency --analytic   dtmm/latency/analytic.csv anew, from points of its own
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.latency_design import design
from dtmm import latency
from dtmm.artifact import write_atomic
from dtmm.config import BudgetConfig, Config, TableConfig
from dtmm.deploy import plan, run_on_device
from dtmm.errors import ConfigError, DtmmError
from dtmm.latency import LatencyTable, Point
from dtmm.latency.code_size import measure_code_size
from dtmm.latency.fitted import FittedModel, errors, fit, sample, split
from dtmm.latency.measure import measure_points
from dtmm.latency.structure import structure
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline.remeasure import Scheduled, schedule_and_measure
from dtmm.pipeline.scheduling import levels
from dtmm.pipeline.source import ConfiguredSource
from dtmm.planning import layout, required_points
from dtmm.pruning.l2 import l2
from dtmm.pruning.removal import remove
from dtmm.quantization import quantize, quantize_input
from dtmm.table import read_table, write_table
from dtmm.training.calibrate import activation_ranges

RESULTS = Path(__file__).parent / "results" / "latency.csv"
FIT = Path(__file__).parent / "results" / "latency_fit.csv"
ANALYTIC = Path(latency.__file__).parent / "analytic.csv"
STORE = Path("runs") / "benchmarks" / "latency.jsonl"
SEED = 1
DESIGN = 10
"""Points of each structure for the analytic model."""

CONFIG = Config(
    table=TableConfig(channel_levels=16, filterlet_levels=16, seed=SEED),  # type: ignore[arg-type]
    budget=BudgetConfig(flash=None, sram=None, max_loss=4.0),  # type: ignore[arg-type]
)
"""ResNet-12 on Fashion-MNIST. l2 scores sum to 1 in each of its 12 convolutions: about a
third of the weights' energy goes."""

DOCUMENT = Path(__file__).parents[1] / "docs" / "latency.md"
BEGIN = "<!-- measured: python -m benchmarks.latency --markdown -->"
END = "<!-- end of measured -->"

ERRORS = ("mean_error", "worst_error")
FIGURES = ("fit_mean_error", "fit_worst_error", "network_error", "table_seconds")


@dataclass(frozen=True)
class Clock:
    """Seconds spent on a store, also by runs before that were stopped."""

    file: Path

    def spent(self) -> float:
        """So far."""
        return float(self.file.read_text()) if self.file.is_file() else 0.0

    def measure(self, points: tuple[Point, ...], store: Path) -> LatencyTable:
        """Measure with a progress line, and keep the time."""
        before, start = self.spent(), time.perf_counter()

        def report(done: int, total: int) -> None:
            spent = time.perf_counter() - start
            left = f", {spent * (total - done) / done / 60:.1f} min left" if done else ""
            print(f"{done} of {total} points{left}", file=sys.stderr)
            self.file.write_text(f"{before + spent:.1f}")

        return measure_points(points, store, SEED, progress=report)


def part(table: LatencyTable, points: tuple[Point, ...]) -> LatencyTable:
    """Of a table."""
    return LatencyTable({point: table.costs[point] for point in points}, table.provenance)


def fit_errors(table: LatencyTable) -> tuple[FittedModel, pd.DataFrame]:
    """The model of a twentieth of a table, and its errors on the others: a row per structure."""
    seen, checked = split(sample(table.costs))
    model = fit(part(table, seen), part(table, checked), len(table.costs))
    held = sorted(table.costs.keys() - set(seen))
    groups: dict[str, list[Point]] = {"all": held}
    for point in held:
        groups.setdefault(structure(point.kernel), []).append(point)
    rows = []
    for name, points in groups.items():
        found = errors(model, part(table, tuple(points)))
        used = sum(name in ("all", structure(point.kernel)) for point in seen)
        rows.append((name, used, len(points), found.mean, found.worst))
    columns = ["structure", "fit_points", "held_out_points", "mean_error", "worst_error"]
    return model, pd.DataFrame(rows, columns=columns).round(5)


def network_cycles(source: Network, found: Scheduled, config: Config) -> float:
    """The scheduled network as a whole on the device, without fine-tuning: weights do not matter
    for cycles, only which are there."""
    pruned = fold(remove(source, found.selection))
    dataset = ConfiguredSource(config).dataset
    images = dataset.to_input(dataset.train_images[:64])
    int8 = quantize(pruned, activation_ranges(pruned, images))
    ready = plan(int8, layout(pruned), found.schedule.kernels)
    return run_on_device(ready, quantize_input(int8, images[:1]), counted_images=1).cycles


def measure_all(store: Path) -> tuple[pd.DataFrame, FittedModel, dict[str, str]]:
    """The errors by structure, the fitted model, and how they came about with FIGURES."""
    source, _ = ConfiguredSource(CONFIG).network()
    folded = fold(source)
    points = required_points(folded, layout(folded), levels(CONFIG))
    store.parent.mkdir(parents=True, exist_ok=True)
    clock = Clock(store.with_suffix(".seconds"))
    table = clock.measure(points, store)
    model, rows = fit_errors(table)
    found = schedule_and_measure(CONFIG, source, l2(source), table, measure_code_size())
    told = sum(check.predicted for check in found.checks)
    whole = network_cycles(source, found, CONFIG)
    everything = rows.iloc[0]
    provenance = {
        **{key: str(value) for key, value in table.provenance.items()},
        "network": "resnet12, 16 x 16 levels",
        "points": str(len(points)),
        "table_seconds": f"{clock.spent():.0f}",
        "fit_mean_error": f"{everything['mean_error']:.5f}",
        "fit_worst_error": f"{everything['worst_error']:.5f}",
        "network_error": f"{abs(told / whole - 1):.5f}",
        "network_cycles": f"{whole:.0f}",
        "network_predicted": f"{told:.0f}",
        "layers_off": f"{len(found.first_off)} of {len(found.checks)}",
        "corrections": str(found.corrections),
    }
    return rows, model, provenance


def refit(store: Path) -> tuple[pd.DataFrame, FittedModel, dict[str, str]]:
    """As measure_all, but what the kept figures say of the network stays: a fit changes none of it.

    Raises DataError: there are no kept figures.
    """
    _, kept = read_table(RESULTS, text=("structure",))
    source, _ = ConfiguredSource(CONFIG).network()
    folded = fold(source)
    points = required_points(folded, layout(folded), levels(CONFIG))
    model, rows = fit_errors(measure_points(points, store, SEED))
    errors_of_all = {f"fit_{name}": f"{rows[name].iloc[0]:.5f}" for name in ERRORS}
    return rows, model, {**kept, **errors_of_all}


def make_analytic(store: Path) -> FittedModel:
    """The prices of the analytic model: of a structure each, whatever the kernel."""
    points = design(DESIGN, SEED)
    store.parent.mkdir(parents=True, exist_ok=True)
    table = Clock(store.with_suffix(".seconds")).measure(points, store)
    checked = points[::5]
    seen = tuple(point for point in points if point not in checked)
    return fit(part(table, seen), part(table, checked), len(points), pooled=True)


def show(rows: pd.DataFrame, provenance: dict[str, str], console: Console) -> None:
    """For people."""
    grid = Table(title=f"errors on points that the fit has not seen, {provenance['cycle_model']}")
    for name in ("structure", "fit points", "held out", "mean error", "worst error"):
        grid.add_column(name, justify="right" if grid.columns else "left")
    for name, used, held, mean, worst in rows.itertuples(index=False):
        grid.add_row(name, f"{used:,}", f"{held:,}", f"{mean:.2%}", f"{worst:.2%}")
    console.print(grid)
    for name in FIGURES:
        console.print(f"{name} {provenance[name]}")


def render(rows: pd.DataFrame, provenance: dict[str, str]) -> str:
    """The kept figures as Markdown."""
    lines = [
        "| kernels | points of the fit | held out | mean error | worst error |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {used:,} | {held:,} | {mean:.2%} | {worst:.2%} |"
        for name, used, held, mean, worst in rows.itertuples(index=False)
    ]
    error, seconds = float(provenance["network_error"]), float(provenance["table_seconds"])
    lines += [
        "",
        f"{provenance['network']}: {provenance['points']} points in {seconds:,.0f} s. A schedule "
        f"of it was measured layer by layer and as a whole: {provenance['layers_off']} operators "
        "were more than 3 % off the table, and after "
        f"{provenance['corrections']} corrections the sum over layers was {error:.2%} from the "
        f"{float(provenance['network_cycles']) / 1e6:.2f} Mcycles of the network.",
        "",
        f"{provenance['cycle_model']}, QEMU {provenance['qemu']}, {provenance['compiler']}, "
        f"patterns: {provenance['patterns']}, seed {provenance['pattern_seed']}.",
    ]
    return "\n".join(lines)


def write_document(rows: pd.DataFrame, provenance: dict[str, str]) -> None:
    """Replace what stands between BEGIN and END of DOCUMENT."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    text = f"{before}{BEGIN}\n\n{render(rows, provenance)}\n\n{END}{after}"
    write_atomic(DOCUMENT, text)


@click.command(help=__doc__.splitlines()[0])
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON on standard output.")
@click.option("--refit", "fit_again", is_flag=True, help="Fit the stored table again.")
@click.option("--report", is_flag=True, help="Show the kept figures; measure nothing.")
@click.option("--markdown", is_flag=True, help="Write the kept figures into docs/latency.md.")
@click.option("--analytic", is_flag=True, help="Write dtmm/latency/analytic.csv.")
@click.option("--store", type=click.Path(path_type=Path), default=STORE, show_default=True)
def main(
    as_json: bool, report: bool, fit_again: bool, markdown: bool, analytic: bool, store: Path
) -> None:
    """Command line."""
    try:
        if analytic:
            if report or as_json:
                raise ConfigError("--analytic goes with neither --report nor --json")
            make_analytic(store.with_name("analytic.jsonl")).save(ANALYTIC)
            click.echo(ANALYTIC)
            return
        if report or markdown:
            rows, provenance = read_table(RESULTS, text=("structure",))
        else:
            rows, model, provenance = refit(store) if fit_again else measure_all(store)
            model.save(FIT)
            write_table(RESULTS, rows, provenance)
        if markdown:
            write_document(rows, provenance)
            click.echo(DOCUMENT)
        elif as_json:
            click.echo(json.dumps({name: float(provenance[name]) for name in FIGURES}, indent=1))
        else:
            show(rows, provenance, Console(highlight=False))
    except DtmmError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
