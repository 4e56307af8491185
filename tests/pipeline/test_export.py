"""The .tflite files that a run leaves behind, and that a wrong one is noticed."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dtmm.cli import cli
from dtmm.errors import MeasurementError
from dtmm.network.tflite_writer import write_tflite
from dtmm.pipeline.export import PROVENANCE, SCHEDULE, check_export, export_tflite
from dtmm.quantization import QuantizedNetwork
from dtmm.quantization.tflite_reader import load_tflite
from dtmm.scheduler import Schedule
from tests.quantization.oracles import calibrated
from tests.training.networks import Builder

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
pytest.importorskip("tflite_micro")

DECIDED = Schedule(
    channels={"g": 20}, filterlets={"c": 60}, kernels={"c": "conv_fwcs"}, objective=1.0, bound=1.0,
    gap=0.0, status="optimal", solver="highs", seconds=0.1, latency=9.0, flash=8.0, sram=7.0,
    loss=0.5,
)  # fmt: skip


@pytest.fixture
def network() -> QuantizedNetwork:
    b = Builder(0, (1, 8, 8, 16))
    made = b.build("sparse one", b.fc("f", b.mean(b.conv("c", "x", 20, bias=True)), 7))
    made.params["c.weight"][:, 0] = 0
    return calibrated(made, 0)[0]


def images(network: QuantizedNetwork) -> np.ndarray:
    shape = network.tensors["x"].shape[1:]
    return np.random.default_rng(1).integers(-128, 128, (2, *shape)).astype(np.int8)


def test_files_checks_and_metadata(network: QuantizedNetwork, tmp_path: Path) -> None:
    made = export_tflite(network, tmp_path, images(network), DECIDED)
    assert made.model == tmp_path / "sparse_one.tflite"
    assert made.custom_layers == ("c",)
    assert made.compressed is not None and made.operator is not None
    assert made.compressed.stat().st_size < made.model.stat().st_size
    assert "X(c16_1x8)" in (made.operator / "dtmm_op_kernels.h").read_text()
    assert (made.operator / "dtmm" / "src" / "dtmm_conv_fwcs_s8.c").is_file()
    assert made.checks["TFLM"] == "all 14 output bytes of 2 images are equal"
    assert "layers equal to the byte on 2 images" in made.checks["LiteRT"]
    for path in (made.model, made.compressed):
        model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
        found = {
            entry.name.decode(): json.loads(bytes(model.buffers[entry.buffer].data))
            for entry in model.metadata
        }
        assert found[SCHEDULE]["filterlets"] == {"c": 60}
        assert found[PROVENANCE].keys() == {"dtmm_version", "commit", "solver", "gap"}
    assert load_tflite(made.model).ops == network.ops  # metadata does not disturb a reader


def test_a_wrong_file_is_noticed(network: QuantizedNetwork) -> None:
    params = {**network.params, "c.bias": network.params["c.bias"] + 1000}
    other = write_tflite(dataclasses.replace(network, params=params))
    with pytest.raises(MeasurementError, match="bytes of 'c' differ in LiteRT"):
        check_export(network, other, images(network))


def test_without_interpreters_it_says_so(
    network: QuantizedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_tflite(network)
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    checks = check_export(network, content, images(network))
    assert all(found.startswith("not installed: pip install") for found in checks.values())


def test_import_writes_them(network: QuantizedNetwork, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(write_tflite(network))
    words = ["import", str(tmp_path / "m.tflite"), "--images", "0", "--tflite", str(tmp_path / "o")]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "TFLM: all 14 output bytes" in done.stderr
    assert (tmp_path / "o" / "m" / "m.dtmm.tflite").is_file()
