"""Measures every kernel on every shape, judges the targets, and keeps the table.

python -m benchmarks.kernels                            everything: results/kernels.csv
python -m benchmarks.kernels --only 16,64,64,75 --json  one 3x3 cell (H, Cin, Cout, percent)
python -m benchmarks.kernels --kernel conv_csr          the kept table's rows of this kernel again
python -m benchmarks.kernels --report                   the kept table again, nothing measured
python -m benchmarks.kernels --markdown                 the kept table into docs/kernels.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import shapes
from benchmarks.cells import Cell, kernel_of, measure
from benchmarks.external import external_cycles
from benchmarks.markdown import write_section
from benchmarks.shapes import CONV, Shape
from benchmarks.split import PARTS
from benchmarks.targets import BREAK_EVEN_PCT, Target, judge
from dtmm.errors import ConfigError, DtmmError
from dtmm.latency.harness import KERNELS
from dtmm.storage.dense import IM2COL_MAX_BYTES, im2col_stride
from dtmm.storage.kernel_ids import (
    CONV_CSR,
    CONV_FKW,
    CONV_FWCS,
    CONV_IM2COL,
    CONV_POINTWISE,
    family,
    kernel_ids,
    point_id,
)
from dtmm.storage.stored import VECTOR_BYTES, round_up
from dtmm.table import read_table, write_table

RESULTS = Path(__file__).parent / "results" / "kernels.csv"
DOCUMENT = Path(__file__).parents[1] / "docs" / "kernels.md"
SEED = 1
SPARSITIES = tuple(sorted({*shapes.SPARSITIES, BREAK_EVEN_PCT}))
IMAGE_CHANNELS = 4
"""Up to so many input channels a convolution is taken for a network's first one."""
RIVAL_SPARSITIES = (50, 56, 75, 90, 95)
"""Where rivals are measured, in percent of the weights; FKW begins at 5 of 9, all kernels kept."""

_SHAPE_FIELDS = ("h", "w", "cin", "cout", "kernel_h", "kernel_w", "stride")
COLUMNS = (
    ("kernel", "kernel", "s"),
    ("shape", "shape", "s"),
    ("removed %", "sparsity_pct", "d"),
    ("instructions", "instructions", ",d"),
    ("cycles", "cycles", ",.0f"),
    ("MAC/cycle", "mac_per_cycle", ".2f"),
    ("x bound", "times_bound", ".2f"),
    *((f"{part} %", part, ".0f") for part in PARTS),
    ("scratch B", "scratch_bytes", ",d"),
    ("weights B", "weight_bytes", ",d"),
    ("code B", "code_bytes", ",d"),
)
"""(heading, field, format) of what is shown."""


def dense_kernels(shape: Shape) -> tuple[str, ...]:
    """Ids of the kernels that run a shape with all its weights."""
    if shape.operator != CONV:
        return _known((kernel_of(shape),))
    window = shape.kernel_h * shape.kernel_w * shape.cin
    if shape.cin <= IMAGE_CHANNELS and window <= IM2COL_MAX_BYTES:
        stride = im2col_stride((shape.kernel_h, shape.kernel_w), shape.cin)
        return (CONV_IM2COL, *_point(CONV_IM2COL, stride, 1, shape.out_hw[1]))
    point: tuple[str, ...] = ()
    if shape.kernel_h * shape.kernel_w == 1:
        height, width = shape.out_hw
        pixels = height * width if shape.stride == 1 else width
        point = _point(CONV_POINTWISE, round_up(shape.cin, VECTOR_BYTES), shape.stride, pixels)
    return _variants("conv_dense", shape) + point


def sparse_kernels(shape: Shape) -> tuple[str, ...]:
    """Ids of the kernels that run a convolution of which filterlets are removed."""
    return _variants(CONV_FWCS, shape) if shape.operator == CONV else ()


def rival_kernels(shape: Shape, sparsity: int) -> tuple[str, ...]:
    """Ids of the kernels that run a convolution of which as many weights are removed otherwise."""
    if shape.operator != CONV or sparsity < min(RIVAL_SPARSITIES):
        return ()
    patterned = (shape.kernel_h, shape.kernel_w) == (3, 3) and sparsity > 55
    return (CONV_CSR, CONV_FKW) if patterned else (CONV_CSR,)


def _variants(operator: str, shape: Shape) -> tuple[str, ...]:
    """The looped kernel and those made for this pixel stride and output, as far as they exist."""
    in_stride = round_up(shape.cin, VECTOR_BYTES)
    return _known(kernel_ids(operator, in_stride, shape.stride, shape.out_hw))


def _point(operator: str, in_stride: int, stride_w: int, pixels: int) -> tuple[str, ...]:
    """The pointwise kernel, if there is one."""
    name = point_id(operator, in_stride, stride_w, pixels)
    return () if name is None else (name,)


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in KERNELS)


def all_cells() -> Iterator[Cell]:
    """Everything that is measured."""
    for shape in shapes.all_shapes():
        for kernel in dense_kernels(shape):
            yield Cell(kernel, shape)
    for shape in shapes.SPARSE:
        for kernel in sparse_kernels(shape):
            for sparsity in SPARSITIES:
                yield Cell(kernel, shape, sparsity)
        for sparsity in RIVAL_SPARSITIES:
            for kernel in rival_kernels(shape, sparsity):
                yield Cell(kernel, shape, sparsity)


def parse_cell(text: str) -> tuple[Shape, int]:
    """`H,CIN,COUT,SPARSITY` as a 3x3 shape and percent. Raises ConfigError on another form."""
    try:
        size, cin, cout, sparsity = (int(part) for part in text.split(","))
    except ValueError:
        size = cin = cout = sparsity = -1
    if min(size, cin, cout) < 1 or not 0 <= sparsity <= 100:
        raise ConfigError(f"--only {text!r}: expected H,CIN,COUT,SPARSITY such as 16,64,64,75")
    return Shape(CONV, size, size, cin, cout, 3, 3), sparsity


def one_cell(text: str, kernels: tuple[str, ...]) -> list[Cell]:
    """The cells of `--only`: every kernel that runs them, or those named.

    A dense kernel takes part at sparsity 0 alone: at others it would compute the same.
    """
    shape, sparsity = parse_cell(text)
    able = (*(dense_kernels(shape) if sparsity == 0 else ()), *sparse_kernels(shape))
    able += rival_kernels(shape, sparsity)
    gathered = tuple(kernel for kernel in able if family(kernel) == CONV_IM2COL)
    able = gathered or able
    if unknown := [kernel for kernel in kernels if kernel not in able]:
        raise ConfigError(
            f"kernel {unknown[0]!r} does not run {shape.describe()} at {sparsity} %: "
            f"expected {', '.join(able) or 'sparsity 0'}"
        )
    if not able:
        raise ConfigError(f"no kernel runs {shape.describe()} at {sparsity} %")
    return [Cell(kernel, shape, sparsity) for kernel in kernels or able]


def as_json(table: pd.DataFrame, provenance: dict[str, str]) -> dict[str, Any]:
    """The rows with everybody else's figures for the same cell."""
    others: list[dict[str, Any]] = []
    for (kernel, shape, sparsity), cycles in external_cycles().items():
        row = {"kernel": kernel, **shape.__dict__, "sparsity_pct": sparsity}
        same = (table["h"] == shape.h) & (table["cin"] == shape.cin) & (table["cout"] == shape.cout)
        same &= (table["kernel_h"] == shape.kernel_h) & (table["stride"] == shape.stride)
        same &= (table["operator"] == shape.operator) & (table["sparsity_pct"] == sparsity)
        if same.any():
            others.append({**row, "cycles": cycles})
    rows = json.loads(table.to_json(orient="records"))
    return {"rows": rows, "external": others, "provenance": provenance}


def show(table: pd.DataFrame, title: str, console: Console) -> None:
    """The rows for people; a row's parts are in percent of its cycles."""
    grid = Table(title=title)
    for name, *_ in COLUMNS:
        text = name in ("kernel", "shape")
        grid.add_column(name, justify="left" if text else "right", no_wrap=True)
    for row in table.to_dict("records"):
        shape = Shape(str(row["operator"]), *(int(row[name]) for name in _SHAPE_FIELDS))
        times = row["cycles"] / row["bound_cycles"]
        values = {**row, "shape": shape.describe(), "times_bound": times}
        values |= {part: 100 * row[f"{part}_cycles"] / row["cycles"] for part in PARTS}
        grid.add_row(*(format(values[field], style) for _, field, style in COLUMNS))
    console.print(grid)


def show_targets(targets: list[Target], console: Console) -> None:
    """One line per target."""
    grid = Table(title="targets")
    for name in ("target", "wanted", "found", "verdict"):
        grid.add_column(name)
    words = {True: "pass", False: "FAIL", None: "not measured"}
    for target in targets:
        grid.add_row(target.name, target.wanted, target.found, words[target.passed])
    console.print(grid)


@click.command(help=__doc__.splitlines()[0])
@click.option("--only", metavar="H,CIN,COUT,SPARSITY", help="One 3x3 cell; nothing is kept.")
@click.option("--kernel", "kernels", multiple=True, help="This kernel id alone.")
@click.option("--json", "json_output", is_flag=True, help="JSON on standard output.")
@click.option("--report", is_flag=True, help="Show the kept table; measure nothing.")
@click.option("--markdown", is_flag=True, help="Write the kept table into docs/kernels.md.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS)
@click.option("--seed", type=int, default=SEED, show_default=True)
def main(
    only: str | None,
    kernels: tuple[str, ...],
    json_output: bool,
    report: bool,
    markdown: bool,
    out: Path,
    seed: int,
) -> None:
    """Command line."""
    console = Console(width=max(Console().width, 180))
    try:
        if only is not None:
            table, provenance = measure(one_cell(only, kernels), seed)
        elif report or markdown:
            table, provenance = read_table(out, text=("kernel", "operator"))
        else:
            table, provenance = measure(_cells_of(kernels), seed, _progress)
            if kernels:
                table, provenance = _with_kept(out, table, provenance, kernels)
            write_table(out, table, provenance)
        if markdown:
            write_section(DOCUMENT, table, judge(table), provenance)
            click.echo(DOCUMENT)
        elif json_output:
            targets = [] if only else [target.__dict__ for target in judge(table)]
            click.echo(json.dumps({**as_json(table, provenance), "targets": targets}, indent=1))
        else:
            show(table, provenance.get("cycle_model", ""), console)
            if only is None:
                show_targets(judge(table), console)
    except DtmmError as error:
        raise click.ClickException(str(error)) from None


def _cells_of(kernels: tuple[str, ...]) -> list[Cell]:
    """All cells, or those of some kernels."""
    cells = [cell for cell in all_cells() if not kernels or cell.kernel in kernels]
    if unknown := set(kernels) - {cell.kernel for cell in cells}:
        raise ConfigError(f"--kernel {min(unknown)!r}: no kernel of the table")
    return cells


def _with_kept(
    path: Path, new: pd.DataFrame, provenance: dict[str, str], kernels: tuple[str, ...]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table at `path` with the rows of some kernels replaced, which its header says."""
    kept, before = read_table(path, text=("kernel", "operator"))
    table = pd.concat([kept[~kept["kernel"].isin(kernels)], new], ignore_index=True)
    for kernel in kernels:
        before[f"{kernel} commit"] = provenance["commit"]
    return table.astype({"gathered": "Int64"}), before


def _progress(done: int, total: int) -> None:
    print(f"{done} of {total} cells", file=sys.stderr)


if __name__ == "__main__":
    main()
