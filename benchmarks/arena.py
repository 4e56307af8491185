"""The arena of every network of the zoo against the optimum, which an integer program finds.

python -m benchmarks.arena             results/arena.csv
python -m benchmarks.arena --json      the same rows on standard output; nothing is kept

Buffers, lifetimes and scratch memory are those of the dense int8 deployment. The lower bound is the
largest sum of what is live at one step; where blocks cannot be packed so tightly, the optimum is
larger.
"""

from __future__ import annotations

import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pulp
from rich.console import Console
from rich.table import Table

from benchmarks.zoo import DENSE, Entry, deployment
from dtmm.deploy import Deployment
from dtmm.deploy.arena import Block, arena_blocks, lower_bound
from dtmm.device.provenance import dtmm_version, git_commit
from dtmm.errors import DtmmError, ToolchainError
from dtmm.storage.stored import VECTOR_BYTES
from dtmm.table import write_table

RESULTS = Path(__file__).parent / "results" / "arena.csv"
LIMIT = 1.05
"""Our arena over the optimum, at most."""
TIME_LIMIT_S = 120.0

NETWORKS: tuple[Entry, ...] = tuple(
    Entry(name, name, shape, classes, (DENSE,))
    for name, shape, classes in (
        ("resnet12", (32, 32, 3), 10),
        ("vgg11", (32, 32, 3), 10),
        ("squeezenet", (32, 32, 3), 10),
        ("resnet8", (32, 32, 3), 10),
        ("ds_cnn", (49, 10, 1), 12),
        ("mobilenet_v1_025", (96, 96, 3), 2),
    )
)


def optimal_arena(blocks: list[Block], time_limit_s: float = TIME_LIMIT_S) -> tuple[int, bool]:
    """Bytes of the smallest arena, and whether that is proven.

    Offsets in vectors of 16 bytes; of two blocks that live at the same time one lies below the
    other. Without a proof within the time limit the bytes are the best bound from below.

    Raises ToolchainError where the solver fails.
    """
    least, most = lower_bound(blocks) // VECTOR_BYTES, sum(b.size for b in blocks) // VECTOR_BYTES
    program = pulp.LpProblem("arena", pulp.LpMinimize)
    size = pulp.LpVariable("size", least, most, "Integer")
    program += size
    at = [pulp.LpVariable(f"at{n}", 0, most, "Integer") for n in range(len(blocks))]
    vectors = [block.size // VECTOR_BYTES for block in blocks]
    for n in range(len(blocks)):
        program += at[n] + vectors[n] <= size
    for a, b in combinations(range(len(blocks)), 2):
        if blocks[a].overlaps(blocks[b]):
            below = pulp.LpVariable(f"below{a}_{b}", cat="Binary")
            program += at[a] + vectors[a] <= at[b] + most * (1 - below)
            program += at[b] + vectors[b] <= at[a] + most * below
    try:
        program.solve(pulp.HiGHS(msg=False, timeLimit=time_limit_s))
    except pulp.PulpSolverError as error:
        raise ToolchainError(f"HiGHS failed: {error}") from error
    if program.sol_status == pulp.LpSolutionOptimal:
        return round(size.value()) * VECTOR_BYTES, True
    return least * VECTOR_BYTES, False


def row(name: str, made: Deployment) -> dict[str, Any]:
    """Ours, the optimum and the lower bound, in bytes."""
    channels = {key: buffer.channels for key, buffer in made.layout.buffers.items()}
    blocks = arena_blocks(made.layout, channels, made.scratch)
    started = time.perf_counter()
    optimum, proven = optimal_arena(blocks)
    return {
        "network": name,
        "blocks": len(blocks),
        "arena_bytes": made.arena.bytes,
        "optimum_bytes": optimum,
        "proven": proven,
        "lower_bound_bytes": made.arena.lower_bound,
        "ratio": round(made.arena.bytes / optimum, 4),
        "seconds": round(time.perf_counter() - started, 2),
    }


def show(table: pd.DataFrame) -> None:
    """For people."""
    shown = Table(title="Arena, bytes")
    for heading in table.columns:
        shown.add_column(heading, justify="left" if heading == "network" else "right")
    for each in table.to_dict("records"):
        shown.add_row(*(f"{v:,}" if type(v) is int else str(v) for v in each.values()))
    Console(highlight=False, width=110).print(shown)
    worst = table.loc[table["ratio"].idxmax()]
    verdict = "pass" if worst["ratio"] <= LIMIT else "fail"
    click.echo(f"worst {worst['ratio']:.3f}x ({worst['network']}), wanted <= {LIMIT}: {verdict}")


@click.command(help=__doc__.splitlines()[0])
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output; nothing is kept.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS)
def main(as_json: bool, out: Path) -> None:
    """Command line."""
    try:
        rows = [row(entry.name, deployment(entry, DENSE, seed=0)) for entry in NETWORKS]
        table = pd.DataFrame(rows)
        if as_json:
            click.echo(table.to_json(orient="records", indent=1))
            return
        about = {
            "benchmark": "benchmarks.arena",
            "solver": f"HiGHS through PuLP {pulp.__version__}",
            "dtmm_version": dtmm_version(),
            "commit": git_commit() or "unknown",
        }
        write_table(out, table, about)
    except DtmmError as error:
        click.echo(f"benchmarks.arena: {error}", err=True)
        sys.exit(1)
    show(table)


if __name__ == "__main__":
    main()
