"""What int8 costs: accuracy of a float network against its int8 networks, setting by setting.

For each network and dataset, dense and pruned (a random schedule of `SHARE` of the weight bytes,
filters and filterlets, fine-tuned):

- post-training quantization: how activation ranges are taken (minmax, percentile, mse), over all
  test images; with equalization between layers and bias correction over the first so many;
- quantization-aware training (qat), on minmax ranges, over all test images.

int8 networks run in the C library, compiled for this machine, which computes the device's bytes.
`drop` is the float network's accuracy less the int8 network's, in points, with a 95 % interval of
the difference over the same images. `quantization_layers.csv` has the error of every tensor.

    python -m experiments.quantization [--quick] [--figures-only] [--out FOLDER]

The tables are written after each cell and a stopped run goes on where it was; a cell of ResNet-12
takes one to four minutes of a core.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

import dtmm
from dtmm import artifact
from dtmm.artifact import write_atomic
from dtmm.config import FinetuneConfig, QuantizeConfig, load_config
from dtmm.config_values import Count, Share
from dtmm.deploy import HostModel
from dtmm.deploy import plan as plan_memory
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline.source import ConfiguredSource
from dtmm.planning import layout, select
from dtmm.planning.levels import Levels, choices
from dtmm.pruning.l2 import l2
from dtmm.pruning.removal import remove
from dtmm.quantization import quantize_input
from dtmm.sweep import InProcessExecutor, run_sweep, stored_results
from dtmm.table import read_table, to_latex, write_table
from dtmm.training.executor import Executor
from dtmm.training.finetune import finetune
from dtmm.training.int8 import calibration_images, int8_errors, to_int8
from dtmm.training.loop import correct
from dtmm.training.masks import filterlet_masks
from experiments.experiment import (
    QUICK_RESULTS,
    Experiment,
    Job,
    commit,
    row_provenance,
    run_script,
    save_figure,
)
from experiments.random_schedules import dense, draw, schedule

Bools = npt.NDArray[np.bool_]

NAME = "quantization"
SHARE = 0.4
"""Of the dense network's weight bytes, what the pruned one keeps."""
VARIANTS = ("dense", "pruned")
ERROR_IMAGES = 64
"""Training images on which each tensor is compared."""
TEXT = ("noisiest_tensor", "commit", "dataset_sha256")
KEYS = ["model", "data", "variant", "setting"]

POST_TRAINING = {
    ", ".join(
        [ranges, *(["equalized"] if equalized else []), *(["bias corrected"] if biases else [])]
    ): {"ranges": ranges, "equalize": equalized, "bias_correction": biases}
    for biases, equalized, ranges in itertools.product(
        (False, True), (False, True), ("minmax", "percentile", "mse")
    )
}
"""By name: fields of QuantizeConfig."""


@dataclass(frozen=True)
class Plan:
    """What is measured, in order of importance.

    Attributes:
        networks: (model, dataset) with a shipped checkpoint. settings: by name, fields of
            QuantizeConfig. tuning: of the pruned network.
        test_images: the first so many, None: all; few_images: with settings that equalize or
            correct biases.
    """

    networks: tuple[tuple[str, str], ...]
    settings: dict[str, dict[str, Any]]
    tuning: FinetuneConfig
    test_images: int | None = None
    few_images: int | None = None

    def cells(self) -> Iterator[dict[str, str]]:
        """A network's variants side by side, so that a stopped run has both; what is measured on
        few images last."""
        every = [name for name, fields in self.settings.items() if not changes_weights(fields)]
        for names in (every, [name for name in self.settings if name not in every]):
            for (model, data), setting, variant in itertools.product(
                self.networks, names, VARIANTS
            ):
                yield {"model": model, "data": data, "variant": variant, "setting": setting}

    def tested(self, setting: str) -> int | None:
        """Of the test images the first so many, None: all."""
        return self.few_images if changes_weights(self.settings[setting]) else self.test_images


def changes_weights(fields: Mapping[str, Any]) -> bool:
    """Whether a setting equalizes layers or corrects biases."""
    return bool(fields.get("equalize") or fields.get("bias_correction"))


FULL = Plan(
    networks=(("resnet12", "fashion_mnist"), ("vgg11", "fashion_mnist")),
    settings={
        "minmax": POST_TRAINING["minmax"],
        "qat": {"qat_epochs": 1, "qat_images": Count(6144)},
        **POST_TRAINING,
    },
    tuning=FinetuneConfig(epochs=2, images_per_epoch=Count(6144), distill=Share(0.5)),
    few_images=2000,
)
QUICK = Plan(
    networks=(("tiny_resnet", "digits"),),
    settings={
        "minmax": POST_TRAINING["minmax"],
        "mse, equalized, bias corrected": POST_TRAINING["mse, equalized, bias corrected"],
        "qat": {"qat_epochs": 1, "qat_images": Count(128)},
    },
    tuning=FinetuneConfig(epochs=1, images_per_epoch=Count(256), batch=Count(64)),
    test_images=100,
    few_images=50,
)


class Bench:
    """One network of the plan, dense and pruned, with its test images."""

    def __init__(self, plan: Plan, model: str, data: str, store: Path) -> None:
        settings = load_config(overrides=[f"model.name={model}", f"data.name={data}"])
        source = ConfiguredSource(settings)
        self.plan, self.dataset, self.identity = plan, source.dataset, source.identity()
        self.network, self.about = source.network()
        made_by = repr((self.identity, SHARE, plan.tuning))
        self.made_by = sha256(made_by.encode()).hexdigest()
        self._pruned = store / f"{NAME}_{model}_{data}.{self.made_by[:12]}.dtmm"

    def labels(self, setting: str) -> npt.NDArray[np.int64]:
        """Of the test images that a setting is measured on."""
        labels: npt.NDArray[np.int64] = self.dataset.test_targets[: self.plan.tested(setting)]
        return labels

    def variant(self, name: str) -> Network:
        """Of VARIANTS; the pruned one is tuned once and kept."""
        if name == "dense":
            return self.network
        if not self._pruned.is_file():
            folded = fold(self.network)
            options = choices(folded, Levels(8, 8))
            drawn = draw(folded, options, "bytes", SHARE * dense(folded, options).bytes, seed=0)
            selection = select(self.network, l2(self.network), schedule(options, drawn))
            click.echo(f"{self.network.name}: the pruned network is fine-tuned", err=True)
            small = remove(self.network, selection)
            tuned = finetune(small, self.dataset, self.plan.tuning, teacher=self.network)
            artifact.save(tuned, self._pruned)
        return artifact.load(self._pruned, Network)

    def point(self, cell: Mapping[str, str]) -> dict[str, Any]:
        """Everything that a cell's result depends on."""
        return {
            **{key: cell[key] for key in ("variant", "setting")},
            "of": self.made_by,
            "settings": dict(self.plan.settings[cell["setting"]]),
            "images": len(self.labels(cell["setting"])),
        }

    @cache  # noqa: B019  (a bench lives as long as the run)
    def float_right(self, variant: str, count: int) -> Bools:
        """Per test image, the first `count`, whether the float network is right."""
        module, data = Executor(self.variant(variant)), self.dataset
        return correct(module, data, data.test_images[:count], data.test_targets[:count])

    def measure(self, variant: str, setting: str) -> dict[str, Any]:
        """Accuracies (shares), the drop and its interval (points), and the error per tensor."""
        network = self.variant(variant)
        settings = QuantizeConfig(**self.plan.settings[setting])
        made = to_int8(network, self.dataset, settings, masks=filterlet_masks(network))
        labels = self.labels(setting)
        tested = self.dataset.to_input(self.dataset.test_images[: len(labels)])
        inputs = quantize_input(made.network, tested)
        outputs = HostModel(plan_memory(made.network, layout(made.folded))).run(inputs, threads=1)
        right = outputs.reshape(len(outputs), -1).argmax(axis=1) == labels
        before = self.float_right(variant, len(labels))
        some = calibration_images(self.dataset, settings)[:ERROR_IMAGES]
        errors = int8_errors(made, some)
        worst = min(errors, key=lambda error: error.sqnr_db)
        return {
            "images": len(right),
            "float_accuracy": float(before.mean()),
            "int8_accuracy": float(right.mean()),
            **drop(before, right),
            "output_sqnr_db": errors[-1].sqnr_db,
            "noisiest_tensor": worst.tensor,
            "noisiest_sqnr_db": worst.sqnr_db,
            **row_provenance(settings.seed, self.dataset.hash),
            "tensors": [asdict(error) for error in errors],
        }


def drop(before: Bools, after: Bools) -> dict[str, float]:
    """Share of right answers lost, in points, and a 95 % interval (normal, paired by image)."""
    lost = before.astype(float) - after
    half = 1.96 * float(lost.std()) / np.sqrt(len(lost))
    mean = float(lost.mean())
    return {"drop": 100 * mean, "low": 100 * (mean - half), "high": 100 * (mean + half)}


def run(job: Job) -> None:
    """Measure what is missing; both tables are rewritten after each cell."""
    plan = QUICK if job.quick else FULL
    folder = job.folder if job.quick else QUICK_RESULTS
    store = folder / f"{NAME}.jsonl"
    benches = {network: Bench(plan, *network, folder) for network in plan.networks}
    about = {f"{model} on {data}": bench.about for (model, data), bench in benches.items()}
    cells = list(plan.cells())
    points = [benches[cell["model"], cell["data"]].point(cell) for cell in cells]
    found = stored_results(measured, points, store)
    for n, cell in enumerate(cells):
        if found[n] is None:
            function = partial(measured, bench=benches[cell["model"], cell["data"]])
            [row] = run_sweep(function, [points[n]], store, InProcessExecutor())
            click.echo(f"{' '.join(cell.values())}: {row['drop']:+.2f} points lost", err=True)
            found[n] = row
        _write(job.folder, cells, found, plan, about)


def measured(variant: str, setting: str, bench: Bench, **_: Any) -> dict[str, Any]:
    """A cell's row, for the results store."""
    return bench.measure(variant, setting)


def _write(
    folder: Path,
    cells: Sequence[dict[str, str]],
    found: Sequence[dict[str, Any] | None],
    plan: Plan,
    networks: dict[str, str],
) -> None:
    pairs = list(zip(cells, found, strict=True))
    missing = [" ".join(cell.values()) for cell, row in pairs if row is None]
    rows = [{**cell, **row} for cell, row in pairs if row is not None]
    about = {
        "experiment": f"experiments.{NAME}",
        "commit": commit(),
        "dtmm": dtmm.__version__,
        **networks,
        "pruned": f"{SHARE} of the weight bytes, {plan.tuning.epochs} passes of "
        f"{plan.tuning.images_per_epoch} images with distillation",
        "qat": ", ".join(f"{key} {value}" for key, value in plan.settings["qat"].items()),
        "missing": "; ".join(missing) or "nothing",
        "unit": "accuracy: shares; drop, low, high: points; sqnr: dB, on "
        f"{ERROR_IMAGES} training images",
    }
    table = pd.DataFrame(rows).drop(columns="tensors")
    write_table(folder / f"{NAME}.csv", table.round(4), about)
    layers = pd.DataFrame(
        [{**{key: row[key] for key in KEYS}, **line} for row in rows for line in row["tensors"]]
    )
    write_table(folder / f"{NAME}_layers.csv", layers.round(5), about)


def figure(table: pd.DataFrame, layers: pd.DataFrame) -> Figure:
    """Points lost by setting, and how the error grows along the layers of the first network."""
    drawn = Figure(figsize=(7, 3))
    left, right = drawn.subplots(1, 2)
    settings = list(dict.fromkeys(table["setting"]))
    for offset, ((model, variant), part) in enumerate(
        table.groupby(["model", "variant"], sort=False)
    ):
        places = [settings.index(each) + 0.2 * offset for each in part["setting"]]
        spread = (part["high"] - part["low"]) / 2
        left.errorbar(part["drop"], places, xerr=spread, fmt=".", label=f"{model}, {variant}")
    left.set_yticks(range(len(settings)), settings)
    left.invert_yaxis()
    left.axvline(0, color="gray", lw=0.7)
    left.set_xlabel("Accuracy lost (points)")
    left.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0))
    first = layers[layers["model"] == layers["model"].iloc[0]]
    shown = first[first["setting"].isin(["minmax", "qat"])]
    for (variant, setting), part in shown.groupby(["variant", "setting"], sort=False):
        right.plot(part["sqnr_db"].to_numpy(), label=f"{variant}, {setting}")
    right.set_xlabel("Tensor, in execution order")
    right.set_ylabel("Signal to error (dB)")
    right.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
    return drawn


def latex(table: pd.DataFrame) -> str:
    """A row per cell."""
    names = {
        "model": "Network",
        "variant": "Variant",
        "setting": "Setting",
        "images": "Images",
        "float_accuracy": "Float (%)",
        "int8_accuracy": "int8 (%)",
        "drop": "Lost (points)",
        "output_sqnr_db": "Output (dB)",
    }
    shown = table[list(names)].copy()
    shown[["float_accuracy", "int8_accuracy"]] *= 100
    digits = {"Float (%)": 2, "int8 (%)": 2, "Lost (points)": 2, "Output (dB)": 1}
    caption = "What int8 costs: the first test images, float against int8."
    return to_latex(shown.rename(columns=names), caption, "tab:quantization", digits)


def draw_all(folder: Path) -> None:
    """Figure and LaTeX, from the CSVs alone."""
    table, _ = read_table(folder / f"{NAME}.csv", text=(*KEYS, *TEXT))
    layers, _ = read_table(folder / f"{NAME}_layers.csv", text=(*KEYS, "tensor", "layer", "kind"))
    save_figure(figure(table, layers), folder, NAME)
    write_atomic(folder / f"{NAME}.tex", latex(table))


EXPERIMENT = Experiment(
    NAME, __doc__, run, draw_all, quick="A tiny network on digits, three settings, 100 images."
)
main = EXPERIMENT.command()

if __name__ == "__main__":
    run_script(NAME)
