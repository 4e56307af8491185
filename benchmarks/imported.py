"""Real .tflite models, packed without loss, against TFLM with CMSIS-NN and the authors' system.

python -m benchmarks.imported FOLDER              every .tflite below it: results/imported.csv
python -m benchmarks.imported FOLDER --json       the same rows on standard output; nothing is kept

The others' figures are those of benchmarks/external/networks.csv. Every output byte is compared
between device, host library and integer reference (and in the tests with TFLM's interpreter).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.external import FOLDER
from dtmm.deploy import Deployment
from dtmm.errors import DataError, DtmmError
from dtmm.network.ir import Conv2D
from dtmm.pipeline.import_model import Imported, import_model
from dtmm.storage.container import fwcs_blob_size
from dtmm.storage.fwcs import encode_fwcs
from dtmm.storage.stored import VECTOR_BYTES, round_up
from dtmm.table import read_table, write_table

RESULTS = Path(__file__).parent / "results" / "imported.csv"
RIVAL, AUTHORS = "tflm_cmsisnn", "dtmm_authors_O3"
LIMIT = 0.65
"""Our cycles over those of TFLM with CMSIS-NN, at most."""


def stored_bytes(deployment: Deployment) -> int:
    """Bytes of a model's weights in a file: FWCS v1, stored form, for convolutions; other layers as
    they are deployed."""
    total = 0
    for op in deployment.network.ops:
        if isinstance(op, Conv2D):
            weights = np.asarray(deployment.network.params[op.weight], np.int8)
            fwcs = encode_fwcs(weights, round_up(weights.shape[3], VECTOR_BYTES))
            total += fwcs_blob_size(fwcs, "stored").total
        elif op.name in deployment.layers:
            layer = deployment.layers[op.name]
            total += layer.weights.nbytes + layer.parameters.nbytes
    return total


def row(imported: Imported, others: pd.DataFrame) -> dict[str, Any]:
    """Ours beside theirs; theirs are empty for a network that the table lacks."""
    ours, measured = imported.packed, imported.measurements["packed"]
    dense = imported.measurements["dense"]
    found: dict[str, Any] = {
        "network": imported.name,
        "zero_filterlets": imported.zero_filterlets,
        "filterlets": imported.filterlets,
        "instructions": round(measured.instructions),
        "cycles": round(measured.cycles),
        "dense_cycles": round(dense.cycles),
        "arena_bytes": measured.sram["arena"] + measured.sram["scratch"],
        "stored_bytes": stored_bytes(ours),
        **{f"flash_{name}": size for name, size in measured.flash.items()},
    }
    known = others[[imported.name.startswith(str(name)) for name in others["network"]]]
    for system in (RIVAL, AUTHORS):
        theirs = known[known["system"] == system]
        if len(theirs) == 1:
            figures = theirs.iloc[0]
            found |= {
                f"{system}_cycles": round(figures["mega_cycles"] * 1e6),
                f"{system}_arena_bytes": int(figures["arena_bytes"]),
                f"{system}_file_bytes": figures["file_bytes"],
            }
    if f"{RIVAL}_cycles" in found:
        found["ratio"] = round(found["cycles"] / found[f"{RIVAL}_cycles"], 3)
    return found


def measure(folder: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row per model, and how they were measured.

    Raises:
        DataError: no model below the folder; and what `import_model` raises.
    """
    others, _ = read_table(FOLDER / "networks.csv", text=("system", "network"))
    rows, provenance = [], {}
    paths = sorted(folder.rglob("*.tflite"))
    if not paths:
        raise DataError(f"folder {folder} has no .tflite file below it")
    for path in paths:
        click.echo(path.name, err=True)
        imported = import_model(path, find_filterlets=True, images=1)
        rows.append(row(imported, others))
        provenance = {k: str(v) for k, v in imported.measurements["packed"].provenance.items()}
    return pd.DataFrame(rows), provenance


def show(table: pd.DataFrame) -> None:
    """For people."""
    shown = Table(title="Models of others, packed without loss (cycles: m55-v1)")
    headings = (
        "network",
        "cycles",
        f"{RIVAL}",
        "ratio",
        "arena",
        "theirs",
        "stored B",
        "authors' B",
    )
    for heading in headings:
        shown.add_column(heading, justify="left" if heading == "network" else "right")

    def number(each: pd.Series, name: str) -> str:
        value = each.get(name)
        return "-" if value is None or pd.isna(value) else f"{value:,.0f}"

    for _, each in table.iterrows():
        ratio = each.get("ratio")
        shown.add_row(
            each["network"],
            number(each, "cycles"),
            number(each, f"{RIVAL}_cycles"),
            "-" if ratio is None or pd.isna(ratio) else f"{ratio:.2f}x",
            number(each, "arena_bytes"),
            number(each, f"{RIVAL}_arena_bytes"),
            number(each, "stored_bytes"),
            number(each, f"{AUTHORS}_file_bytes"),
        )
    Console(highlight=False, width=110).print(shown)
    for line in verdicts(table):
        click.echo(line)


def verdicts(table: pd.DataFrame) -> list[str]:
    """What was wanted and what was found."""
    if "ratio" not in table or not (known := table[table["ratio"].notna()]).size:
        return ["no network of benchmarks/external/networks.csv among them"]
    worst = known.loc[known["ratio"].idxmax()]
    small = (known["arena_bytes"] <= known[f"{RIVAL}_arena_bytes"]).all()
    return [
        f"cycles over {RIVAL}: worst {worst['ratio']:.3f}x ({worst['network']}), wanted "
        f"<= {LIMIT}: {'pass' if worst['ratio'] <= LIMIT else 'fail'}",
        f"arena with scratch no larger than {RIVAL}'s: {'pass' if small else 'fail'}",
    ]


@click.command(help=__doc__.splitlines()[0])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output; nothing is kept.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS)
def main(folder: Path, as_json: bool, out: Path) -> None:
    """Command line."""
    try:
        table, provenance = measure(folder)
        if as_json:
            click.echo(table.to_json(orient="records", indent=1))
            return
        write_table(out, table, {"benchmark": "benchmarks.imported", **provenance})
    except DtmmError as error:
        click.echo(f"benchmarks.imported: {error}", err=True)
        sys.exit(1)
    show(table)


if __name__ == "__main__":
    main()
