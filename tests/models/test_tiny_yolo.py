"""The detector and its shipped checkpoint."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dtmm.data import load_detection
from dtmm.detection.grid import BOX
from dtmm.models import build_model, load_checkpoint, shipped_checkpoint
from dtmm.models.tiny_yolo import RARE, TinyYolo
from dtmm.training.tasks import task_of


def test_a_cell_of_eight_pixels_has_a_box_and_the_classes() -> None:
    module = TinyYolo(1, 10).eval()
    assert module(torch.zeros(2, 1, 64, 64)).shape == (2, BOX + 10, 8, 8)
    assert module(torch.zeros(1, 1, 112, 96)).shape == (1, BOX + 10, 14, 12)


def test_objects_are_rare_at_first() -> None:
    torch.manual_seed(0)
    outputs = TinyYolo(1, 3)(torch.randn(8, 1, 64, 64))
    assert outputs[:, 0].sigmoid().median().item() == pytest.approx(RARE, rel=0.5)


def test_the_shipped_checkpoint_finds_what_it_says(full: bool) -> None:
    whole = load_detection("fashion_boxes")
    module = build_model("tiny_yolo", whole)
    metadata = load_checkpoint(shipped_checkpoint("tiny_yolo", "fashion_boxes"), module)
    assert metadata["command"].startswith("dtmm train ")
    assert metadata["dataset_hash"] == whole.hash
    few = slice(None if full else 300)
    data = dataclasses.replace(
        whole, test_images=whole.test_images[few], test_boxes=whole.test_boxes[few]
    )
    found = task_of(data).score(module, data)
    assert found == pytest.approx(float(metadata["test_map50"]), abs=2e-3 if full else 0.06)
