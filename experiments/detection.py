"""Detection: a tiny YOLO on scenes of Fashion-MNIST items, pruned by every method to equal flash.

The trained detector is pruned to shares of the dense int8 network's flash, each network is tuned
alike on the detection loss (the modes with a rule of their own train as long before, in addition),
quantized, and measured from one ELF on the simulated Cortex-M55. Reported is the mean average
precision of the int8 outputs on test scenes, at an overlap of 0.5 and over COCO's thresholds, and
that of the float network before quantization.

The committed rows are of commit f041320. There PatDNN and stripe-wise trained by SGD before they
pruned, which suits this loss badly, and the modes with a rule of their own got what the dense
network's code leaves of the flash: these rivals are stronger than their rows show.

    python -m experiments.detection [--quick] [--figures-only] [--out FOLDER]

A cell stands in the table when it is finished, and a run measures what the table lacks. The
checkpoint is made by the command in its metadata:

    dtmm train model.name=tiny_yolo data.name=fashion_boxes ...
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import matplotlib
import pandas as pd
from matplotlib.figure import Figure

import dtmm
from dtmm.artifact import write_atomic
from dtmm.config import FinetuneConfig
from dtmm.data import DetectionDataset, load_detection
from dtmm.detection.average_precision import mean_average_precision
from dtmm.detection.grid import detect
from dtmm.errors import InfeasibleError
from dtmm.latency.cost_models import make_cost_model, tabulate
from dtmm.latency.measure import measure_points
from dtmm.models import build_model, load_checkpoint, shipped_checkpoint
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline.source import capture
from dtmm.planning import layout, required_points
from dtmm.pruning.modes import Pruned
from dtmm.table import to_latex
from dtmm.training.executor import Executor
from dtmm.training.finetune import finetune
from dtmm.training.masks import filterlet_masks
from dtmm.training.tasks import outputs_of
from experiments import methods
from experiments.cells import MEASURED, CellTable, read_cells
from experiments.compare_methods import KEYS, LABELS, OURS
from experiments.deployed import deploy
from experiments.experiment import (
    Experiment,
    Job,
    commit,
    row_provenance,
    run_script,
    save_figure,
)
from experiments.matched import DENSE

NAME = "detection"
MODEL, DATA = "tiny_yolo", "fashion_boxes"
WORK = Path("runs/detection")
NAMES = {DENSE: "dense int8", **LABELS}


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        shares: of the dense network's flash. tuning: see `experiments.methods.cell`.
        test_images: the first so many test scenes. train_images: the first so many; None: all.
        cost_model: of the layers that the scheduler chooses from (docs/latency.md); what a cell
            takes is always measured.
    """

    methods: tuple[str, ...]
    shares: tuple[float, ...]
    tuning: Mapping[str, Any]
    test_images: int
    seeds: tuple[int, ...] = (0,)
    train_images: int | None = None
    cost_model: str = "fitted"

    def cells(self) -> Iterator[dict[str, Any]]:
        """Dense first, then every method of a size before the next size."""
        yield {"method": DENSE, "share": 1.0, "seed": 0}
        for seed, share, method in itertools.product(self.seeds, self.shares, self.methods):
            yield {"method": method, "share": share, "seed": seed}


TUNING = {"batch": 64, "distill": 0.0, "optimizer": "adamw", "lr": 0.002}
FULL = Plan(
    methods=(OURS, "chip_scheduled", "patdnn", "stripe", "chip"),
    shares=(0.4, 0.2),
    tuning={**TUNING, "epochs": 2, "images_per_epoch": 6144},
    test_images=1000,
)
QUICK = Plan(
    methods=(OURS,),
    shares=(0.5,),
    tuning={**TUNING, "epochs": 1, "images_per_epoch": 128},
    test_images=50,
    train_images=256,
    cost_model="analytic",
)


@dataclass(frozen=True)
class Subject:
    """The trained detector, its scenes, and where what its cells share is kept."""

    dataset: DetectionDataset
    network: Network
    work: Path
    plan: Plan

    @functools.cached_property
    def task(self) -> methods.Task:
        """For `experiments.methods.prune`."""
        return methods.Task(DATA, MODEL, self.work, self.dataset, self.network)


def load_subject(plan: Plan, work: Path) -> Subject:
    """The shipped checkpoint, and as many scenes as the plan takes.

    Raises:
        DataError, ArtifactError: the dataset or the checkpoint cannot be read.
    """
    whole = load_detection(DATA)
    few = slice(plan.train_images)
    dataset = dataclasses.replace(
        whole,
        train_images=whole.train_images[few],
        train_boxes=whole.train_boxes[few],
        test_images=whole.test_images[: plan.test_images],
        test_boxes=whole.test_boxes[: plan.test_images],
    )
    module = build_model(MODEL, dataset)
    load_checkpoint(shipped_checkpoint(MODEL, DATA), module)
    subject = Subject(dataset, capture(module, dataset, MODEL), work, plan)
    make_table(subject, plan.cost_model)
    return subject


def make_table(subject: Subject, cost_model: str) -> None:
    """The latency table that `experiments.methods` looks for, if it is not there."""
    path = subject.work / f"{MODEL}_{DATA}_latency.csv"
    if path.is_file():
        return
    subject.work.mkdir(parents=True, exist_ok=True)
    folded = fold(subject.network)
    points = required_points(folded, layout(folded), methods.LEVELS)
    measuring = functools.partial(measure_points, store=path.with_suffix(".jsonl"))
    tabulate(cost_model, make_cost_model(cost_model, points, measuring), points).save(path)


def cell(
    method: str,
    share: float,
    seed: int,
    flash: int,
    subject: Subject,
) -> dict[str, Any]:
    """A method's detector: precision in float and int8, flash, SRAM and cycles.

    Args:
        method: of `experiments.methods.METHODS`, or "dense", which is not tuned.
        share: of the dense network's flash, to name the cell.
        flash: budget in bytes.
    """
    dataset, plan = subject.dataset, subject.plan
    pruned, schedule = Pruned(subject.network), None
    if method != DENSE:
        try:
            pruned, schedule = methods.prune(subject.task, method, flash, seed, plan.tuning)
        except InfeasibleError as error:
            why = {"status": "infeasible", "reason": str(error)}
            return {**why, **row_provenance(seed, dataset.hash)}
        settings = FinetuneConfig(**plan.tuning, seed=seed)
        masks = {**filterlet_masks(pruned.network), **pruned.masks}
        tuned = finetune(pruned.network, dataset, settings, masks=masks)
        pruned = dataclasses.replace(pruned, network=tuned)
    outputs = outputs_of(Executor(pruned.network), dataset, dataset.test_images)
    exact = mean_average_precision(detect(outputs), dataset.test_boxes)
    deployed = deploy(MODEL, pruned, dataset, plan.test_images)
    found = mean_average_precision(detect(deployed.outputs), dataset.test_boxes)
    return {
        "status": MEASURED,
        "map50": found.at_50,
        "map": found.coco,
        "float_map50": exact.at_50,
        "float_map": exact.coco,
        "images": plan.test_images,
        **deployed.row(),
        **row_provenance(seed, dataset.hash, schedule, deployed.measured.provenance),
    }


def draw(table: pd.DataFrame) -> Figure:
    """Mean average precision against flash and against latency, a line per method."""
    known = table[table["status"] == MEASURED]
    figure = Figure(figsize=(7.0, 2.8))
    panels = figure.subplots(1, 2, sharey=True)
    dense = known[known["method"] == DENSE].iloc[0]
    for axes, metric, scale, label in (
        (panels[0], "flash", 1024, "Flash (KiB)"),
        (panels[1], "cycles", 1e6, "Latency (Mcycles)"),
    ):
        cycle = itertools.cycle(matplotlib.rcParams["axes.prop_cycle"])
        for (method, name), style in zip(LABELS.items(), cycle, strict=False):
            each = known[known["method"] == method].groupby("share")[[metric, "map50"]].mean()
            if len(each):
                each = each.sort_values(metric)
                axes.plot(each[metric] / scale, 100 * each["map50"], label=name, **style)
        axes.plot(dense[metric] / scale, 100 * dense["map50"], "k*", label=NAMES[DENSE])
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
    panels[0].set_ylabel("mAP at 0.5, int8 (%)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure


def latex(table: pd.DataFrame) -> str:
    """A row per measured cell."""
    known = table[table["status"] == MEASURED]
    shown = pd.DataFrame(
        {
            "Method": known["method"].map(NAMES),
            "Share": known["share"],
            "mAP50 (%)": 100 * known["map50"],
            "mAP (%)": 100 * known["map"],
            "mAP50 in float (%)": 100 * known["float_map50"],
            "Flash (KiB)": known["flash"] / 1024,
            "SRAM (KiB)": known["sram"] / 1024,
            "Mcycles": known["cycles"] / 1e6,
        }
    )
    digits = {"Share": 1, "mAP50 (%)": 1, "mAP (%)": 1, "mAP50 in float (%)": 1,
              "Flash (KiB)": 1, "SRAM (KiB)": 1, "Mcycles": 2}  # fmt: skip
    caption = "A tiny YOLO on composed scenes, pruned to equal flash."
    return to_latex(shown, caption, "tab:detection", digits)


def draw_all(folder: Path) -> None:
    """The figure (PDF, PNG) and the LaTeX table beside the CSV, from the CSV alone.

    Raises:
        DataError: the CSV is missing or malformed.
    """
    table, _ = read_cells(folder / f"{NAME}.csv")
    save_figure(draw(table), folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


def run(job: Job) -> None:
    """Measure the cells that the table lacks."""
    plan = QUICK if job.quick else FULL
    subject = load_subject(plan, job.folder / f"{NAME}_work" if job.quick else WORK)
    table = cell_table(subject, job.folder)
    whole = 0
    for point in plan.cells():
        flash = round(point["share"] * whole)
        measure = functools.partial(cell, **point, flash=flash, subject=subject)
        found = table.evaluate({"task": DATA, "model": MODEL, **point}, measure)
        said = f", mAP50 {100 * found['map50']:.1f} %" if found["status"] == MEASURED else ""
        click.echo(f"{point['method']} {point['share']:g}: {found['status']}{said}", err=True)
        whole = found["flash"] if point["method"] == DENSE else whole


def cell_table(subject: Subject, folder: Path) -> CellTable:
    """The table in `folder` of the subject's plan, network and scenes."""
    plan = subject.plan
    conditions = {
        "dataset_sha256": subject.dataset.hash,
        "tuning": ", ".join(f"{key} {value}" for key, value in plan.tuning.items()),
        "test_images": f"the first {plan.test_images}",
        "cost_model": plan.cost_model,
    }
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": commit(),
        "dtmm": dtmm.__version__,
        "network": f"{MODEL} on {DATA}",
        "unit": "map50, map (0.5 to 0.95): shares, of the int8 network, float_ of the float one; "
        "flash, sram bytes; cycles, instructions of one inference; seconds of wall time",
    }
    return CellTable(folder / f"{NAME}.csv", KEYS, conditions, about)


EXPERIMENT = Experiment(
    NAME, __doc__, run, draw_all, quick="DTMM at one size, 50 test scenes, two steps of tuning."
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    run_script(NAME)
