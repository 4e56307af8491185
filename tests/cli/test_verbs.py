"""What the command line says when something is wrong: one line, exit status 1, nothing lost."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dtmm.cli import cli
from dtmm.pipeline.stages import STAGES

VERBS = ["demo", "compress", "train", "doctor", *(stage.name for stage in STAGES)]
TINY = ("model.name=tiny_resnet", "data.name=digits", "importance.batches=2",
        "table.channel_levels=2", "table.filterlet_levels=2", "device.images=2")  # fmt: skip


def dtmm(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real program: also what `main` does with errors is tested."""
    import os

    return subprocess.run(
        [sys.executable, "-c", "from dtmm.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
        timeout=240,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("dtmm: ")]
    assert done.returncode == 1, done.stderr
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in errors[0]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    result = CliRunner().invoke(cli, [verb, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_help_is_quick_and_leaves_torch_out() -> None:
    code = "import sys, dtmm.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_doctor_as_json() -> None:
    done = dtmm("doctor", "--json")
    findings = json.loads(done.stdout)
    assert {"torch", "clang", "qemu-system-arm"} <= {finding["name"] for finding in findings}
    required = [finding for finding in findings if not finding["optional"]]
    assert done.returncode == (0 if all(finding["found"] for finding in required) else 1)


def test_doctor_names_what_is_missing(tmp_path: Path) -> None:
    done = dtmm("doctor", "--json", PATH=str(tmp_path))
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert not findings["clang"]["found"]
    assert "clang-19" in findings["clang"]["how_to_get"]


def test_unknown_dataset_folder(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    done = dtmm("network", f"run.folder={tmp_path}", f"data.folder={missing}")
    assert_one_line(done, str(missing), "dataset-fashion-mnist")


def test_unknown_setting(tmp_path: Path) -> None:
    done = dtmm("network", f"run.folder={tmp_path}", "finetune.epoch=3")
    assert_one_line(done, "finetune.epoch", "finetune.epochs")
    assert list(tmp_path.iterdir()) == []


def test_malformed_size(tmp_path: Path) -> None:
    done = dtmm("schedule", "--flash", "lots", f"run.folder={tmp_path}")
    assert_one_line(done, "budget.flash", "lots")


def test_wrong_checkpoint(tmp_path: Path) -> None:
    from dtmm.models import shipped_checkpoint

    other = shipped_checkpoint("resnet12", "fashion_mnist")
    done = dtmm("network", f"run.folder={tmp_path}", *TINY, f"model.checkpoint={other}")
    assert_one_line(done, other.name, "another model")


def test_missing_checkpoint(tmp_path: Path) -> None:
    done = dtmm("network", f"run.folder={tmp_path}", *TINY, "model.checkpoint=none.safetensors")
    assert_one_line(done, "none.safetensors", "does not exist")


def test_missing_toolchain(tmp_path: Path) -> None:
    done = dtmm("profile", "--table", f"run.folder={tmp_path}", *TINY, PATH=str(tmp_path))
    assert_one_line(done, "clang")


def test_impossible_budgets_name_the_smallest_feasible(tmp_path: Path, toolchain: None) -> None:
    done = dtmm("schedule", "--flash", "9KiB", f"run.folder={tmp_path}", *TINY)
    assert_one_line(done, "flash", "smallest feasible")
    assert not (tmp_path / "demo" / "schedule.dtmm").exists()
    # the run is not lost: with a budget that can be met it goes on where it stopped
    again = dtmm("schedule", "--flash", "64KiB", f"run.folder={tmp_path}", *TINY)
    assert again.returncode == 0, again.stderr
    assert "profile: up to date" in again.stderr


@pytest.mark.parametrize(
    ("script", "says"),
    [("kill -SEGV $$", "qemu-system-arm"), ("echo DTMM nonsense", "END")],
    ids=["crash", "cut short"],
)
def test_broken_simulator(tmp_path: Path, toolchain: None, script: str, says: str) -> None:
    import os

    fake = tmp_path / "bin" / "qemu-system-arm"
    fake.parent.mkdir()
    version = "if [ \"$1\" = --version ]; then echo 'QEMU emulator version 7.2.0'; exit 0; fi"
    fake.write_text(f"#!/bin/sh\n{version}\n{script}\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    done = dtmm("profile", "--table", f"run.folder={tmp_path / 'runs'}", *TINY, PATH=path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("dtmm: ")]
    assert len(errors) == 1, done.stderr
    assert not (tmp_path / "runs" / "demo" / "latency.csv").exists()


def test_train_writes_a_checkpoint_that_a_run_reads(tmp_path: Path) -> None:
    out = tmp_path / "made" / "tiny.safetensors"
    settings = ("model.name=tiny_resnet", "data.name=digits", "train.epochs=1")
    done = dtmm("train", "--json", "--out", str(out), *settings)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checkpoint"] == str(out)
    log = out.with_suffix(".csv").read_text().splitlines()
    assert log[0] == "epoch,loss,accuracy,seconds"
    assert len(log) == 2
    read = dtmm("network", f"run.folder={tmp_path}", *TINY, f"model.checkpoint={out}")
    assert read.returncode == 0, read.stderr
