"""What a user sees of `dtmm profile`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dtmm import artifact
from dtmm.cli import cli
from dtmm.deploy import Deployment
from dtmm.errors import ArtifactError, ConfigError, DtmmError
from dtmm.table import read_table
from tests.deploy.test_deploy import quantized


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return quantized("vgg")[1]


@pytest.fixture(scope="module")
def run(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as far as `dtmm profile` looks at one."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    artifact.save(deployment, folder / "deployment.dtmm")
    artifact.save(deployment.network, folder / "pruned_int8.dtmm")
    return folder


@pytest.fixture(scope="module")
def outputs(run: Path, toolchain: None) -> dict[str, str]:
    """JSON, a table with --hot, a CSV and a figure; measured twice."""
    csv, plot = run / "layers.csv", run / "layers.svg"
    runner = CliRunner()
    text = runner.invoke(cli, ["profile", str(run), "--hot", "1", "--csv", str(csv)],
                         catch_exceptions=False)  # fmt: skip
    quantized_file = str(run / "pruned_int8.dtmm")
    as_json = runner.invoke(cli, ["profile", quantized_file, "--json", "--plot", str(plot)],
                            catch_exceptions=False)  # fmt: skip
    assert "the DTMM network of run" in text.stderr
    return {"text": text.stdout, "json": as_json.stdout, "csv": str(csv), "plot": plot.read_text()}


def test_every_form_says_the_same(outputs: dict[str, str], deployment: Deployment) -> None:
    found = json.loads(outputs["json"])
    table, provenance = read_table(outputs["csv"])
    assert [row["layer"] for row in found["layers"]] == list(table["layer"])
    for row, kept in zip(found["layers"], table.to_dict("records"), strict=True):
        assert row["instructions"] == kept["instructions"]
        assert row["cycles"]["m55-v2"] == pytest.approx(kept["cycles_m55-v2"])
        assert f"{row['instructions']:,}" in outputs["text"]
        assert f"{row['cycles']['m55-v1']:,.0f}" in outputs["text"]
        assert f">{row['layer']}</text>" in outputs["plot"]
    totals = found["total"]
    assert sum(row["cycles"]["m55-v1"] for row in found["layers"]) == totals["cycles"]["m55-v1"]
    assert sum(row["share"] for row in found["layers"]) == pytest.approx(1)
    assert {row["kernel"] for row in found["layers"]} >= set(deployment.kernels.values())
    for key in ("compiler", "flags", "qemu", "cycle_model", "memory_map", "commit"):
        assert key in found["provenance"]
        assert key in provenance
    assert found["provenance"]["cycle_model"].startswith("m55-v1/llvm-")


def test_both_scenarios_are_labelled(outputs: dict[str, str]) -> None:
    for model in ("m55-v1", "m55-v2"):
        assert f"cycles ({model})" in outputs["text"]
        assert f"cycles ({model})" in outputs["plot"]
    assert "46.9 cycles for each line that a read misses" in outputs["text"]


def test_hot_blocks_are_disassembled(outputs: dict[str, str]) -> None:
    block = outputs["text"].partition("block 1: ")[2]
    assert "cycles (m55-v1)" in block
    assert len([line for line in block.splitlines() if line.startswith("    ")]) >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "0 models given, expected one, or --table"),
        (("a", "b"), "2 models given"),
        (("nothing_like_it",), "no file, no run folder, .* no model of dtmm.models .*resnet12"),
        (("resnet12", "--dense"), "--dense chooses between the two networks of a run"),
        (("resnet12", "--flash", "1KiB"), "--flash does not go with a MODEL"),
        (("--table", "--hot", "3"), "--hot does not go with --table"),
        (("resnet12", "--plot", "bars.bmp"), r"--plot bars.bmp: expected a name that ends in .svg"),
        (("resnet12", "--device", "host"), "device 'host' cannot profile: expected one of qemu"),
    ],
)
def test_refusals(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(DtmmError, match=message) as error:
        CliRunner().invoke(cli, ["profile", *arguments], catch_exceptions=False)
    assert "\n" not in str(error.value)


def test_refused_files(run: Path, deployment: Deployment, tmp_path: Path) -> None:
    from dtmm.pipeline.model_source import find_model

    with pytest.raises(ConfigError, match=r"no dense_deployment\.dtmm in this run yet"):
        find_model(str(run), dense=True)
    artifact.save(deployment.layout, tmp_path / "layout.dtmm")
    with pytest.raises(ConfigError, match="holds a Layout, expected a Deployment or a Quantized"):
        find_model(str(tmp_path / "layout.dtmm"))
    (tmp_path / "broken.dtmm").write_bytes(b"PK not really")
    with pytest.raises(ArtifactError, match=r"broken\.dtmm"):
        find_model(str(tmp_path / "broken.dtmm"))
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"model\.onnx: expected an int8 \.tflite file"):
        find_model(str(tmp_path / "model.onnx"))


def test_models_by_name_say_whose_weights() -> None:
    from dtmm.pipeline.model_source import find_model

    assert "trained on digits" in find_model("tiny_resnet").description
    assert "random weights (no checkpoint is shipped)" in find_model("ds_cnn").description


def test_tflite(models_folder: Path) -> None:
    from dtmm.pipeline.model_source import find_model

    found = find_model(str(models_folder / "paper_models" / "single_conv.tflite"))
    assert any("fwcs" in kernel for kernel in found.deployment.kernels.values())
