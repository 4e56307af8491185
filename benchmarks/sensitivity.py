"""Which conclusions change if uncertain parameters of the cycle model double?

python -m benchmarks.sensitivity              layers: results/sensitivity.csv
python -m benchmarks.sensitivity --networks   networks: results/sensitivity_networks.csv
python -m benchmarks.sensitivity --report     the kept tables again

Each variant changes one parameter of m55-v1; the kernels, the block counts and the cache misses
are the same. Where several of our kernels run a layer, each variant takes the fastest by its own
figures, as a deployment under that model would. CMSIS-NN, counted alike, is in
external/cmsis_nn_variants.csv.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import shapes
from benchmarks.cells import Cell
from benchmarks.external import FOLDER
from benchmarks.kernels import dense_kernels, sparse_kernels
from benchmarks.shapes import Shape
from benchmarks.zoo import DENSE, ZOO, deployment
from dtmm.deploy.profile import profile
from dtmm.device import CycleModel, collect_provenance, cycle_model, run_firmware
from dtmm.errors import DtmmError
from dtmm.latency.harness import run_points
from dtmm.table import read_table, write_table

RESULTS = Path(__file__).parent / "results" / "sensitivity.csv"
NETWORK_RESULTS = RESULTS.with_name("sensitivity_networks.csv")
NETWORKS = ("resnet12", "vgg11")
SEED = 1
FAMILY = "conv_fwcs"
REMOVED = (10, 25, 50, 75, 90)
SHOWN = (10, 75, 90)
"""Filterlets removed, in percent."""
DEPTHWISE = tuple(shapes.DEPTHWISE_SHAPES[i] for i in (0, 2, 4, 6))
SPARSE = shapes.TABLE[:-1]

PARAMETERS: dict[str, dict[str, Any]] = {
    "m55-v1": {},
    "branch_penalty=4": {"branch_penalty": 4.0},
    "scatter_penalty=2": {"scatter_penalty": 2.0},
    "scatter_penalty=6": {"scatter_penalty": 6.0},
    "data_wait_states=1": {"data_wait_states": 1.0},
    "data_wait_states=2": {"data_wait_states": 2.0},
    "fetch_wait_states=1": {"fetch_wait_states": 1.0},
    "fetch_wait_states=2": {"fetch_wait_states": 2.0},
}
CACHED = {"m55-v2": 1.0, "m55-v2, lines twice": 2.0}
"""Times the cycles of a missed line."""
VARIANTS = (*PARAMETERS, *CACHED)

_SHAPE = ["operator", "h", "w", "cin", "cout", "kernel_h", "kernel_w", "stride"]


def cells() -> Iterator[Cell]:
    """Everything that is counted."""
    for shape in (*shapes.TABLE, *shapes.POINTWISE_TABLE, *DEPTHWISE):
        for kernel in dense_kernels(shape):
            yield Cell(kernel, shape)
    for shape in SPARSE:
        for kernel in sparse_kernels(shape):
            if kernel.startswith(FAMILY):
                for removed in REMOVED:
                    yield Cell(kernel, shape, removed)


def measure() -> tuple[pd.DataFrame, dict[str, str]]:
    """One row per cell and variant, and how they were measured."""
    counted = list(cells())
    cache = cycle_model("m55-v2").cache
    with tempfile.TemporaryDirectory(prefix="dtmm-sensitivity-") as name:
        elf = run_points([cell.point for cell in counted], SEED, Path(name)).elf
        run = run_firmware(elf.path, count_regions=True, cwd=Path(name), cache=cache)
        cycles = {
            variant: [
                cost.cycles for cost in CycleModel(variant, **options).price(elf.path, run.regions)
            ]
            for variant, options in PARAMETERS.items()
        }
        provenance = {k: str(v) for k, v in collect_provenance(elf).to_dict().items()}
    missed = [counts.read_misses for counts in run.cache]
    for variant in CACHED:
        cycles[variant] = list(_cached(variant, np.array(cycles["m55-v1"]), np.array(missed)))
    rows = [
        {
            "kernel": cell.kernel,
            **cell.shape.__dict__,
            "removed_pct": cell.sparsity_pct,
            "variant": variant,
            "cycles": round(cycles[variant][i]),
            "read_missed_lines": missed[i],
        }
        for i, cell in enumerate(counted)
        for variant in VARIANTS
    ]
    return pd.DataFrame(rows), {**provenance, "seed": str(SEED)}


def measure_networks() -> tuple[pd.DataFrame, dict[str, str]]:
    """One row per network, form (dense, pruned) and variant, and how they were measured."""
    found: list[dict[str, object]] = []
    provenance: dict[str, str] = {}
    models = [CycleModel(variant, **options) for variant, options in PARAMETERS.items()]
    for entry in (entry for entry in ZOO if entry.name in NETWORKS):
        for form in entry.variants:
            run = profile(deployment(entry, form, SEED), models=models)
            lines = sum(step.lines_missed or 0 for step in run.steps)
            cycles = {variant: run.total(variant) for variant in PARAMETERS}
            for variant in CACHED:
                cycles[variant] = float(
                    _cached(variant, np.array(cycles["m55-v1"]), np.array(lines))
                )
            row = {"network": entry.name, "form": form, "read_missed_lines": lines}
            found += [{**row, "variant": v, "cycles": round(cycles[v])} for v in VARIANTS]
            keys = ("compiler", "flags", "qemu", "cycle_model", "dtmm_version", "commit")
            provenance = {key: str(run.provenance[key]) for key in keys}
    return pd.DataFrame(found), {**provenance, "seed": str(SEED)}


def _cached(variant: str, cycles: np.ndarray, lines: np.ndarray) -> np.ndarray:
    memory = cycle_model("m55-v2").memory
    assert memory is not None
    return np.asarray(cycles + CACHED[variant] * memory.cycles_per_missed_line * lines)


class Figures:
    """Cycles by variant: ours (the fastest kernel), and CMSIS-NN's (the better compiler's)."""

    def __init__(self, table: pd.DataFrame) -> None:
        theirs, _ = read_table(FOLDER / "cmsis_nn_variants.csv", text=("compiler", "variant"))
        zero_wait = theirs[theirs["variant"] == "m55-v1"]
        for variant in CACHED:
            lines = zero_wait["read_missed_lines"].to_numpy()
            cycles = _cached(variant, zero_wait["cycles"].to_numpy(), lines)
            theirs = pd.concat([theirs, zero_wait.assign(variant=variant, cycles=cycles)])
        self._theirs = theirs.groupby(["variant", *_SHAPE])["cycles"].min()
        fwcs = table.assign(fwcs=table["kernel"].str.startswith(FAMILY))
        self._ours = fwcs.groupby(["variant", *_SHAPE, "fwcs", "removed_pct"])["cycles"].min()

    def cmsis_nn(self, variant: str, shape: Shape) -> float:
        """Cycles of CMSIS-NN."""
        return float(self._theirs[(variant, *shape.__dict__.values())])

    def dense(self, variant: str, shape: Shape) -> float:
        """Cycles of our fastest dense kernel."""
        return float(self._ours[(variant, *shape.__dict__.values(), False, 0)])

    def fwcs(self, variant: str, shape: Shape, removed: int) -> float:
        """Cycles of our fastest FWCS kernel with so many percent of filterlets removed."""
        return float(self._ours[(variant, *shape.__dict__.values(), True, removed)])


def conclusions(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Variant to conclusion to its figure."""
    figures = Figures(table)
    return {variant: dict(_conclusions(figures, variant)) for variant in VARIANTS}


def ratios(figures: Figures, variant: str) -> dict[str, list[float]]:
    """What each conclusion compares: our cycles over CMSIS-NN's, or FWCS over dense, by layer."""
    groups = {"3x3": shapes.TABLE, "pointwise": shapes.POINTWISE_TABLE, "depthwise": DEPTHWISE}
    found = {
        f"{name} / CMSIS-NN": [
            figures.dense(variant, s) / figures.cmsis_nn(variant, s) for s in group
        ]
        for name, group in groups.items()
    }
    for removed in SHOWN:
        found[f"FWCS {removed} % / dense"] = [
            figures.fwcs(variant, s, removed) / figures.dense(variant, s) for s in SPARSE
        ]
    return found


def _conclusions(figures: Figures, variant: str) -> Iterator[tuple[str, str]]:
    for name, found in ratios(figures, variant).items():
        yield name, f"{_mean(found):.2f}x, worst {max(found):.2f}x"
    even = [_break_even(figures, variant, shape) for shape in SPARSE]
    yield "break-even, worst layer", max(even, key=lambda text: (len(text), text))
    rates = [s.macs / figures.dense(variant, s) for s in SPARSE if s.cin >= 64]
    yield "3x3 MAC/cycle, Cin >= 64", f"{min(rates):.2f}"


def verdict(table: pd.DataFrame) -> str:
    """One sentence per comparison: whether some variant turns it round, and how far it moves."""
    figures = Figures(table)
    by_variant = {variant: ratios(figures, variant) for variant in VARIANTS}
    lines = []
    for name in by_variant["m55-v1"]:
        means = {variant: _mean(found[name]) for variant, found in by_variant.items()}
        turned = [v for v, found in by_variant.items() if max(found[name]) > 1]
        least, most = min(means, key=lambda v: means[v]), max(means, key=lambda v: means[v])
        lines.append(
            f"- {name}: {means['m55-v1']:.2f}x under m55-v1, from {means[least]:.2f}x ({least}) to "
            f"{means[most]:.2f}x ({most}); above 1 on some layer: {', '.join(turned) or 'never'}."
        )
    return "\n".join(lines)


def _break_even(figures: Figures, variant: str, shape: Shape) -> str:
    dense = figures.dense(variant, shape)
    faster = (pct for pct in REMOVED if figures.fwcs(variant, shape, pct) <= dense)
    return next((f"<= {pct} %" for pct in faster), f"> {REMOVED[-1]} %")


def _mean(ratios: Iterable[float]) -> float:
    return float(np.exp(np.mean(np.log(list(ratios)))))


def rows(table: pd.DataFrame) -> list[list[str]]:
    """The conclusions as a grid, one line per variant."""
    found = conclusions(table)
    names = list(found["m55-v1"])
    return [["model", *names], *([v, *(found[v][n] for n in names)] for v in VARIANTS)]


def kept() -> tuple[pd.DataFrame, dict[str, str], pd.DataFrame]:
    """The kept tables: layers, their provenance, networks."""
    layers, provenance = read_table(RESULTS, text=("kernel", "operator", "variant"))
    networks, _ = read_table(NETWORK_RESULTS, text=("network", "form", "variant"))
    return layers, provenance, networks


def network_rows(table: pd.DataFrame) -> list[list[str]]:
    """Cycles of every network, and what pruned forms take of the dense one, a line per variant."""
    forms = list(dict.fromkeys(zip(table["network"], table["form"], strict=True)))
    cycles = table.set_index(["variant", "network", "form"])["cycles"]
    found = [["model", *(f"{network}, {form}" for network, form in forms)]]
    for variant in VARIANTS:
        cells = []
        for network, form in forms:
            spent, dense = cycles[variant, network, form], cycles[variant, network, DENSE]
            share = "" if form == DENSE else f" ({spent / dense:.3f}x)"
            cells.append(f"{spent / 1e6:.2f} M{share}")
        found.append([variant, *cells])
    return found


@click.command(help=__doc__.splitlines()[0])
@click.option("--report", is_flag=True, help="Show the kept tables; measure nothing.")
@click.option("--networks", is_flag=True, help="Whole networks instead of layers.")
def main(report: bool, networks: bool) -> None:
    """Command line."""
    try:
        if networks and not report:
            write_table(NETWORK_RESULTS, *measure_networks())
        elif not report:
            write_table(RESULTS, *measure())
        layers, _, whole = kept()
        for head, *lines in (rows(layers), network_rows(whole)):
            grid = Table(*head, title="conclusions by model")
            for line in lines:
                grid.add_row(*line)
            Console(width=200).print(grid)
        click.echo(verdict(layers))
    except DtmmError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
