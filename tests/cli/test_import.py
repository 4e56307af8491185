"""`dtmm import` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dtmm.cli import cli
from dtmm.network.tflite_writer import write_tflite
from tests.quantization.oracles import calibrated
from tests.training.networks import residual


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A residual network with zero filterlets, a dead filter and odd channels."""
    from dtmm.network import fold

    network = fold(residual(3, c_in=3, widths=(16, 21)))
    rng = np.random.default_rng(0)
    for name in ("a2", "c1"):
        weights = network.params[f"{name}.weight"]
        weights[rng.random(weights.shape[:3]) < 0.6] = 0
    for key in ("a1.weight", "a1.bias"):
        network.params[key][5] = 0
    path = tmp_path_factory.mktemp("models") / "pruned.tflite"
    path.write_bytes(write_tflite(calibrated(network, 3)[0]))
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["import", *map(str, arguments)])


def test_a_folder_is_packed_and_measured(model: Path, tmp_path: Path, toolchain: None) -> None:
    done = call(model.parent, "--find-filterlets", "--json", "--out", tmp_path / "out")
    assert done.exception is None, done.output
    (found,) = json.loads(done.stdout)
    dense, packed = found["systems"]
    assert found["zero_filterlets"] > 100
    assert found["removed_channels"] == 1
    assert (dense["system"], packed["system"]) == ("dense", "packed")
    assert packed["weights"] + packed["index"] < dense["weights"]
    assert packed["cycles"] < dense["cycles"]
    assert not [k for k in dense["kernels"].values() if k.startswith("conv_fwcs")]
    assert (tmp_path / "out" / "pruned" / "CMakeLists.txt").is_file()


def test_without_running(model: Path) -> None:
    done = call(model, "--images", "0")
    assert done.exception is None, done.output
    assert "weights" in done.stdout
    assert "cycles" not in done.stdout.split("bytes, cycles")[1]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    done = call(tmp_path)
    assert str(done.exception) == f"folder {tmp_path} has no .tflite file"
    done = call(tmp_path / "none.tflite")
    assert "none.tflite: No such file" in str(done.exception)


def test_a_folder_is_one_table_and_what_is_refused_does_not_stop_it(
    model: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.tflite").write_bytes(model.read_bytes())
    (tmp_path / "odd.tflite").write_text("no model")
    done = call(tmp_path, "--find-filterlets", "--images", "0")
    assert done.exit_code == 1
    assert "dtmm: model" in done.stderr
    assert "odd.tflite: it begins with" in done.stderr
    (heading,) = (line for line in done.stdout.splitlines() if "model" in line)
    assert "weights" in heading
    rows = [line for line in done.stdout.splitlines() if "one" in line or "two" in line]
    assert len(rows) == 2
    assert all("1 of 1" in row for row in rows)  # of the dead filter


def test_the_arena_holds_no_scratch_that_flash_can_hold(models_folder: Path) -> None:
    """TFLM's arena for this convolution takes 27,948 bytes (benchmarks/external/networks.csv)."""
    (path,) = models_folder.rglob("single_conv.tflite")
    done = call(path, "--find-filterlets", "--images", "0", "--json")
    (found,) = json.loads(done.stdout)
    assert found["systems"][1]["arena"] <= 27_948
    assert found["systems"][1]["index"] < 128
