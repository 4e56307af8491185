"""The stages of a run, in order: each is one arrow of the architecture's picture.

Two paths lead from the trained network to the pruned one: the scheduler's, and that of a pruning
mode with a rule of its own. From there on they are the same.
"""

from __future__ import annotations

from dtmm.config import Config
from dtmm.errors import ConfigError
from dtmm.pipeline import device_stages, prune_stages
from dtmm.pipeline.engine import Stage
from dtmm.pipeline.scheduling import SCHEDULED_MODES, measures_sensitivity


def _scheduled(config: Config) -> bool:
    return config.prune.mode in SCHEDULED_MODES


STAGES: tuple[Stage, ...] = (
    Stage(
        name="network",
        title="read the trained network",
        reads=(),
        sections=("model", "data"),
        outputs=("network.dtmm",),
        function=prune_stages.network,
    ),
    Stage(
        name="importance",
        title="score filters and filterlets on training batches",
        reads=("network.dtmm",),
        sections=("data", "importance"),
        outputs=("importance.dtmm",),
        function=prune_stages.importance,
        needed=_scheduled,
    ),
    Stage(
        name="sensitivity",
        title="measure what pruning each layer alone costs",
        reads=("network.dtmm", "importance.dtmm"),
        sections=("data", "table", "sensitivity"),
        outputs=("sensitivity.csv",),
        function=prune_stages.sensitivity,
        needed=lambda config: _scheduled(config) and measures_sensitivity(config),
    ),
    Stage(
        name="profile",
        title="measure the latency table on the device",
        reads=("network.dtmm",),
        sections=("table", "device"),
        outputs=("latency.csv", "code_size.csv"),
        function=device_stages.profile,
        files=("table.cost_model",),
        runtime=True,
        needed=_scheduled,
    ),
    Stage(
        name="rounds",
        title="prune and tune in rounds, all but the last",
        reads=(
            "network.dtmm",
            "importance.dtmm",
            "sensitivity.csv",
            "latency.csv",
            "code_size.csv",
        ),
        sections=(
            "data",
            "importance",
            "prune",
            "table",
            "sensitivity",
            "budget",
            "schedule",
            "finetune",
        ),
        outputs=("rounds",),
        function=prune_stages.rounds,
        files=("schedule.sensitivity",),
        runtime=True,
        needed=lambda config: _scheduled(config) and config.finetune.rounds > 1,
    ),
    Stage(
        name="schedule",
        title="choose every layer's filters and filterlets",
        reads=(
            "network.dtmm",
            "importance.dtmm",
            "sensitivity.csv",
            "latency.csv",
            "code_size.csv",
            "rounds",
        ),
        sections=("data", "prune", "table", "budget", "schedule"),
        outputs=(
            "problem.dtmm",
            "schedule.dtmm",
            "selection.dtmm",
            "layers.csv",
            "pool.csv",
            "pruned.dtmm",
        ),
        function=prune_stages.schedule,
        files=("schedule.sensitivity",),
        runtime=True,
        needed=_scheduled,
    ),
    Stage(
        name="prune",
        title="prune by the rule of prune.mode",
        reads=("network.dtmm",),
        sections=("data", "prune", "budget"),
        outputs=("pruned.dtmm",),
        function=prune_stages.prune,
        runtime=True,
        needed=lambda config: not _scheduled(config),
    ),
    Stage(
        name="finetune",
        title="fine-tune what pruning left",
        reads=("network.dtmm", "pruned.dtmm"),
        sections=("data", "finetune"),
        outputs=("tuned.dtmm",),
        function=prune_stages.finetune,
    ),
    Stage(
        name="quantize",
        title="quantize the dense and the pruned network to int8",
        reads=("network.dtmm", "pruned.dtmm", "tuned.dtmm"),
        sections=("data", "quantize"),
        outputs=(
            "dense_int8.dtmm",
            "pruned_int8.dtmm",
            "dense_quantization.csv",
            "quantization.csv",
        ),
        function=prune_stages.quantize,
        version=2,
    ),
    Stage(
        name="deploy",
        title="plan the memory and write the C projects",
        reads=(
            "network.dtmm",
            "tuned.dtmm",
            "dense_int8.dtmm",
            "pruned_int8.dtmm",
            "pruned.dtmm",
        ),
        sections=("deploy",),
        outputs=("dense_deployment.dtmm", "deployment.dtmm", "dense_project", "project"),
        function=device_stages.deploy,
        runtime=True,
    ),
    Stage(
        name="export",
        title="write .tflite files and run them in other people's interpreters",
        reads=("pruned_int8.dtmm", "schedule.dtmm"),
        sections=("model", "data", "prune"),
        outputs=("tflite",),
        function=device_stages.export,
        runtime=True,
    ),
    Stage(
        name="run",
        title="run both networks on the device and compare every byte",
        reads=("dense_deployment.dtmm", "deployment.dtmm", "problem.dtmm", "schedule.dtmm"),
        sections=("data", "device"),
        outputs=(
            "dense_measurement.dtmm",
            "measurement.dtmm",
            "evaluation.json",
            "memory.json",
        ),
        function=device_stages.run,
        runtime=True,
    ),
    Stage(
        name="report",
        title="write the report",
        reads=(
            "network.dtmm",
            "tuned.dtmm",
            "latency.csv",
            "layers.csv",
            "schedule.dtmm",
            "dense_quantization.csv",
            "quantization.csv",
            "pool.csv",
            "deployment.dtmm",
            "dense_measurement.dtmm",
            "measurement.dtmm",
            "evaluation.json",
            "tflite",
            "memory.json",
        ),
        sections=("run", "model", "data", "prune", "table", "budget", "device"),
        outputs=("report.json", "report.html"),
        function=device_stages.report,
    ),
)
"""Of both paths; what a stage reads and nobody on its path writes, it does without."""

SCHEDULER_PATH = ("importance", "sensitivity", "profile", "rounds", "schedule")
OWN_RULE_PATH = ("prune",)
"""Stages that are on one path alone."""


def stages(config: Config) -> tuple[Stage, ...]:
    """The stages of a run with these settings.

    Raises:
        ConfigError: unknown `prune.mode`.
    """
    mode = config.prune.mode
    absent: tuple[str, ...] = OWN_RULE_PATH
    if not _scheduled(config):
        from dtmm.pruning.modes import OWN_RULE

        if mode not in OWN_RULE:
            known = ", ".join((*SCHEDULED_MODES, *OWN_RULE))
            raise ConfigError(f"unknown pruning mode prune.mode={mode}; known: {known}")
        if config.finetune.rounds > 1:
            raise ConfigError(
                f"finetune.rounds={config.finetune.rounds} needs a mode that the scheduler decides "
                f"({', '.join(SCHEDULED_MODES)}), prune.mode is {mode}"
            )
        absent = SCHEDULER_PATH
    return tuple(stage for stage in STAGES if stage.name not in absent)
