"""One cell of the comparison: a network pruned by one method to one size, tuned, in int8, measured.

Every method gets the same trained network, the same fine-tuning and the same flash budget, which is
a share of the dense int8 network's flash, code included. Modes with a rule of their own get for
weights, index and parameters what the code of the kernels that they run leaves; the scheduler
counts the code of the kernels that it chooses. What a cell reports is read off the ELF.
"""

from __future__ import annotations

import dataclasses
import functools
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dtmm.config import FinetuneConfig, ImportanceConfig, PruneConfig, SensitivityConfig
from dtmm.config_values import Count
from dtmm.data import Samples, load_dataset
from dtmm.errors import InfeasibleError
from dtmm.latency.code_size import measure_code_size
from dtmm.latency.measure import measure_points
from dtmm.latency.table import LatencyTable
from dtmm.models import build_model, load_checkpoint, shipped_checkpoint
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline.reranking import rerank
from dtmm.pipeline.scheduling import possible_kernels
from dtmm.pipeline.source import capture
from dtmm.planning import Levels, formulate, layout, required_points, select
from dtmm.planning.loss import LossModel
from dtmm.planning.loss_models import UNMEASURED, loss_model
from dtmm.pruning.importance import Importance
from dtmm.pruning.modes import OWN_RULE, Pruned
from dtmm.pruning.modes.chip import BATCH, BATCHES
from dtmm.pruning.registry import estimate_importance
from dtmm.pruning.removal import remove
from dtmm.pruning.sensitivity_measure import measure_sensitivity
from dtmm.scheduler import Budgets, Problem, Schedule, solve
from dtmm.scheduler.least_loss import near_least_loss
from dtmm.scheduler.pool import pool
from dtmm.training.finetune import finetune
from dtmm.training.masks import filterlet_masks
from experiments.deployed import COMPARED_IMAGES, deploy
from experiments.experiment import row_provenance

LEVELS = Levels(channels=8, filterlets=8)
FILTERS_ONLY = dataclasses.replace(LEVELS, filterlets=1)
JUDGED_IMAGES = 1024
"""Training images on which schedules are compared before fine-tuning."""
STACK = 1024
TIGHT, LOOSE = 0.001, 0.3
"""Latency is minimised among schedules that lose at most so large a share above the least."""
POOL, DIFFER = 6, 2


@dataclass(frozen=True)
class Scheduled:
    """A method whose layers the integer program decides.

    Attributes:
        criterion: of `dtmm.pruning.registry`. levels: what may be chosen.
        loss: the loss model, of `dtmm.planning.loss_models`.
        slack: the fastest schedule is taken that loses at most so large a share above the least
            loss; with more than TIGHT, of a pool of such schedules that of the least measured loss.
    """

    criterion: str
    levels: Levels = LEVELS
    loss: str = "scores"
    slack: float = TIGHT


METHODS: Mapping[str, Scheduled | str] = {
    "chip": "chip",
    "chip_scheduled": Scheduled("chip", FILTERS_ONLY),
    "patdnn": "patdnn",
    "stripe": "filterlets",
    "unstructured": "unstructured",
    "dtmm_paper": Scheduled("taylor"),
    "dtmm": Scheduled("taylor_squared", loss="joint_capacity"),
    "dtmm_fast": Scheduled("taylor_squared", loss="joint", slack=LOOSE),
}
"""By name: a scheduled method, or the pruning mode of the name."""


@dataclass(frozen=True)
class Task:
    """A trained network and its data."""

    name: str
    model: str
    work: Path
    dataset: Samples
    network: Network

    @functools.cached_property
    def table(self) -> LatencyTable:
        """Cycles of everything that the scheduler may choose, measured once and kept."""
        folded = fold(self.network)
        points = required_points(folded, layout(folded), LEVELS)
        kept = self.work / f"{self.model}_{self.name}_latency.csv"
        if kept.is_file():
            table = LatencyTable.load(kept)
            if table.costs.keys() >= set(points):
                return table
        table = measure_points(points, kept.with_suffix(".jsonl"))
        table.save(kept)
        return table


@functools.cache
def load_task(name: str, model: str, work: str) -> Task:
    """The task of a dataset and a model with a shipped checkpoint, or one in `work`."""
    dataset = load_dataset(name)
    module = build_model(model, dataset)
    checkpoint = shipped_checkpoint(model, name)
    if not checkpoint.is_file():
        checkpoint = Path(work) / checkpoint.name
    load_checkpoint(checkpoint, module)
    return Task(name, model, Path(work), dataset, capture(module, dataset, model))


def cell(
    task: str,
    model: str,
    method: str,
    share: float,
    seed: int,
    work: str,
    tuning: Mapping[str, Any],
    test_images: int,
    flash: int = 0,
) -> dict[str, Any]:
    """A method's network: accuracy in int8, flash, SRAM and cycles, as JSON values.

    Args:
        method: of METHODS, or "dense", which is not pruned and not tuned.
        share: of the dense network's flash, to name the cell.
        work: folder of what cells of one task share.
        tuning: settings of fine-tuning; the training that some modes do before, in addition, takes
            epochs, images_per_epoch and batch from it, and where an optimizer is named that and lr.
        test_images: the first so many.
        flash: budget in bytes.

    Returns:
        "status": "measured", or "infeasible" and "reason"; the numbers; "right": base64 of a bit
        per test image.
    """
    known = load_task(task, model, work)
    pruned, found = Pruned(known.network), None
    if method != "dense":
        try:
            pruned, found = prune(known, method, flash, seed, tuning)
        except InfeasibleError as error:
            return {"status": "infeasible", "reason": str(error)}
        settings = FinetuneConfig(**tuning, seed=seed)
        masks = {**filterlet_masks(pruned.network), **pruned.masks}
        tuned = finetune(pruned.network, known.dataset, settings, known.network, masks=masks)
        pruned = dataclasses.replace(pruned, network=tuned)
    numbers = measure(known, pruned, test_images)
    carried = row_provenance(seed, known.dataset.hash, found, numbers["provenance"])
    return {"status": "measured", **numbers, **carried}


def prune(
    task: Task, method: str, flash: int, seed: int, tuning: Mapping[str, Any]
) -> tuple[Pruned, Schedule | None]:
    """The network within `flash` bytes by a method, not yet tuned, and its schedule if any."""
    how = METHODS[method]
    if isinstance(how, Scheduled):
        found = schedule(task, how, flash)
        selection = select(task.network, importance_of(task, how.criterion), found)
        return Pruned(remove(task.network, selection), found.kernels), found
    before = {key: tuning[key] for key in ("epochs", "images_per_epoch", "batch")}
    if "optimizer" in tuning:  # a rate belongs to its optimizer
        before |= {key: tuning[key] for key in ("optimizer", "lr")}
    settings = PruneConfig(**before, seed=seed)
    stored = flash - own_code(task, how, flash, settings)
    return OWN_RULE[how](task.network, task.dataset, stored, settings), None


def own_code(task: Task, mode: str, flash: int, settings: PruneConfig) -> int:
    """Bytes to set aside for the code of a mode's network, so that it takes `flash` bytes in all.

    They are read off ELFs of networks that were trained for one step only before they were pruned:
    code depends on kernels and shapes, not on weights. Less code leaves more weights, and more
    weights may want other kernels, so what is set aside is tried.

    Raises:
        InfeasibleError: the mode has no network so small.
    """
    step = dataclasses.replace(settings, epochs=Count(1), images_per_epoch=settings.batch)

    def code_beside(aside: int) -> int:
        pruned = OWN_RULE[mode](task.network, task.dataset, flash - aside, step)
        deployed = deploy(task.model, pruned, task.dataset, COMPARED_IMAGES)
        return deployed.measured.flash["code"]

    largest = code_beside(0)
    aside = code_beside(largest)
    while aside < largest and (needed := code_beside(aside)) > aside:
        aside = needed
    return aside


def schedule(task: Task, how: Scheduled, flash: int) -> Schedule:
    """The fastest schedule within `how.slack` of the least loss that fits."""
    problem = formulate_task(task, how, flash)
    fast = near_least_loss(problem, how.slack)
    if how.slack == TIGHT:
        return solve(fast)
    candidates = pool(fast, POOL, DIFFER).schedules
    store = task.work / f"{task.model}_{task.name}_pool.jsonl"
    scores = importance_of(task, how.criterion)
    ranking = rerank(task.network, scores, candidates, task.dataset, JUDGED_IMAGES, store)
    return candidates[int(ranking["taken"].to_numpy().argmax())]


def formulate_task(task: Task, how: Scheduled, flash: int) -> Problem:
    """The problem of a task within `flash` bytes."""
    folded = fold(task.network)
    code = _code_size()
    return formulate(
        folded,
        importance_of(task, how.criterion),
        task.table,
        layout(folded),
        Budgets(flash=flash),
        how.levels,
        code.kernels,
        fixed_flash=code.fixed(len(folded.ops), possible_kernels(folded, how.levels)),
        fixed_sram=STACK,
        loss_model=_losses(task, how),
    )


_code_size = functools.cache(measure_code_size)
_scores: dict[tuple[str, str, str], Importance] = {}


def importance_of(task: Task, criterion: str) -> Importance:
    """Scores of a task's network, estimated once; CHIP's on as many images as its authors use."""
    key = (task.name, task.model, criterion)
    if key not in _scores:
        settings = ImportanceConfig(criterion)
        if criterion == "chip":
            settings = ImportanceConfig(criterion, Count(BATCHES), Count(BATCH))
        _scores[key] = estimate_importance(task.network, task.dataset, settings)
    return _scores[key]


def _losses(task: Task, how: Scheduled) -> LossModel:
    if how.loss in UNMEASURED:
        return UNMEASURED[how.loss]
    curves = measure_sensitivity(
        task.network,
        importance_of(task, how.criterion),
        how.levels,
        task.dataset,
        SensitivityConfig(),
        task.work / f"{task.model}_{task.name}_sensitivity.jsonl",
    )
    return loss_model(how.loss, curves)


def measure(task: Task, pruned: Pruned, test_images: int) -> dict[str, Any]:
    """Quantize, deploy, and measure on the device and on the host's C library.

    Raises:
        MeasurementError: an output byte differs between device, host and integer reference.
    """
    deployed = deploy(task.model, pruned, task.dataset, test_images)
    logits = deployed.outputs.reshape(len(deployed.outputs), -1)
    right = logits.argmax(axis=1) == task.dataset.test_targets[: len(logits)]
    return {
        "accuracy": float(right.mean()),
        "images": len(right),
        **deployed.row(),
        "right": b64encode(np.packbits(right).tobytes()).decode(),
    }
