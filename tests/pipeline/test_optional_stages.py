"""A stage that settings do not ask for is left out, and its readers do without."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from dtmm.config import load_config
from dtmm.errors import ConfigError
from dtmm.pipeline.engine import Context, Stage, open_run, run_until
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.stages import STAGES

SOURCE = SimpleNamespace(identity=lambda: "same")


def _stages(calls: list[str]) -> tuple[Stage, ...]:
    def work(name: str):
        def function(context: Context) -> str:
            calls.append(name)
            context.folder.file(f"{name}.txt").write_text(name)
            return name

        return function

    return (
        Stage("first", "", (), (), ("first.txt",), work("first")),
        Stage("extra", "", ("first.txt",), (), ("extra.txt",), work("extra"),
              needed=lambda config: config.schedule.loss_model == "measured"),
        Stage("last", "", ("first.txt", "extra.txt"), (), ("last.txt",), work("last")),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "last", "run"),
    [
        ("scores", "last", ["first", "last"]),
        ("measured", "last", ["first", "extra", "last"]),
        ("scores", "extra", ["first", "extra"]),  # asked for by name
    ],
)
def test_what_runs(tmp_path: Path, model: str, last: str, run: list[str]) -> None:
    calls: list[str] = []
    settings = [f"run.folder={tmp_path}", f"schedule.loss_model={model}"]
    context = open_run(load_config(overrides=settings), Progress(quiet=True), SOURCE)
    run_until(context, _stages(calls), last)
    assert calls == run
    run_until(context, _stages(calls), last)
    assert calls == run  # up to date


def test_a_reader_is_run_again_when_the_stage_is_wanted(tmp_path: Path) -> None:
    calls: list[str] = []
    for model in ("scores", "measured"):
        settings = [f"run.folder={tmp_path}", f"schedule.loss_model={model}"]
        context = open_run(load_config(overrides=settings), Progress(quiet=True), SOURCE)
        run_until(context, _stages(calls), "last")
    assert calls == ["first", "last", "extra", "last"]


def test_the_sensitivity_is_measured_if_the_loss_model_reads_it() -> None:
    stage = next(stage for stage in STAGES if stage.name == "sensitivity")
    wanted = {
        name: stage.needed(load_config(overrides=[f"schedule.loss_model={name}"]))
        for name in ("scores", "measured", "calibrated", "joint")
    }
    assert wanted == {"scores": False, "measured": True, "calibrated": True, "joint": True}
    given = ["schedule.loss_model=joint", "schedule.sensitivity=mine.csv"]
    assert not stage.needed(load_config(overrides=given))


def test_an_unknown_stage_is_named(tmp_path: Path) -> None:
    context = open_run(
        load_config(overrides=[f"run.folder={tmp_path}"]), Progress(quiet=True), SOURCE
    )
    with pytest.raises(ConfigError, match="unknown stage 'later'; stages: first, extra, last"):
        run_until(context, _stages([]), "later")
