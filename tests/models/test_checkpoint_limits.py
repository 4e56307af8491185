"""Checkpoints at the edges: unwritable paths, values that half precision cannot hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dtmm.errors import ArtifactError
from dtmm.models import load_checkpoint, save_checkpoint
from dtmm.models.resnet import ResNet


def test_a_path_below_a_file_or_onto_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a.safetensors", tmp_path / "folder"):
        with pytest.raises(ArtifactError, match="cannot write checkpoint"):
            save_checkpoint(path, ResNet(1, 10, (8, 16)), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine"


def test_what_half_precision_cannot_hold_keeps_its_type(tmp_path: Path) -> None:
    module, other = ResNet(1, 10, (8, 16)), ResNet(1, 10, (8, 16))
    module.stem.norm.running_var[2] = 1e6
    save_checkpoint(tmp_path / "a.safetensors", module, {})
    load_checkpoint(tmp_path / "a.safetensors", other)
    assert torch.equal(other.stem.norm.running_var, module.stem.norm.running_var)


def test_a_refused_checkpoint_changes_nothing(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", ResNet(1, 10, (8, 24)), {})
    module = ResNet(1, 10, (8, 16))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ArtifactError):
        load_checkpoint(tmp_path / "a.safetensors", module)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_parameters_by_hand() -> None:
    """Convolutions, twice the channels per batch normalization, and the classifier."""
    module = ResNet(1, 10, (8, 16))
    convs = 9 * 8 + 2 * 9 * 8 * 8 + 9 * 8 * 16 + 9 * 16 * 16 + 8 * 16
    norms = 2 * (8 + 8 + 8 + 16 + 16 + 16)
    assert sum(p.numel() for p in module.parameters()) == convs + norms + 16 * 10 + 10
    assert all(conv.bias is None for conv in module.modules() if isinstance(conv, torch.nn.Conv2d))
    features = module.stages(torch.relu(module.stem(torch.zeros(3, 1, 16, 16))))
    assert features.shape == (3, 16, 8, 8)
