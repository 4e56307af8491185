"""Measures whole networks on the simulated device, layer by layer, and checks what they compute.

python -m benchmarks.networks                     everything: results/networks.csv
python -m benchmarks.networks --only resnet12     one network; nothing is kept
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.targets import Target
from benchmarks.zoo import DENSE, ZOO, Entry, deployment
from dtmm.deploy import run_on_device
from dtmm.deploy.profile import kernel_name, op_macs
from dtmm.device import CycleModel
from dtmm.errors import ConfigError, DtmmError, MeasurementError, UnsupportedError
from dtmm.quantization import run as run_reference
from dtmm.table import read_table, write_table

RESULTS = Path(__file__).parent / "results" / "networks.csv"
SEED = 1
TOTAL = "total"
RATE = 6.0
RATED = ("resnet12", "vgg11")
FASTER = {"resnet8": ("ic_resnet8", 4.56e6), "ds_cnn": ("kws_dscnn", 1.81e6)}
"""Networks with a published reference: its name in external/networks.csv, and its cycles."""


def measure(entry: Entry, variant: str, seed: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A row per step and one for all of it, and how they were measured.

    Raises:
        MeasurementError: an output byte differs between the device and the integer reference.
        UnsupportedError: the network has an operator that the library does not have yet.
    """
    ready = deployment(entry, variant, seed)
    rng = np.random.default_rng(seed + 1)
    image = rng.integers(-128, 128, (1, *entry.input)).astype(np.int8)
    found = run_on_device(ready, image, counted_images=1)
    expected = run_reference(ready.network, image)
    if not np.array_equal(found.outputs.reshape(expected.shape), expected):
        raise MeasurementError(f"{entry.name}, {variant}: device and reference compute differently")
    ops = {op.name: op for op in ready.network.ops}
    head = {"network": entry.name, "variant": variant}
    rows: list[dict[str, Any]] = []
    for step in found.steps:
        op = ops.get(step.name)
        macs = 0 if op is None else op_macs(ready, op)
        rows.append(
            {
                **head,
                "step": step.name,
                "kernel": kernel_name(ready, op),
                "macs": macs,
                "instructions": step.instructions,
                "cycles": round(step.cycles),
                "mac_per_cycle": round(macs / step.cycles, 3),
            }
        )
    macs = sum(row["macs"] for row in rows)
    rows.append(
        {
            **head,
            "step": TOTAL,
            "kernel": "",
            "macs": macs,
            "instructions": round(found.instructions),
            "cycles": round(found.cycles),
            "mac_per_cycle": round(macs / found.cycles, 3),
            **{f"flash_{name}": size for name, size in found.flash.items()},
            **{f"sram_{name}": size for name, size in found.sram.items()},
        }
    )
    return rows, {key: str(value) for key, value in found.provenance.items()}


def measure_all(wanted: list[tuple[Entry, str]], seed: int) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows of several networks, one after the other; raises as `measure`.

    A network with an operator that the library lacks is named on standard error and left out.
    """
    rows: list[dict[str, Any]] = []
    provenance: dict[str, str] = {}
    for entry, variant in wanted:
        print(f"{entry.name}, {variant}", file=sys.stderr)
        try:
            more, provenance = measure(entry, variant, seed)
        except UnsupportedError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        rows += more
    if not rows:
        raise UnsupportedError(f"none of {len(wanted)} networks can run on this library")
    return pd.DataFrame(rows), {**provenance, "seed": str(seed), "weights": "random, untrained"}


def judge(table: pd.DataFrame) -> list[Target]:
    """ResNet-12 and VGG-11 dense at RATE; MLPerf Tiny's networks below TFLM with CMSIS-NN."""
    totals = table[(table["step"] == TOTAL) & (table["variant"] == DENSE)].set_index("network")
    targets = []
    for name in RATED:
        rate = totals["mac_per_cycle"].get(name)
        found = "not measured" if rate is None else f"{rate:.2f}"
        passed = None if rate is None else bool(rate >= RATE)
        targets.append(Target(f"{name} dense, MAC/cycle", f">= {RATE}", found, passed))
    for name, (reference, limit) in FASTER.items():
        cycles = totals["cycles"].get(name)
        found = "not measured" if cycles is None else f"{cycles / 1e6:.2f}"
        passed = None if cycles is None else bool(cycles < limit)
        wanted = f"< {limit / 1e6} (TFLM with CMSIS-NN, {reference})"
        targets.append(Target(f"{name} dense, Mcycles", wanted, found, passed))
    return targets


def chosen(only: tuple[str, ...]) -> list[tuple[Entry, str]]:
    """(network, variant) to measure; `only` names networks or network/variant.

    Raises ConfigError on an unknown name.
    """
    everything = {f"{e.name}/{v}": (e, v) for e in ZOO for v in e.variants}
    if not only:
        return list(everything.values())
    found = []
    for name in only:
        matching = [key for key in everything if name in (key, key.partition("/")[0])]
        if not matching:
            raise ConfigError(f"unknown network {name!r}: expected one of {', '.join(everything)}")
        found += [everything[key] for key in matching]
    return found


def show(table: pd.DataFrame, console: Console) -> None:
    """One grid per network and variant."""
    model = CycleModel().name
    for (name, variant), rows in table.groupby(["network", "variant"], sort=False):
        grid = Table(title=f"{name}, {variant}")
        for column in ("step", "kernel", "instructions", f"cycles ({model})", "MAC/cycle"):
            grid.add_column(column, justify="left" if column in ("step", "kernel") else "right")
        for row in rows.to_dict("records"):
            numbers = (f"{row['instructions']:,}", f"{row['cycles']:,}")
            grid.add_row(row["step"], row["kernel"], *numbers, f"{row['mac_per_cycle']:.2f}")
        console.print(grid)
        last = rows.iloc[-1]
        console.print(
            f"flash: code {last['flash_code']:,.0f} B, weights {last['flash_weights']:,.0f} B, "
            f"index {last['flash_index']:,.0f} B, parameters {last['flash_parameters']:,.0f} B; "
            f"SRAM: arena {last['sram_arena']:,.0f} B, scratch {last['sram_scratch']:,.0f} B, "
            f"stack {last['sram_stack']:,.0f} B"
        )


@click.command(help=__doc__.splitlines()[0])
@click.option("--only", multiple=True, metavar="NETWORK[/VARIANT]", help="Nothing is kept.")
@click.option("--json", "json_output", is_flag=True, help="JSON on standard output.")
@click.option("--report", is_flag=True, help="Show the kept table; measure nothing.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS)
@click.option("--seed", type=int, default=SEED, show_default=True)
def main(only: tuple[str, ...], json_output: bool, report: bool, out: Path, seed: int) -> None:
    """Command line."""
    try:
        if report:
            table, provenance = read_table(out, text=("network", "variant", "step", "kernel"))
        else:
            table, provenance = measure_all(chosen(only), seed)
        if not only and not report:
            write_table(out, table, provenance)
    except DtmmError as error:
        raise click.ClickException(str(error)) from None
    targets = judge(table)
    if json_output:
        rows = json.loads(table.to_json(orient="records"))
        judged = [target.__dict__ for target in targets]
        click.echo(
            json.dumps({"rows": rows, "targets": judged, "provenance": provenance}, indent=1)
        )
        return
    console = Console()
    show(table, console)
    words = {True: "pass", False: "FAIL", None: "not measured"}
    for target in targets:
        line = f"{target.name}: {target.found}, wanted {target.wanted}: {words[target.passed]}"
        console.print(line)


if __name__ == "__main__":
    main()
