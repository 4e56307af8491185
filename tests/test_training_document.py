"""docs/training.md: its Python runs, in order, and does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dtmm.config import FinetuneConfig, QuantizeConfig
from dtmm.data import Dataset
from dtmm.training.loop import accuracy, to_tensor

TEXT = (Path(__file__).parents[1] / "docs" / "training.md").read_text()


def test_every_snippet_runs(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for block in blocks:
        exec(compile(block, "training.md", "exec"), names)
        if "copy_to(restore" in block:
            check_the_users_module(names)
    assert len(blocks) == 5 and len(blocks[1].splitlines()) == 10
    assert capsys.readouterr().out.count(" dB") > 10


def check_the_users_module(names: dict[str, Any]) -> None:
    """It has the zeros, and computes what the tuned network does."""
    digits: Dataset = names["digits"]
    model, module = names["model"].eval(), names["module"]
    weight = model.state_dict()[names["conv"].weight].numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(weight.any(3, keepdims=True), names["kept"])
    images = to_tensor(digits.to_input(digits.test_images[:64]))
    with torch.no_grad():
        torch.testing.assert_close(model(images), module(images), atol=1e-4, rtol=1e-4)
    assert accuracy(model, digits, digits.test_images, digits.test_labels) > 0.8


def test_the_tables_name_every_setting() -> None:
    tables = " ".join(line for line in TEXT.splitlines() if line.startswith("|"))
    named = set(re.findall(r"`(\w+)`", tables))
    for config in (FinetuneConfig, QuantizeConfig):
        expected = set(config.__dataclass_fields__) - {"seed", "batch", "device"}
        assert expected <= named, expected - named
