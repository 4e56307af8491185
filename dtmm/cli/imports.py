"""`dtmm import`: models that others trained and quantized, from .tflite to firmware."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dtmm.cli.sources import make_table, print_table
from dtmm.errors import DataError, UnsupportedError

if TYPE_CHECKING:
    from dtmm.pipeline.import_model import Imported


LABELS = {"cycles": "m55-v1"}
"""Units of figures that are not bytes."""

EXPORT_IMAGES = 2
"""Random ones that a written .tflite file is tried on in other interpreters."""


def layout_option() -> click.Option:
    """How C projects lie."""
    return click.Option(
        ["--layout"],
        type=click.Choice(["cmake", "zephyr", "arduino"]),
        help="How the C projects lie.  [default: cmake]",
    )


@click.command("import")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--find-filterlets",
    is_flag=True,
    help="Also pack losslessly: no dead channel, no filterlet that is zero.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Write OUT/<model>/, a C project each.")  # fmt: skip
@click.option("--tflite", type=click.Path(file_okay=False, path_type=Path),
              help="Write TFLITE/<model>/, .tflite files tried in LiteRT and TFLM.")  # fmt: skip
@click.option("--images", default=2, show_default=True, type=click.IntRange(0),
              help="Random ones to run everywhere; 0: nothing is run.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
def import_(
    models: tuple[Path, ...],
    find_filterlets: bool,
    out: Path | None,
    tflite: Path | None,
    images: int,
    as_json: bool,
    layout: str | None,
) -> None:
    """Int8 .tflite MODELS (files or folders) as firmware for the Cortex-M55.

    Every output byte of the device, of the C library here and of the integer reference must agree.
    Of several models one that is refused does not stop the others; the exit status is then 1.
    """
    from dtmm.deploy.project import write_project
    from dtmm.pipeline.import_model import import_model, models_in

    paths = models_in(models)
    found = []
    for path in paths:
        click.echo(f"{path}", err=True)
        try:
            imported = import_model(path, find_filterlets, images)
        except (DataError, UnsupportedError) as error:
            if len(paths) == 1:
                raise
            click.echo(f"dtmm: {error}", err=True)
            continue
        if out is not None:
            write_project(imported.packed, out / imported.name, layout or "cmake")
        if tflite is not None:
            click.echo(f"  {_export(imported, tflite / imported.name)}", err=True)
        found.append(imported)
    if as_json:
        click.echo(json.dumps([_dict(each) for each in found], indent=1))
    else:
        _show_all(found, images, out, tflite)
    if len(found) < len(paths):
        sys.exit(1)


import_.params.append(layout_option())


def _show_all(
    found: Sequence[Imported], images: int, out: Path | None, tflite: Path | None
) -> None:
    if len(found) == 1:
        _show(found[0])
    elif found:
        _show_folder(found)
    if found and images:
        click.echo(
            f"device, host C library and reference agree to the byte; random images: {images}"
        )
    if out is not None:
        click.echo(f"C projects: {out}")
    if tflite is not None:
        click.echo(f".tflite files: {tflite}")


def _export(imported: Imported, folder: Path) -> str:
    from dtmm.pipeline.export import describe, export_tflite
    from dtmm.pipeline.import_model import random_images

    network = imported.packed.network
    return describe(export_tflite(network, folder, random_images(network, EXPORT_IMAGES)))


def _rows(imported: Imported) -> list[dict[str, Any]]:
    """Bytes and, where it ran, cycles of each system."""
    rows = []
    for system, deployment in imported.deployments.items():
        size = deployment.size
        row: dict[str, Any] = {
            "system": system,
            "weights": size.weights,
            "index": size.index,
            "parameters": size.parameters,
            "arena": deployment.arena.bytes,
        }
        if system in imported.measurements:
            measured = imported.measurements[system]
            row |= {
                "flash": sum(measured.flash.values()),
                "sram": sum(measured.sram.values()),
                "instructions": measured.instructions,
                "cycles": measured.cycles,
            }
        rows.append(row)
    return rows


def _dict(imported: Imported) -> dict[str, Any]:
    plain = ("name", "filterlets", "zero_filterlets", "channels", "removed_channels")
    kernels = {name: dict(each.kernels) for name, each in imported.deployments.items()}
    measured = list(imported.measurements.values())
    return {
        **{name: getattr(imported, name) for name in plain},
        "systems": [{**row, "kernels": kernels[row["system"]]} for row in _rows(imported)],
        "provenance": dict(measured[-1].provenance) if measured else None,
    }


def _show_folder(found: Sequence[Imported]) -> None:
    """A row per model, every figure as the file has it and packed."""
    names = [name for name in _rows(found[0])[0] if name in ("flash", "sram", "cycles")]
    names = names or ["weights", "arena"]  # nothing ran
    shown = make_table(
        None,
        ("model", *(f"{name}, {LABELS.get(name, 'bytes')}" for name in names),
         "zero filterlets", "filters left out"),
    )  # fmt: skip
    for imported in found:
        rows = _rows(imported)
        cells = [" to ".join(f"{row[name]:,.0f}" for row in rows) for name in names]
        shown.add_row(
            imported.name,
            *cells,
            f"{imported.zero_filterlets:,} of {imported.filterlets:,}",
            f"{imported.removed_channels:,} of {imported.channels:,}",
        )
    print_table(shown)


def _show(imported: Imported) -> None:
    rows = _rows(imported)
    headings = [name for name in rows[0] if name != "system"]
    table = make_table(imported.name, ("bytes, cycles", *(str(row["system"]) for row in rows), ""))
    for name in headings:
        values = [row[name] for row in rows]
        change = f"{values[-1] / values[0]:.2f}x" if len(values) > 1 and values[0] else ""
        label = "cycles (m55-v1)" if name == "cycles" else name
        table.add_row(label, *(f"{value:,.0f}" for value in values), change)
    print_table(table)
    click.echo(
        f"{imported.zero_filterlets:,} of {imported.filterlets:,} filterlets are zero, "
        f"{imported.removed_channels:,} of {imported.channels:,} filters left out"
    )
