"""Runs stages: each reads the run folder and writes it, and is skipped where it is up to date."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dtmm import runtime_c
from dtmm.config import Config, save_config
from dtmm.errors import ConfigError
from dtmm.pipeline.data_free import without_data
from dtmm.pipeline.folder import RunFolder, digest, key_of
from dtmm.pipeline.progress import Progress
from dtmm.pipeline.source import ConfiguredSource, Source


@dataclass(frozen=True)
class Context:
    """What a stage's function gets; `source` is the network and data that the run began with."""

    config: Config
    folder: RunFolder
    progress: Progress
    source: Source


@dataclass(frozen=True)
class Stage:
    """One step from a noun to the next.

    Attributes:
        name: also the command line's verb.
        title: one line for people.
        reads: files of the run folder, each an output of an earlier stage.
        sections: sections of the configuration that its result depends on.
        outputs: files or folders it writes into the run folder.
        function: does the work; returns a one-line summary.
        files: settings that name a file of the user's (`section.key`) whose contents matter.
        runtime: whether its result depends on the C runtime's code.
        version: raise it when the stage's meaning changes, so that old results are not reused.
        needed: whether settings ask for it; if not, it is left out unless it is what to run last,
            and nobody reads its outputs.
    """

    name: str
    title: str
    reads: tuple[str, ...]
    sections: tuple[str, ...]
    outputs: tuple[str, ...]
    function: Callable[[Context], str]
    files: tuple[str, ...] = ()
    runtime: bool = False
    version: int = 1
    needed: Callable[[Config], bool] = lambda config: True


def open_run(config: Config, progress: Progress, source: Source | None = None) -> Context:
    """The context of the run that `config.run` names; its folder is made, its settings saved.

    Args:
        source: None: the model and dataset that the settings name.

    Raises:
        ConfigError: the folder is a file, or `data.name=none` with settings that need images.
    """
    config = without_data(config)
    path = Path(config.run.folder) / config.run.name
    if path.exists() and not path.is_dir():
        raise ConfigError(f"run folder {path} is a file; choose another run.name")
    path.mkdir(parents=True, exist_ok=True)
    save_config(config, path / "config.yaml")
    return Context(config, RunFolder(path), progress, source or ConfiguredSource(config))


def run_until(context: Context, stages: Sequence[Stage], last: str) -> None:
    """Run what `last` needs, in order, skipping what is up to date.

    Raises:
        ConfigError: no stage is called `last`.
    """
    if last not in (names := [stage.name for stage in stages]):
        raise ConfigError(f"unknown stage {last!r}; stages: {', '.join(names)}")
    stages = _needed(context.config, stages, last)
    by_name = {stage.name: stage for stage in stages}
    writer = {output: stage for stage in stages for output in stage.outputs}
    wanted: set[str] = set()
    pending = [last]
    while pending:
        name = pending.pop()
        wanted.add(name)
        pending += [writer[file].name for file in by_name[name].reads]
    for stage in stages:
        if stage.name in wanted:
            _run_stage(context, stage)


def _needed(config: Config, stages: Sequence[Stage], last: str) -> list[Stage]:
    """The stages that settings ask for, reading only what these write."""
    wanted = [stage for stage in stages if stage.name == last or stage.needed(config)]
    written = {output for stage in wanted for output in stage.outputs}
    return [
        dataclasses.replace(stage, reads=tuple(f for f in stage.reads if f in written))
        for stage in wanted
    ]


def _run_stage(context: Context, stage: Stage) -> None:
    key = _stage_key(context, stage)
    if context.folder.is_current(stage.name, key):
        context.progress.skipped(stage.name)
        return
    start = time.perf_counter()
    context.progress.started(stage.name, stage.title)
    summary = stage.function(context)
    seconds = time.perf_counter() - start
    context.folder.finish(stage.name, key, stage.outputs, seconds)
    context.progress.finished(stage.name, summary, seconds)


def _stage_key(context: Context, stage: Stage) -> str:
    settings = {name: dataclasses.asdict(getattr(context.config, name)) for name in stage.sections}
    inputs = {file: digest(context.folder.file(file)) for file in stage.reads}
    parts = {
        "stage": stage.name,
        "version": stage.version,
        "settings": settings,
        "inputs": inputs,
        # What a stage reads besides files of the run folder.
        "files": _named_files(context, stage),
        "source": context.source.identity() if "data" in stage.sections else None,
        "runtime": runtime_c.digest() if stage.runtime else None,
    }
    return key_of(parts)


def _named_files(context: Context, stage: Stage) -> dict[str, str]:
    """Digests of the user's files that the settings name, FILE or FILE:FUNCTION.

    The stage itself says if one is gone.
    """
    values = {}
    for name in stage.files:
        section, key = name.split(".")
        value = getattr(getattr(context.config, section), key)
        file = Path(str(value).partition(":")[0])
        if value is not None and file.is_file():
            values[name] = digest(file)
    return values
