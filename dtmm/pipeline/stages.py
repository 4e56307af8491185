"""The stages of a run, in order: each is one arrow of the architecture's picture."""

from __future__ import annotations

from dtmm.pipeline import device_stages, prune_stages
from dtmm.pipeline.engine import Stage

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
    ),
    Stage(
        name="schedule",
        title="choose every layer's filters and filterlets",
        reads=("network.dtmm", "importance.dtmm", "latency.csv", "code_size.csv"),
        sections=("table", "budget", "schedule"),
        outputs=("problem.dtmm", "schedule.dtmm", "selection.dtmm", "layers.csv"),
        function=prune_stages.schedule,
        files=("schedule.sensitivity",),
        runtime=True,
    ),
    Stage(
        name="finetune",
        title="remove what the schedule drops and fine-tune what stays",
        reads=("network.dtmm", "selection.dtmm"),
        sections=("data", "finetune"),
        outputs=("tuned.dtmm",),
        function=prune_stages.finetune,
    ),
    Stage(
        name="quantize",
        title="quantize the dense and the pruned network to int8",
        reads=("network.dtmm", "tuned.dtmm"),
        sections=("data", "quantize"),
        outputs=("dense_int8.dtmm", "pruned_int8.dtmm"),
        function=prune_stages.quantize,
    ),
    Stage(
        name="deploy",
        title="plan the memory and write the C projects",
        reads=(
            "network.dtmm",
            "tuned.dtmm",
            "dense_int8.dtmm",
            "pruned_int8.dtmm",
            "schedule.dtmm",
        ),
        sections=(),
        outputs=("dense_deployment.dtmm", "deployment.dtmm", "dense_project", "project"),
        function=device_stages.deploy,
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
            "deployment.dtmm",
            "dense_measurement.dtmm",
            "measurement.dtmm",
            "evaluation.json",
            "memory.json",
        ),
        sections=("run", "model", "data", "table", "budget", "device"),
        outputs=("report.json", "report.html"),
        function=device_stages.report,
    ),
)
