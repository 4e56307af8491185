"""Asks another model of the Cortex-M55, SLOTHY's, about our hottest loops, and for a better order.

SLOTHY (PyPI `slothy`) needs ortools, which cannot live beside our solvers: give it an environment
of its own and name that environment's Python.

python -m venv build/slothy && build/slothy/bin/pip install slothy
python -m benchmarks.second_opinion --slothy-python build/slothy/bin/python
python -m benchmarks.second_opinion --report            the kept table: results/second_opinion.csv
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import shapes
from benchmarks.cells import Cell
from dtmm.device import CycleModel, collect_provenance
from dtmm.device.block_price import price_block
from dtmm.device.cycle_model import BlockCost
from dtmm.device.mca import block_cycles
from dtmm.errors import DtmmError, ToolchainError
from dtmm.latency.harness import run_points
from dtmm.table import read_table, write_table

RESULTS = Path(__file__).parent / "results" / "second_opinion.csv"
WORKER = Path(__file__).with_name("slothy_worker.py")
SEED = 1
CELLS: tuple[tuple[Cell, int], ...] = (
    (Cell("conv_fwcs_c32_1x8_listed", shapes.TABLE[1], 25), 6),
    (Cell("conv_fwcs_c64_1x8_listed", shapes.TABLE[2], 25), 6),
    (Cell("conv_pointwise_p32", shapes.POINTWISE_TABLE[0]), 1),
    (Cell("conv_pointwise_p64", shapes.POINTWISE_TABLE[1]), 1),
    (Cell("depthwise_conv", shapes.DEPTHWISE_SHAPES[4]), 2),
    (Cell("fully_connected", shapes.FULLY_CONNECTED_SHAPES[0]), 2),
)
"""What is looked at, and how many of its hottest blocks."""
MAC, LOAD = ("vmla", "vmul"), ("vldr",)
TEXT = ("kernel", "shape", "unknown")
"""Columns of text."""

Block = tuple[str, ...]


def hot_blocks() -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The hottest blocks of CELLS as measured (and as QEMU cut them), and how they were."""
    model = CycleModel()
    with tempfile.TemporaryDirectory(prefix="dtmm-opinion-") as name:
        run = run_points([cell.point for cell, _ in CELLS], SEED, Path(name))
        priced = model.price_blocks(run.elf.path, run.regions)
        provenance = {k: str(v) for k, v in collect_provenance(run.elf, model).to_dict().items()}
    found = []
    for (cell, count), blocks in zip(CELLS, priced, strict=True):
        total = sum(block.cycles for block in blocks)
        hottest = sorted(blocks, key=lambda each: -each.cycles)[:count]
        found += [_row(cell, block, total) for block in hottest]
    return found, provenance


def _row(cell: Cell, block: BlockCost, total: float) -> dict[str, Any]:
    scheduled = price_block(block.instructions).scheduled
    macs, loads = (sum(text.startswith(names) for text in scheduled) for names in (MAC, LOAD))
    return {
        "kernel": cell.kernel,
        "shape": cell.shape.describe(),
        "removed_pct": cell.sparsity_pct,
        "share_pct": round(100 * block.cycles / total, 1),
        "instructions": len(scheduled),
        "vector_macs": macs,
        "vector_loads": loads,
        "block": scheduled,
    }


def ask(python: Path, blocks: Sequence[Block], timeout_s: int) -> list[dict[str, Any]]:
    """SLOTHY's answers, in order. Raises ToolchainError when it cannot be run."""
    question = json.dumps({"blocks": blocks, "timeout_s": timeout_s})
    try:
        done = subprocess.run(
            [python, WORKER], input=question, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ToolchainError(f"SLOTHY's Python {python} cannot be started: {error}") from error
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or len(answers) != len(blocks):
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise ToolchainError(
            f"SLOTHY by {python} answered {len(answers)} of {len(blocks)} blocks: {said}"
        )
    return answers


def compare(found: Sequence[dict[str, Any]], answers: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per block: cycles of one execution in a loop, branches left out.

    bound: what issue slots and the busiest unit need. m55v1 and slothy: the two models on our
    order. slothy_best and m55v1_of_best: on SLOTHY's order; empty where it found none in time, or
    where it does not know an instruction (`unknown`).
    """
    ours = block_cycles(row["block"] for row in found)
    orders = [tuple(text.lower() for text in answer.get("order") or ()) for answer in answers]
    theirs = block_cycles(order for order in orders if order)
    table = []
    for row, answer, order in zip(found, answers, orders, strict=True):
        kept = {key: value for key, value in row.items() if key != "block"}
        table.append(
            {
                **kept,
                "bound": answer.get("bound"),
                "m55v1": ours[row["block"]],
                "slothy": answer.get("given"),
                "slothy_best": answer.get("best"),
                "m55v1_of_best": theirs.get(order),
                "unknown": "; ".join(answer.get("unknown", ())),
            }
        )
    return pd.DataFrame(table)


def rows(table: pd.DataFrame) -> list[list[str]]:
    """The table as text, its head first."""
    head = ["kernel", "MACs", "loads", "instructions", "share of call", "bound", "m55-v1", "SLOTHY"]
    found = [[*head, "SLOTHY, its order", "m55-v1, its order"]]
    for row in table.to_dict("records"):
        shown = ("bound", "m55v1", "slothy", "slothy_best", "m55v1_of_best")
        cycles = ["-" if pd.isna(row[name]) else f"{row[name]:g}" for name in shown]
        counts = [str(row[name]) for name in ("vector_macs", "vector_loads", "instructions")]
        kernel = f"{row['kernel']}, {row['shape']}, {row['removed_pct']} %"
        found.append([kernel, *counts, f"{row['share_pct']:g} %", *cycles])
    return found


def verdict(table: pd.DataFrame) -> str:
    """How far the models differ, and what SLOTHY's orders would gain if m55-v1 agrees."""
    asked = table[table["slothy"].notna()]
    ratio = asked["slothy"] / asked["m55v1"]
    above = asked["m55v1"] / asked["bound"]
    better = (asked["slothy_best"] < asked["slothy"]) & (asked["m55v1_of_best"] < asked["m55v1"])
    gain = (1 - asked["m55v1_of_best"] / asked["m55v1"]).where(better, 0.0) * asked["share_pct"]
    calls = gain.groupby(asked["kernel"], sort=False).sum()
    gains = ", ".join(f"{name} {value:.1f} %" for name, value in calls.items())
    return (
        f"On our orders SLOTHY's model gives {ratio.min():.2f} to {ratio.max():.2f} of m55-v1's "
        f"cycles, and m55-v1 is {above.min():.2f} to {above.max():.2f} times the bound. "
        f"{better.sum()} of {len(asked)} blocks have an order that both models find better; of the "
        f"whole call that would gain: {gains}."
    )


@click.command(help=__doc__.splitlines()[0])
@click.option("--slothy-python", type=click.Path(path_type=Path), help="Python with SLOTHY.")
@click.option("--timeout", default=120, show_default=True, help="Seconds per block and attempt.")
@click.option("--report", is_flag=True, help="Show the kept table; ask nothing.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS)
def main(slothy_python: Path | None, timeout: int, report: bool, out: Path) -> None:
    """Command line."""
    try:
        if not report:
            if slothy_python is None:
                raise click.UsageError("expected --slothy-python PATH or --report")
            found, provenance = hot_blocks()
            answers = ask(slothy_python, [each["block"] for each in found], timeout)
            version = "from importlib.metadata import version; print(version('slothy'))"
            slothy = subprocess.run(
                [slothy_python, "-c", version], capture_output=True, text=True, check=True
            )
            provenance |= {
                "slothy": f"{slothy.stdout.strip()}, target cortex_m55r1, no renaming",
                "timeout_s": str(timeout),
                "seed": str(SEED),
            }
            write_table(out, compare(found, answers), provenance)
        head, *lines = rows(read_table(out, text=TEXT)[0])
        grid = Table(*head, title="cycles of one execution in a loop")
        for line in lines:
            grid.add_row(*line)
        Console(width=200).print(grid)
    except DtmmError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
