"""A dataset with boxes goes through what a dataset with labels goes through, by its own loss."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from dtmm.config import (
    FinetuneConfig,
    ImportanceConfig,
    PruneConfig,
    QuantizeConfig,
    SensitivityConfig,
    load_config,
)
from dtmm.config_values import Count, Share
from dtmm.data import Dataset, DetectionDataset, load_dataset
from dtmm.data.fashion_boxes import make_box_scenes
from dtmm.deploy import HostModel, plan
from dtmm.detection.average_precision import mean_average_precision
from dtmm.detection.grid import BOX, PRIOR, STRIDE, detect
from dtmm.errors import ConfigError
from dtmm.models.tiny_yolo import TinyYolo
from dtmm.network.fold import fold
from dtmm.network.ir import Network
from dtmm.pipeline.compress import compress
from dtmm.pipeline.source import capture
from dtmm.planning import Levels, layout
from dtmm.pruning.measured_loss import mean_loss
from dtmm.pruning.modes import OWN_RULE, Pruned
from dtmm.pruning.modes.base import stored_bytes
from dtmm.pruning.registry import estimate_importance
from dtmm.pruning.sensitivity_measure import measure_sensitivity
from dtmm.quantization import quantize, quantize_input, run
from dtmm.report.rows import comparison_rows
from dtmm.training.batches import training_batches
from dtmm.training.calibrate import activation_ranges
from dtmm.training.dense import train_dense
from dtmm.training.detection_loss import PLACE, detection_loss
from dtmm.training.executor import Executor
from dtmm.training.finetune import finetune
from dtmm.training.int8 import to_int8
from dtmm.training.loop import LoopConfig, batches
from dtmm.training.tasks import outputs_of, task_of

WIDTHS = (8, 8, 16, 16)


@pytest.fixture(scope="module")
def scenes() -> DetectionDataset:
    """Bright bars, upright or lying: two classes."""
    items = np.zeros((240, 28, 28), np.uint8)
    items[::2, 3:25, 9:19] = 255
    items[1::2, 9:19, 3:25] = 255
    labels = np.arange(240) % 2
    train, test = (make_box_scenes(items, labels, (seed,)) for seed in (0, 1))
    return DetectionDataset(
        "bars", train.images, train.boxes, test.images[:40], test.boxes[:40],
        ("upright", "lying"), mean=0.2, std=0.2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def module(scenes: DetectionDataset) -> TinyYolo:
    torch.manual_seed(0)
    config = LoopConfig(
        epochs=12, batch=16, optimizer="adam", lr=0.01, flip=True, shift=2, precision="fp32"
    )
    made = TinyYolo(1, 2, WIDTHS)
    log = train_dense(made, scenes, config, label_smoothing=0.0)
    assert log[-1].loss < 0.5 * log[0].loss
    assert log[-1].accuracy > 0.4  # mean average precision
    return made


@pytest.fixture(scope="module")
def network(module: TinyYolo, scenes: DetectionDataset) -> Network:
    return capture(module, scenes, "tiny_yolo")


def by_hand(outputs: np.ndarray, targets: np.ndarray) -> list[float]:
    """The losses of images, cell by cell."""
    losses = []
    for image, boxes in zip(outputs.transpose(0, 2, 3, 1), targets, strict=True):
        wanted = np.zeros(image.shape[:2])
        total, count = 0.0, 0
        for label, left, top, right, bottom in boxes:
            if label < 0:
                continue
            x, y = (left + right) / 2 / STRIDE, (top + bottom) / 2 / STRIDE
            column, row = int(x), int(y)
            wanted[row, column], count = 1, count + 1
            cell = image[row, column]
            middle = 1 / (1 + np.exp(-cell[1:3]))
            errors = [middle[0] - (x - column), middle[1] - (y - row),
                      cell[3] - np.log((right - left) / PRIOR),
                      cell[4] - np.log((bottom - top) / PRIOR)]  # fmt: skip
            total += PLACE * sum(error**2 for error in errors)
            total += np.log(np.exp(cell[BOX:]).sum()) - cell[BOX + int(label)]
        probability = 1 / (1 + np.exp(-image[..., 0]))
        total -= np.log(np.where(wanted == 1, probability, 1 - probability)).sum()
        losses.append(total / max(count, 1))
    return losses


def test_the_loss_by_hand() -> None:
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(3, BOX + 4, 3, 4)).astype(np.float32)
    targets = np.full((3, 2, 5), -1, np.float32)
    targets[0] = [[3, 1, 2, 12, 9], [0, 20, 5, 31, 22]]
    targets[1, 1] = [2, 0, 0, 32, 24]
    expected = by_hand(outputs, targets)
    got = [torch.from_numpy(each) for each in (outputs, targets)]
    assert detection_loss(*got).item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert detection_loss(*got, reduction="sum").item() == pytest.approx(sum(expected), rel=1e-5)


def test_outputs_that_show_the_truth_lose_nothing_and_are_found_again() -> None:
    targets = np.array([[[1, 1, 2, 12, 9], [0, 20, 5, 31, 22]]], np.float32)
    outputs = torch.zeros(1, BOX + 2, 3, 4, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.5)
    for _ in range(150):
        optimizer.zero_grad()
        loss = detection_loss(outputs, torch.from_numpy(targets))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    found = detect(outputs.detach().permute(0, 2, 3, 1).numpy(), least=0.5)
    assert mean_average_precision(found, targets).coco == pytest.approx(1.0)


def test_boxes_move_with_their_scenes(scenes: DetectionDataset) -> None:
    """What augmentation yields: a bright item's middle is bright wherever it was moved to."""
    config = LoopConfig(1, batch=16, flip=True, shift=6)
    values = []
    for images, targets in batches(scenes, config, epoch=0):
        for image, boxes in zip(images.numpy(), targets.numpy(), strict=True):
            last = boxes[boxes[:, 0] >= 0][-1:]  # lies on top
            for _, left, top, right, bottom in last:
                middle = image[0, int((top + bottom) / 2), int((left + right) / 2)]
                values.append(middle - np.median(image))
    assert len(values) > 50
    assert np.mean(np.array(values) > 0) > 0.95


def test_int8_on_the_host_is_the_reference_and_detects(
    network: Network, scenes: DetectionDataset
) -> None:
    folded = fold(network)
    ranges = activation_ranges(folded, scenes.to_input(scenes.train_images[:64]))
    int8 = quantize(folded, ranges)
    inputs = quantize_input(int8, scenes.to_input(scenes.test_images))
    deployment = plan(int8, layout(folded))
    outputs = HostModel(deployment).run(inputs)
    assert outputs.shape == (len(inputs), 8, 8, BOX + 2)
    assert np.array_equal(outputs[:4], run(int8, inputs[:4]))
    last = int8.tensors[int8.outputs[0]]
    values = (outputs.astype(np.float32) - last.zero_point) * last.scale
    found = mean_average_precision(detect(values), scenes.test_boxes).at_50
    exact = task_of(scenes).score(Executor(network), scenes)
    assert found == pytest.approx(exact, abs=0.1)
    reference = outputs_of(Executor(network), scenes, scenes.test_images)
    assert np.corrcoef(values.ravel(), reference.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("criterion", ["taylor", "taylor_squared", "fisher", "taylor_weights"])
def test_criteria_estimate_by_the_detection_loss(
    criterion: str, network: Network, scenes: DetectionDataset
) -> None:
    settings = ImportanceConfig(criterion, Count(8), Count(8))
    found = estimate_importance(network, scenes, settings)
    assert all(np.isfinite(values).all() for values in found.channels.values())
    assert sum(values.sum() for values in found.channels.values()) > 0


def test_a_criterion_without_a_loss_is_called_as_before(
    network: Network, scenes: DetectionDataset, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from dtmm.pruning.importance import Importance\n"
        "def score(network, batches):\n    return Importance('own', {}, {}, 'none', 0)\n"
    )
    settings = ImportanceConfig(f"{tmp_path / 'mine.py'}:score", Count(1), Count(8))
    assert estimate_importance(network, scenes, settings).criterion == "own"


def test_sensitivity_is_the_detection_losss_increase(
    network: Network, scenes: DetectionDataset, tmp_path: Path
) -> None:
    scores = estimate_importance(network, scenes, ImportanceConfig("l2", Count(1), Count(8)))
    settings = SensitivityConfig(points=Count(1), images=Count(32), batch=Count(32))
    found = measure_sensitivity(
        network, scores, Levels(2, 2), scenes, settings, tmp_path / "s.jsonl"
    )
    curve = max(found.groups.values(), key=lambda each: each.loss[0])
    assert curve.loss[0] > 0.1


def test_tuning_brings_back_what_pruning_cost(network: Network, scenes: DetectionDataset) -> None:
    budget = int(0.6 * stored_bytes(Pruned(network)))
    settings = PruneConfig(epochs=Count(1), images_per_epoch=Count(96), batch=Count(16))
    pruned = OWN_RULE["filterlets"](network, scenes, budget, settings)
    tune = FinetuneConfig(
        epochs=4, images_per_epoch=Count(96), batch=Count(16), optimizer="adam", lr=0.005,
        distill=Share(0.0), precision="fp32",
    )  # fmt: skip
    tuned = finetune(pruned.network, scenes, tune)
    judged = list(training_batches(scenes, 96, 32, seed=5))
    before, after = (
        mean_loss(Executor(each).eval(), judged, detection_loss) for each in (pruned.network, tuned)
    )
    assert after < before
    zeros = [pruned.network.params[op.weight] == 0 for op in network.convs()]
    assert any(each.any() for each in zeros)
    for op, gone in zip(network.convs(), zeros, strict=True):
        assert (tuned.params[op.weight][gone] == 0).all()


def test_a_detector_has_no_teacher(network: Network, scenes: DetectionDataset) -> None:
    few = dataclasses.replace(
        scenes, train_images=scenes.train_images[:16], train_boxes=scenes.train_boxes[:16]
    )
    tune = FinetuneConfig(epochs=1, images_per_epoch=Count(16), batch=Count(16))
    with pytest.raises(ConfigError, match=r"finetune\.distill is 0\.5, expected 0: detection"):
        finetune(network, few, tune, teacher=network)
    with pytest.raises(ConfigError, match=r"quantize\.qat_epochs is 1, expected 0"):
        to_int8(network, few, QuantizeConfig(qat_epochs=1))


def test_tasks_are_told_apart() -> None:
    digits: Dataset = load_dataset("digits")
    assert task_of(digits).measure == "accuracy"


def test_a_detector_from_its_module_to_the_device(
    module: TinyYolo, scenes: DetectionDataset, toolchain: None, tmp_path: Path
) -> None:
    settings = (
        "run.name=bars", f"run.folder={tmp_path}", "model.name=tiny_yolo",
        "importance.batches=4", "table.cost_model=analytic", "table.channel_levels=4",
        "budget.flash=24KiB", "budget.sram=96KiB", "budget.loss_slack=0", "schedule.pool_images=64",
        "finetune.epochs=2", "finetune.batch=16", "finetune.optimizer=adam", "finetune.lr=0.005",
        "finetune.precision=fp32", "device.images=2",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"finetune\.distill is 0\.5, expected 0: detection"):
        compress(module, scenes, load_config(overrides=settings))
    result = compress(module, scenes, load_config(overrides=[*settings, "finetune.distill=0"]))
    report = result.report
    assert report["bit_exact"] and report["measure"] == "mAP at 0.5"
    dense = report["dense"]["accuracy"]
    assert dense == pytest.approx(task_of(scenes).score(module, scenes), abs=0.05)
    assert dense - 0.25 < report["dtmm"]["accuracy"]
    assert sum(report["dtmm"]["flash"].values()) <= 24 * 1024
    assert comparison_rows(report)[0][0] == "test mAP at 0.5 (40 images)"
    assert "test mAP at 0.5 (40 images)" in (result.folder / "report.html").read_text()
