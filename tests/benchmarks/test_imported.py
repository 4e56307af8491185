"""The benchmark of real models, on one that is made here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from click.testing import CliRunner

from benchmarks.imported import main, stored_bytes, verdicts
from dtmm.deploy import plan
from dtmm.network.tflite_writer import write_tflite
from dtmm.planning import layout
from dtmm.table import read_table
from tests.quantization.oracles import calibrated
from tests.training.networks import Builder


def one_conv(folder: Path) -> Path:
    b = Builder(0, (1, 9, 9, 16))
    network = b.build("one", b.conv("c", "x", 5, bias=True))
    network.params["c.weight"][1, 1, 1] = 0
    path = folder / "single_conv_small.tflite"
    path.write_bytes(write_tflite(calibrated(network, 0)[0]))
    return path


def test_a_folder_of_models(tmp_path: Path, toolchain: None) -> None:
    one_conv(tmp_path)
    done = CliRunner().invoke(main, [str(tmp_path), "--out", str(tmp_path / "out.csv")])
    assert done.exit_code == 0, done.output
    table, about = read_table(tmp_path / "out.csv")
    (row,) = table.to_dict("records")
    assert row["zero_filterlets"] == 1
    assert row["tflm_cmsisnn_cycles"] == 950_000  # known by the beginning of its name
    assert row["stored_bytes"] == 24 + 44 * 16 + 5 * 9 + 6
    assert about["cycle_model"].startswith("m55-v1")
    assert "pass" in done.output


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [str(tmp_path)])
    assert done.exit_code == 1
    assert "has no .tflite file below it" in done.output


def test_verdicts_can_fail() -> None:
    row = {"network": "n", "ratio": 0.7, "arena_bytes": 11, "tflm_cmsisnn_arena_bytes": 10}
    cycles, arena = verdicts(pd.DataFrame([row]))
    assert cycles.endswith("fail") and arena.endswith("fail")


def test_fully_connected_layers_count_too() -> None:
    b = Builder(0, (1, 4, 4, 16))
    network = b.build("two", b.fc("f", b.mean(b.conv("c", "x", 3, bias=True)), 7))
    deployment = plan(calibrated(network, 0)[0], layout(network))
    layer = deployment.layers["f"]
    conv = 24 + 27 * 16 + 3 * 9 + 4
    assert stored_bytes(deployment) == conv + layer.weights.nbytes + layer.parameters.nbytes
