"""A tiny network from its checkpoint to the simulated Cortex-M55, through the command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dtmm.artifact import load
from dtmm.cli import cli
from dtmm.config import load_config
from dtmm.data import load_dataset
from dtmm.deploy import Deployment, Measurement
from dtmm.pipeline.stages import STAGES
from dtmm.quantization import quantize_input, run

SETTINGS = (
    "model.name=tiny_resnet",
    "data.name=digits",
    "table.channel_levels=3",
    "table.filterlet_levels=4",
    "finetune.epochs=6",
    "finetune.batch=64",
    "device.images=8",
)
BUDGETS = ("--flash", "28KiB", "--sram", "20KiB", "--max-loss", "0.3")

pytestmark = pytest.mark.usefixtures("toolchain")


def call(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        cli, [*arguments, "--name", "t", f"run.folder={folder}", *SETTINGS], catch_exceptions=True
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    result = call(folder, "compress", "--json", *BUDGETS)
    assert result.exception is None, result.output
    printed = json.loads(result.stdout)
    assert printed == json.loads((folder / "t" / "report.json").read_text())
    return printed


def test_the_report_says_what_it_must(report: dict[str, Any]) -> None:
    for system in ("dense", "dtmm"):
        assert report[system].keys() >= {"accuracy", "instructions", "cycles", "flash", "sram"}
        assert report[system]["flash"].keys() == {"weights", "index", "parameters", "code"}
        assert report[system]["sram"].keys() == {"arena", "scratch", "stack"}
    assert report["schedule"].keys() >= {
        "objective", "bound", "gap", "status", "solver", "seconds"
    }  # fmt: skip
    assert report["bit_exact"] is True
    assert {"compiler", "flags", "qemu", "cycle_model", "memory_map"} <= report["provenance"].keys()


def test_the_pruned_network_is_smaller_and_faster(report: dict[str, Any]) -> None:
    dense, ours = report["dense"], report["dtmm"]
    assert ours["cycles"] < 0.95 * dense["cycles"]
    assert ours["flash"]["weights"] + ours["flash"]["index"] < dense["flash"]["weights"]
    assert dense["accuracy"] > 0.9
    assert ours["accuracy"] > dense["accuracy"] - 0.1
    kept = [(layer["channels_kept"], layer["filterlets_kept"]) for layer in report["layers"]]
    whole = [(layer["channels"], layer["filterlets"]) for layer in report["layers"]]
    assert kept != whole


def test_the_schedule_predicts_the_measurement(report: dict[str, Any]) -> None:
    predicted, measured = report["schedule"]["predicted"], report["schedule"]["measured"]
    assert measured["cycles"] == pytest.approx(predicted["cycles"], rel=0.05)
    assert measured["flash"] <= predicted["flash"] <= 28 * 1024
    assert measured["flash"] > 0.8 * predicted["flash"]
    assert measured["sram"] <= 20 * 1024


def test_the_layers_were_measured_again_and_add_up(report: dict[str, Any], folder: Path) -> None:
    check = report["table_check"]
    assert (check["cost_model"], check["cycle_model"]) == ("measured", "m55-v1")
    scheduled = report["schedule"]["predicted"]["cycles"]
    assert check["predicted_cycles"] == pytest.approx(scheduled)
    assert check["predicted_cycles"] == pytest.approx(check["remeasured_cycles"], rel=0.03)
    # copies at the border and views weigh more in a network so small
    assert abs(check["network_error"]) < 0.1
    steps = {step["name"]: step["cycles"] for step in report["dtmm"]["layers"]}
    for layer in check["layers"]:
        assert layer["measured"] == pytest.approx(steps[layer["name"]], rel=0.02, abs=100), layer
    header = (folder / "t" / "layers.csv").read_text()
    assert f"# corrections: {check['corrections']}" in header


def test_memory_is_as_planned_or_explained(report: dict[str, Any]) -> None:
    memory = report["memory"]
    assert memory["unexplained"] == []
    for name in ("flash", "sram"):
        measured = sum(part["measured"] for part in memory["parts"] if part["memory"] == name)
        assert measured == sum(report["dtmm"][name].values())
        scheduled = sum(part["scheduled"] for part in memory["parts"] if part["memory"] == name)
        assert scheduled == pytest.approx(report["schedule"]["predicted"][name])
        assert memory["agrees"][name] == (abs(measured - scheduled) <= 0.01 * measured)


def test_both_scenarios_are_in_the_report(report: dict[str, Any]) -> None:
    for system in ("dense", "dtmm"):
        for layer in report[system]["layers"]:
            assert layer["cached_cycles"] >= layer["cycles"]
            assert layer["bytes_read"] > 0
    assert "m55-v2" in report["provenance"]["cached_memory"]


def test_every_byte_agrees(report: dict[str, Any], folder: Path) -> None:
    data = load_dataset("digits")
    for prefix in ("dense_", ""):
        deployment = load(folder / "t" / f"{prefix}deployment.dtmm", Deployment)
        measured = load(folder / "t" / f"{prefix}measurement.dtmm", Measurement)
        images = quantize_input(deployment.network, data.to_input(data.test_images[:8]))
        every = run(deployment.network, images, keep_all=True)
        assert np.array_equal(measured.outputs, every[deployment.network.outputs[0]])
        names = {"input": deployment.network.inputs[0]}
        names |= {op.name: op.output for op in deployment.network.ops}
        checked = [step for step in measured.steps if step.checksum is not None]
        assert len(checked) == len(measured.steps) - 1
        for step in checked:
            assert step.checksum == fnv1a(every[names[step.name]][0].tobytes()), step.name


def fnv1a(data: bytes) -> int:
    value = 2166136261
    for byte in data:
        value = (value ^ byte) * 16777619 % (1 << 32)
    return value


def test_the_html_report_stands_alone(report: dict[str, Any], folder: Path) -> None:
    page = (folder / "t" / "report.html").read_text()
    links = set(re.findall(r"https?://[^\"'\s<>]+", page))
    assert all(link.startswith("http://www.w3.org/") for link in links), links  # namespaces
    assert not re.search(r"<(script|link|img)\b", page)
    assert page.count("<svg") == 6
    assert "What each budget is worth" in page


LOOK = """<script>
const boxes = [...document.querySelectorAll("svg")].map((each) => each.getBoundingClientRect());
const page = document.documentElement;
document.body.textContent = "seen " + JSON.stringify({
  widths: boxes.map((box) => box.width), heights: boxes.map((box) => box.height),
  wide: page.scrollWidth - page.clientWidth, tables: document.querySelectorAll("table").length,
});
</script>"""


def test_the_html_report_in_a_browser(report: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here")
    page = tmp_path / "report.html"
    text = (folder / "t" / "report.html").read_text()
    page.write_text(text.replace("</body>", f"{LOOK}</body>"))
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,1400",
         f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom",
         page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    [found] = re.findall(r"seen (\{.*\})", done.stdout)
    seen = json.loads(found)
    assert len(seen["widths"]) == 6 and seen["tables"] >= 4
    assert min(seen["widths"]) > 300 and min(seen["heights"]) > 80
    assert seen["wide"] <= 0, "the page is wider than its window"


def test_the_report_says_where_the_schedule_stands(report: dict[str, Any]) -> None:
    found = report["tradeoff"]
    assert found["left_out"] == ""
    assert {price["budget"] for price in found["prices"]} == {"flash", "sram", "loss"}
    assert found["chosen"]["latency"] == report["schedule"]["objective"]
    front = sorted((point["latency"], point["loss"]) for point in found["front"])
    assert len(front) >= 3
    assert [loss for _, loss in front] == sorted((loss for _, loss in front), reverse=True)
    chosen = found["chosen"]  # within the loss that it has nothing is faster than the front
    assert all(
        point["latency"] <= chosen["latency"] * 1.001
        for point in found["front"]
        if point["loss"] >= chosen["loss"]
    )


def test_the_tflite_files_were_tried_elsewhere(report: dict[str, Any], folder: Path) -> None:
    tflite = folder / "t" / "tflite"
    checks = json.loads((tflite / "checks.json").read_text())
    assert checks["TFLM"] == "all 40 output bytes of 4 images are equal"
    assert "layers equal to the byte on 4 images" in checks["LiteRT"]
    assert (tflite / "tiny_resnet.tflite").is_file()


def test_the_c_project_builds_on_its_own(
    report: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    project = folder / "t" / "project"
    flags = "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"
    for command in (
        ["cmake", "-S", str(project), "-B", str(tmp_path), flags],
        ["cmake", "--build", str(tmp_path)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    measured = load(folder / "t" / "measurement.dtmm", Measurement)
    deployment = load(folder / "t" / "deployment.dtmm", Deployment)
    data = load_dataset("digits")
    images = quantize_input(deployment.network, data.to_input(data.test_images[:8]))
    program = next(path for path in tmp_path.iterdir() if path.name == "tiny_resnet")
    done = subprocess.run([program], input=images.tobytes(), capture_output=True, check=True)
    assert done.stdout == measured.outputs.tobytes()


def test_the_c_project_builds_for_the_m55(
    report: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    project = folder / "t" / "project"
    toolchain = project / "dtmm" / "cmake" / "cortex-m55-clang.cmake"
    for command in (
        ["cmake", "-S", str(project), "-B", str(tmp_path), f"-DCMAKE_TOOLCHAIN_FILE={toolchain}"],
        ["cmake", "--build", str(tmp_path)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.glob("*_model.a")) or list(tmp_path.glob("lib*_model.a"))


def test_a_second_run_has_nothing_to_do(report: dict[str, Any], folder: Path) -> None:
    again = call(folder, "compress", *BUDGETS)
    assert again.exception is None, again.output
    default = load_config()
    assert again.stderr.count("up to date") == sum(stage.needed(default) for stage in STAGES)


def test_a_new_budget_reruns_the_schedule_only(
    report: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "t", tmp_path / "t")
    result = call(tmp_path, "schedule", "--flash", "29KiB", "--sram", "20KiB", "--max-loss", "0.3")
    assert result.exception is None, result.output
    assert "importance: up to date" in result.stderr
    assert "profile: up to date" in result.stderr
    assert "schedule: choose" in result.stderr


def test_a_deleted_artifact_is_made_again(
    report: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "t", tmp_path / "t")
    (tmp_path / "t" / "selection.dtmm").unlink()
    result = call(tmp_path, "finetune", *BUDGETS)
    assert result.exception is None, result.output
    assert "schedule: choose" in result.stderr
    assert "finetune: up to date" in result.stderr  # the same selection came out again


def test_a_stage_verb_prints_json_alone(report: dict[str, Any], folder: Path) -> None:
    result = call(folder, "quantize", "--json", *BUDGETS)
    assert result.exception is None, result.output
    assert json.loads(result.stdout)["stage"] == "quantize"
