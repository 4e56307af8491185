"""`dtmm train`: a run that is killed goes on from its last epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dtmm.config import load_config
from dtmm.errors import ArtifactError
from dtmm.models import shipped_checkpoint
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.train import train_checkpoint

SETTINGS = [
    "model.name=tiny_resnet",
    "data.name=digits",
    "train.epochs=3",
    "train.images_per_epoch=64",
    "train.batch=32",
    "train.precision=fp32",
]


class Dying(Progress):
    """Is interrupted at the end of an epoch, once `after` epochs were said."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def line(self, text: str) -> None:
        if self.left == 0:
            raise KeyboardInterrupt(text)
        self.left -= 1


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = load_config(overrides=SETTINGS)
    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    train_checkpoint(config, whole, Progress())
    with pytest.raises(KeyboardInterrupt, match="epoch 3"):
        train_checkpoint(config, killed, Dying(2))
    assert not killed.exists() and killed.with_suffix(".pt").is_file()
    told = Dying(1)  # of three epochs one is left to do
    train_checkpoint(config, killed, told)
    assert told.left == 0 and not killed.with_suffix(".pt").exists()
    expected, found = load_file(whole), load_file(killed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)

    def results(path: Path) -> list[list[str]]:
        lines = path.with_suffix(".csv").read_text().splitlines()
        return [line.split(",")[:3] for line in lines]

    assert len(results(whole)) == 4 and results(whole) == results(killed)


def test_another_runs_epochs_are_not_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(load_config(overrides=SETTINGS), path, Dying(1))
    other = load_config(overrides=[*SETTINGS, "train.seed=1", "train.epochs=1"])
    told = Dying(1)
    train_checkpoint(other, path, told)
    assert told.left == 0
    assert len(path.with_suffix(".csv").read_text().splitlines()) == 2


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.with_suffix(".pt").write_bytes(b"")
    path.with_suffix(".csv").write_text("epoch,loss\n1,x\n")
    with pytest.raises(ArtifactError, match=r"model\.csv is no training log"):
        train_checkpoint(load_config(overrides=SETTINGS), path, Progress())


def test_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    train_checkpoint(load_config(overrides=SETTINGS), first, Progress())
    still = [f"model.checkpoint={first}", "train.epochs=1", "train.lr=0", "train.weight_decay=0"]
    train_checkpoint(load_config(overrides=[*SETTINGS, *still]), second, Progress())
    before, after = load_file(first), load_file(second)
    weights = [key for key in before if key.endswith("weight")]
    assert weights and all(torch.equal(before[key], after[key]) for key in weights)
    with safe_open(first, "pt") as one, safe_open(second, "pt") as two:
        assert two.metadata()["began"] == one.metadata()["command"]
        assert f"model.checkpoint={first}" in two.metadata()["command"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    given = shipped_checkpoint("resnet12", "fashion_mnist")
    config = load_config(overrides=[*SETTINGS, f"model.checkpoint={given}"])
    with pytest.raises(ArtifactError, match="is of another model"):
        train_checkpoint(config, tmp_path / "model.safetensors", Progress())
