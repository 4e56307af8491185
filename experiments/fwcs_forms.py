"""FWCS stored or prepared: flash, SRAM and cycles of both, each row from one ELF.

A 3x3 layer with random filterlets removed is written in both forms (docs/fwcs.md), linked into a
firmware, opened, prepared and run on the simulated Cortex-M55. Per row:

- blob_bytes: the layer in flash; reader_bytes: the code of dtmm_fwcs_open, dtmm_fwcs_prepare and
  what they call;
- expanded_bytes: SRAM that the prepared layer takes up;
- start_cycles: opening and preparing, once; conv_cycles: each convolution.

Memory has no wait states in the cycle model: that filterlets are read from SRAM in one form and
from flash in the other makes no difference here.

    python -m experiments.fwcs_forms [--quick] [--out FOLDER]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from dtmm.artifact import write_atomic
from dtmm.device import CycleModel, build_elf, collect_provenance, flash_bytes, run_firmware
from dtmm.device.elf import sizes_by_prefix
from dtmm.errors import MeasurementError
from dtmm.runtime_c import include_dir, sources
from dtmm.storage import Fwcs, expanded_bytes, fwcs_scratch, pack_channel_params, write_fwcs
from dtmm.storage.container import FORMS, Form
from dtmm.storage.kernel_ids import CONV_FWCS
from dtmm.table import read_table, to_latex, write_table
from experiments.experiment import Experiment, Job
from experiments.storage_formats import fwcs_of
from experiments.storage_overhead import SEED, pruned_weights

KERNEL = 3
LAYERS = ((32, 32, 32), (16, 64, 64), (8, 128, 128), (4, 256, 256), (16, 31, 53), (8, 83, 91))
"""(height and width, C_in, C_out)"""
REMOVED = (50, 75, 90)
NAME = "fwcs_forms"
HARNESS = Path(__file__).with_name("fwcs_forms.c")

Layer = tuple[int, int, int]
Row = dict[str, int | str | float]


def layer_header(layer: Layer, fwcs: Fwcs, blob: bytes, form: Form) -> str:
    """What fwcs_forms.c includes."""
    size, in_channels, out_channels = layer
    numbers = {
        "HEIGHT": size,
        "WIDTH": size,
        "KERNEL": KERNEL,
        "IN_CHANNELS": in_channels,
        "IN_STRIDE": fwcs.in_stride,
        "OUT_CHANNELS": out_channels,
        "EXPANDED_BYTES": expanded_bytes(fwcs) if form == "stored" else 0,
        "SCRATCH_BYTES": fwcs_scratch(CONV_FWCS, fwcs.filterlets, out_channels, fwcs.kernel),
    }
    constants = ", ".join(f"{name} = {value}" for name, value in numbers.items())
    section = '__attribute__((section(".dtmm.weights"), aligned(16)))'
    array = ", ".join(map(str, blob))
    return f"enum {{ {constants} }};\nstatic const uint8_t blob[] {section} = {{{array}}};\n"


def measure_form(
    layer: Layer, removed: int, form: Form, work: Path
) -> tuple[Row, int, dict[str, str | None]]:
    """One firmware: its row, a checksum of the layer's output, and how it was measured."""
    size, in_channels, out_channels = layer
    fwcs = fwcs_of(pruned_weights((out_channels, KERNEL, KERNEL, in_channels), removed, SEED))
    ones = np.ones(out_channels, np.int64)
    blob = write_fwcs(fwcs, pack_channel_params(0 * ones, ones << 30, -10 * ones), form)
    write_atomic(work / "layer.h", layer_header(layer, fwcs, blob, form))
    elf = build_elf(
        model_sources=[],
        runtime_sources=sources(),
        harness_sources=[HARNESS],
        out_elf=work / "firmware.elf",
        include_dirs=[include_dir(), work],
    )
    run, model = run_firmware(elf.path, count_regions=True), CycleModel()
    start, conv = model.price(elf.path, run.regions)
    row: Row = {
        "height": size,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "removed_percent": removed,
        "form": form,
        "blob_bytes": flash_bytes(elf.path).weights,
        "reader_bytes": sum(sizes_by_prefix(elf.path, p) for p in ("dtmm_fwcs_", "dtmm_crc32")),
        "expanded_bytes": expanded_bytes(fwcs) if form == "stored" else 0,
        "start_instructions": start.instructions,
        "start_cycles": round(start.cycles),
        "conv_instructions": conv.instructions,
        "conv_cycles": round(conv.cycles),
    }
    return row, run.one("OUTPUT").numbers()[0], collect_provenance(elf, model).to_dict()


def measure(
    layers: tuple[Layer, ...], shares: tuple[int, ...]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """A row per layer, share removed and form, and how they were measured.

    Raises:
        MeasurementError: the forms compute different outputs.
        ToolchainError: a tool is missing or fails.
    """
    rows: list[Row] = []
    provenance: dict[str, str | None] = {}
    for layer in layers:
        for removed in shares:
            outputs = set()
            for form in FORMS:
                with tempfile.TemporaryDirectory(prefix="dtmm-forms-") as name:
                    row, output, provenance = measure_form(layer, removed, form, Path(name))
                rows.append(row)
                outputs.add(output)
            if len(outputs) != 1:
                raise MeasurementError(f"layer {layer}: the forms compute different outputs")
    return pd.DataFrame(rows), {key: str(value) for key, value in provenance.items()}


def latex(table: pd.DataFrame) -> str:
    """The table for print."""
    names = {
        "height": "H",
        "in_channels": "C in",
        "out_channels": "C out",
        "removed_percent": "Removed (%)",
        "form": "Form",
        "blob_bytes": "Flash (B)",
        "expanded_bytes": "SRAM (B)",
        "start_cycles": "Start (cycles)",
        "conv_cycles": "Convolution (cycles)",
    }
    caption = "FWCS stored and prepared: flash, SRAM and modelled cycles, each row from one ELF."
    return to_latex(table[list(names)].rename(columns=names), caption, "tab:fwcs-forms")


def run(job: Job) -> None:
    """Measure, and write the CSV with its provenance."""
    layers, removed = ((LAYERS[-2],), REMOVED[:1]) if job.quick else (LAYERS, REMOVED)
    table, about = measure(layers, removed)
    provenance = {"experiment": f"experiments.{NAME}", **about, "seed": SEED}
    write_table(job.folder / f"{NAME}.csv", table, provenance)


def draw_all(folder: Path) -> None:
    """The LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv", text=("form",))
    write_atomic(folder / f"{NAME}.tex", latex(table))


EXPERIMENT = Experiment(NAME, __doc__, run, draw_all, quick="One layer.")
main = EXPERIMENT.command()

if __name__ == "__main__":
    main()
