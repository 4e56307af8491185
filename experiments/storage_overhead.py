"""What the index of each weight format costs, against the share of filterlets removed.

Every convolution of ResNet-12 that can be stored sparsely (all but the stem) is filled with random
int8 weights, none of them zero, and the same share of its filterlets is set to zero, drawn without
replacement. In a 1x1 convolution a filterlet is a whole filter. Filters left empty stay. Formats:

- fwcs: what dtmm.storage writes (docs/fwcs.md), sizes of the encoder's own arrays;
- authors: the DTMM authors' format, 16 bits per kept filterlet and 16 per filter;
- csr: compressed sparse rows, a row per filter: a 16-bit column per weight and a 16-bit length per
  row. It does not know filterlets: the same zeros as if they were unstructured. (Row pointers
  that count from the start of the layer would not fit into 16 bits.)
- dense: what dtmm.storage writes for the dense kernel; its overhead is the zeros.

All sizes follow from the counts alone, so one draw per point is enough. Bias, multiplier and shift
of an output channel are the same in every format and left out.

    python -m experiments.storage_overhead [--quick] [--figures-only] [--out FOLDER]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import click
import matplotlib.style
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

import dtmm
from dtmm.artifact import write_atomic
from dtmm.data import load_dataset
from dtmm.device.provenance import git_commit
from dtmm.errors import DtmmError
from dtmm.models import build_model
from dtmm.network.ir import Conv2D
from dtmm.pipeline.source import capture
from dtmm.planning.kernels import uses_im2col
from dtmm.storage import FORMATS as STORED
from dtmm.table import read_table, to_latex, write_table
from experiments import STYLE

MODEL = "resnet12"
DATASET = "fashion_mnist"
REMOVED = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
QUICK_REMOVED = (0, 50, 90)
"""Filterlets removed from each layer, in percent."""
SEED = 0
RESULTS = Path(__file__).with_name("results")
QUICK_RESULTS = Path("runs/experiments")
NAME = "storage_overhead"

Shape = tuple[int, ...]
Int8Array = npt.NDArray[np.int8]
Bytes = tuple[int, int]
"""(weights, index) in bytes."""


def conv_shapes() -> dict[str, Shape]:
    """[C_out, kh, kw, C_in] of every convolution that may be stored sparsely, by layer name."""
    dataset = load_dataset(DATASET)
    network = capture(build_model(MODEL, dataset), dataset, MODEL)
    return {
        op.name: network.params[op.weight].shape
        for op in network.ops
        if isinstance(op, Conv2D) and not uses_im2col(network, op)
    }


def pruned_weights(shape: Shape, removed_percent: int, seed: int) -> Int8Array:
    """Random int8 [C_out, kh, kw, C_in]: so many filterlets zero, every other weight non-zero."""
    random = np.random.default_rng([seed, removed_percent, *shape])
    signs = random.choice(np.array([-1, 1], np.int8), shape)
    weights: Int8Array = random.integers(1, 127, shape, np.int8, endpoint=True) * signs
    filterlets = weights.reshape(-1, shape[3])
    removed = round(len(filterlets) * removed_percent / 100)
    filterlets[random.choice(len(filterlets), removed, replace=False)] = 0
    return weights


def _encoded(kernel_id: str) -> Callable[[Int8Array], Bytes]:
    def size(weights: Int8Array) -> Bytes:
        stored = STORED[kernel_id].encode(weights)
        return stored.weights.nbytes, stored.index.nbytes

    return size


def _authors(weights: Int8Array) -> Bytes:
    kept = int(weights.any(axis=3).sum())
    return kept * weights.shape[3], 2 * (kept + weights.shape[0])


def _csr(weights: Int8Array) -> Bytes:
    kept = int(np.count_nonzero(weights))
    return kept, 2 * (kept + weights.shape[0])


FORMATS: Mapping[str, Callable[[Int8Array], Bytes]] = {
    "fwcs": _encoded("conv_fwcs"),
    "authors": _authors,
    "csr": _csr,
    "dense": _encoded("conv_dense"),
}
LABELS = {"fwcs": "FWCS (ours)", "authors": "DTMM authors", "csr": "CSR, 16 bit", "dense": "dense"}


def measure(removed_percents: tuple[int, ...]) -> pd.DataFrame:
    """One row per layer, share removed and format."""
    rows = []
    for layer, shape in conv_shapes().items():
        for removed in removed_percents:
            weights = pruned_weights(shape, removed, SEED)
            for name, size in FORMATS.items():
                stored, index = size(weights)
                rows.append(
                    {
                        "layer": layer,
                        **dict(
                            zip(("out_channels", "kh", "kw", "in_channels"), shape, strict=True)
                        ),
                        "removed_percent": removed,
                        "filterlets_kept": int(weights.any(axis=3).sum()),
                        "format": name,
                        "weight_bytes": stored,
                        "index_bytes": index,
                    }
                )
    return pd.DataFrame(rows)


def totals(table: pd.DataFrame) -> pd.DataFrame:
    """Sums over the layers per share removed and format.

    Columns: kept and stored in bytes; overhead, percent of the kept weights that is stored besides.
    """
    table = table.assign(
        kept=table["filterlets_kept"] * table["in_channels"],
        stored=table["weight_bytes"] + table["index_bytes"],
    )
    sums = table.groupby(["removed_percent", "format"])[["kept", "stored"]].sum().reset_index()
    return sums.assign(overhead=100 * (sums["stored"] / sums["kept"] - 1))


def draw(table: pd.DataFrame) -> Figure:
    """Overhead against the share removed, one line per format. Zero is not on the log axis."""
    figure = Figure()
    axes = figure.subplots()
    sums = totals(table)
    for name, label in LABELS.items():
        line = sums[(sums["format"] == name) & (sums["overhead"] > 0)]
        axes.plot(line["removed_percent"], line["overhead"], label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlim(0, 100)
    axes.set_xlabel("Filterlets removed (%)")
    axes.set_ylabel("Bytes beyond the kept weights (%)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def latex(table: pd.DataFrame) -> str:
    """Stored size and overhead of each format, a row per share removed."""
    sums = totals(table)
    wide = sums.pivot(index="removed_percent", columns="format", values=["stored", "overhead"])
    columns = {
        "Removed (%)": wide.index,
        "Kept (KiB)": sums.groupby("removed_percent")["kept"].first() / 1024,
        **{f"{LABELS[name]} (KiB)": wide["stored", name] / 1024 for name in FORMATS},
        **{f"{LABELS[name]} (+%)": wide["overhead", name] for name in FORMATS},
    }
    caption = (
        "Weights and index of ResNet-12's convolutions but the stem: bytes stored, and how many "
        "more than the kept weights."
    )
    digits = {name: 2 if "+" in name else 1 for name in columns if name != "Removed (%)"}
    return to_latex(pd.DataFrame(columns), caption, "tab:storage-overhead", digits)


def make_figures(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_table(folder / f"{NAME}.csv")
    with matplotlib.style.context(STYLE):
        figure = draw(table)
        figure.savefig(folder / f"{NAME}.pdf", metadata={"CreationDate": None})
        figure.savefig(folder / f"{NAME}.png", dpi=300)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(folder: Path, removed_percents: tuple[int, ...]) -> Path:
    """Measure, and write the CSV with its provenance."""
    provenance = {
        "experiment": f"experiments.{NAME}",
        "commit": git_commit(Path(__file__).parent) or "unknown",
        "dtmm": dtmm.__version__,
        "model": MODEL,
        "weights": "random int8, sizes in bytes",
        "seed": SEED,
    }
    return write_table(folder / f"{NAME}.csv", measure(removed_percents), provenance)


@click.command(help=__doc__.splitlines()[0])
@click.option("--quick", is_flag=True, help="Three shares only.")
@click.option("--figures-only", is_flag=True, help="Draw the CSV that is there.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Where results go. [default: {RESULTS.parent.name}/{RESULTS.name}; "
    f"with --quick {QUICK_RESULTS}, so that committed results stay]",
)
def main(quick: bool, figures_only: bool, out: Path | None) -> None:
    """Command line."""
    folder = out or (QUICK_RESULTS if quick else RESULTS)
    try:
        if not figures_only:
            run(folder, QUICK_REMOVED if quick else REMOVED)
        make_figures(folder)
    except DtmmError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{folder / NAME}.csv, .pdf, .png, .tex")


if __name__ == "__main__":
    main()
