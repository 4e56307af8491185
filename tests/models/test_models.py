"""Models and their checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dtmm.data import load_dataset
from dtmm.errors import ArtifactError, ConfigError
from dtmm.models import build_model, load_checkpoint, save_checkpoint, shipped_checkpoint
from dtmm.models.resnet import ResNet
from dtmm.training.loop import LoopConfig, accuracy, draw_moves, move_images


def test_resnet12_has_the_papers_shape() -> None:
    module = ResNet(1, 10)
    convs = [m.weight for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convs) == 12
    assert sum(weight.numel() for weight in convs) == 1_222_944
    assert module(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_a_checkpoint_comes_back_in_half_precision(tmp_path: Path) -> None:
    module, other = ResNet(1, 10, (8, 16)), ResNet(1, 10, (8, 16))
    save_checkpoint(tmp_path / "a.safetensors", module, {"model": "tiny", "seed": "3"})
    assert load_checkpoint(tmp_path / "a.safetensors", other) == {"model": "tiny", "seed": "3"}
    for key, value in module.state_dict().items():
        assert torch.equal(value.half(), other.state_dict()[key].half())
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", ResNet(1, 10, (8, 16)), {"model": "tiny"})
    with pytest.raises(ArtifactError, match=r"model tiny.*classifier\.weight is of shape \[10, 16"):
        load_checkpoint(tmp_path / "a.safetensors", ResNet(1, 10))
    (tmp_path / "b.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match="not a safetensors checkpoint"):
        load_checkpoint(tmp_path / "b.safetensors", ResNet(1, 10))
    with pytest.raises(ArtifactError, match="does not exist"):
        load_checkpoint(tmp_path / "c.safetensors", ResNet(1, 10))


def test_the_shipped_checkpoints_reach_what_they_say(full: bool) -> None:
    for model, name, least in (("resnet12", "fashion_mnist", 0.93), ("tiny_resnet", "digits", 0.9)):
        data = load_dataset(name)
        module = build_model(model, data)
        metadata = load_checkpoint(shipped_checkpoint(model, name), module)
        assert metadata["command"].startswith("dtmm train ")
        assert metadata["dataset_hash"] == data.hash
        count = len(data.test_labels) if full else 500
        found = accuracy(module, data, data.test_images[:count], data.test_labels[:count])
        assert found > least - (0 if full else 0.02)
        if count == len(data.test_labels):
            assert found == pytest.approx(float(metadata["test_accuracy"]), abs=1e-3)


def test_an_unknown_model_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="resnet12, resnet8, squeezenet, tiny_resnet"):
        build_model("resnet50", load_dataset("digits"))


def test_augmentation_shifts_and_mirrors() -> None:
    images = np.zeros((64, 8, 8, 1), np.uint8)
    images[:, 3, 2] = 200
    rng = np.random.default_rng(0)
    moves = draw_moves(64, rng, LoopConfig(1, flip=True, shift=2))
    moved = move_images(images, moves, most=2)
    assert moved.shape == images.shape
    assert (moved.reshape(64, -1).sum(axis=1) == 200).all()  # inside: at most 2 pixels away
    rows, columns = np.nonzero(moved[..., 0])[1:]
    assert set(rows) == {1, 2, 3, 4, 5}
    assert set(columns) == set(range(8))  # 2 +- 2 and its mirror image 5 +- 2
    column = np.where(moves.mirrored, 7 - 2, 2) + moves.right
    assert np.array_equal(np.argwhere(moved)[:, 1:3], np.stack([3 + moves.down, column], axis=1))
    still = draw_moves(64, rng, LoopConfig(1, flip=False, shift=0))
    assert np.array_equal(move_images(images, still, most=0), images)
