"""The report dictionary of a finished run, and what a single stage prints as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from dtmm.deploy import Deployment, Measurement
from dtmm.latency.measure import CYCLE_MODEL
from dtmm.latency.table import LatencyTable
from dtmm.network.ir import Network
from dtmm.pipeline import files
from dtmm.pipeline.data_free import NO_DATA
from dtmm.pipeline.engine import Context
from dtmm.pipeline.remeasure import LIMIT, load_checks
from dtmm.pipeline.scheduling import SCHEDULED_MODES
from dtmm.pipeline.tradeoff import tradeoff
from dtmm.pruning.counts import kept_counts
from dtmm.scheduler import Problem, Schedule
from dtmm.table import read_table
from dtmm.training.tasks import task_of


def stage_summary(context: Context, stage: str) -> dict[str, Any]:
    """Where a finished stage's outputs lie and how long it took."""
    record = context.folder.records()[stage]
    return {
        "stage": stage,
        "run": str(context.folder.path),
        "outputs": [str(context.folder.file(name)) for name in record.outputs],
        "seconds": round(record.seconds, 3),
    }


def build_report(context: Context) -> dict[str, Any]:
    """Everything a run found, as JSON values; sizes in bytes, losses in nats, times as named."""
    config = context.config
    dense = files.load(context, "dense_measurement.dtmm", Measurement)
    ours = files.load(context, "measurement.dtmm", Measurement)
    deployment = files.load(context, "deployment.dtmm", Deployment)
    scheduled = config.prune.mode in SCHEDULED_MODES
    table = LatencyTable.load(context.folder.file("latency.csv")) if scheduled else None
    evaluation = json.loads(context.folder.file("evaluation.json").read_text())
    dataset = context.source.dataset
    return {
        "name": config.run.name,
        "model": config.model.name,
        "dataset": dataset.name,
        "measure": task_of(dataset).measure_words,
        "test_images": len(dataset.test_targets),
        "device_images": len(ours.outputs),
        "clock_mhz": config.device.clock_mhz,
        "dense": _system(dense, evaluation["dense"]["accuracy"], config.device.clock_mhz),
        "dtmm": _system(ours, evaluation["dtmm"]["accuracy"], config.device.clock_mhz),
        "bit_exact": all(system["bit_exact"] for system in evaluation.values()),
        "mode": config.prune.mode,
        "schedule": _schedule(context, ours) if scheduled else None,
        "pool": _pool(context) if scheduled and dataset.name != NO_DATA else None,
        "tradeoff": _tradeoff(context) if scheduled else None,
        "table_check": _table_check(context, ours) if scheduled else None,
        "layers": (layers := _layers(context, deployment.kernels)),
        "dead_filters": sum(layer["dead_filters"] for layer in layers),
        "quantization": {
            system: _quantization(context, f"{prefix}quantization.csv")
            for system, prefix in (("dense", "dense_"), ("dtmm", ""))
        },
        "memory": {"steps": _memory(deployment), **_memory_check(context, scheduled)},
        "provenance": {
            **ours.provenance,
            "memory_map_dense": dense.provenance["memory_map"],
            "dataset_sha256": dataset.hash,
            "latency_table": None if table is None else _table_words(table),
            "counted_images": ours.counted_images,
        },
        "stage_seconds": {
            stage: round(record.seconds, 2) for stage, record in context.folder.records().items()
        },
    }


def _system(measured: Measurement, accuracy: float, clock_mhz: float) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "instructions": measured.instructions,
        "cycles": measured.cycles,
        "ms": measured.cycles / clock_mhz / 1e3,
        "flash": dict(measured.flash),
        "sram": dict(measured.sram),
        "layers": [
            {
                "name": step.name,
                "instructions": step.instructions,
                "cycles": step.cycles,
                "cached_cycles": step.cached_cycles,
                "bytes_read": step.bytes_read,
            }
            for step in measured.steps
        ],
    }


def _schedule(context: Context, measured: Measurement) -> dict[str, Any]:
    found = files.load(context, "schedule.dtmm", Schedule)
    budget = context.config.budget
    return {
        "objective": found.objective,
        "bound": found.bound,
        "gap": found.gap,
        "status": found.status,
        "solver": found.solver,
        "seconds": found.seconds,
        "loss": found.loss,
        "budgets": {
            "flash": budget.flash,
            "sram": budget.sram,
            "max_loss": budget.max_loss,
            "loss_slack": budget.loss_slack if budget.max_loss is None else None,
        },
        "predicted": {"cycles": found.latency, "flash": found.flash, "sram": found.sram},
        "measured": {
            "cycles": measured.cycles,
            "flash": sum(measured.flash.values()),
            "sram": sum(measured.sram.values()),
        },
    }


def _tradeoff(context: Context) -> dict[str, Any]:
    problem = files.load(context, "problem.dtmm", Problem)
    return tradeoff(problem, files.load(context, "schedule.dtmm", Schedule))


def _table_words(table: LatencyTable) -> str:
    """How a latency table was made, as far as it says."""
    words = [f"{len(table.costs)} points"]
    for key, prefix in (("cost_model", ""), ("patterns", ""), ("pattern_seed", "seed ")):
        if key in table.provenance:
            words.append(f"{prefix}{table.provenance[key]}")
    return ", ".join(words)


def _table_check(context: Context, measured: Measurement) -> dict[str, Any] | None:
    """The table against the layers with what they keep, and their sum against the network's steps.

    None where `table.corrections` is 0.
    """
    checks, header = load_checks(context.folder.file("layers.csv"))
    if not checks:
        return None
    settings = context.config.table
    told = sum(check.predicted for check in checks)
    cached = settings.cycle_model != CYCLE_MODEL
    cycles = [step.cached_cycles if cached else step.cycles for step in measured.steps]
    whole = None if None in cycles else sum(each for each in cycles if each is not None)
    return {
        "cost_model": settings.cost_model,
        "cycle_model": settings.cycle_model,
        "limit": LIMIT,
        "first_off": header["first_off"],
        "corrections": int(header["corrections"]),
        "schedules_changed": int(header["schedules_changed"]),
        "table_cycles": sum(check.table for check in checks),
        "predicted_cycles": told,
        "remeasured_cycles": sum(check.measured for check in checks),
        "network_cycles": whole,
        "network_error": None if whole is None else told / whole - 1,
        "layers": [{**asdict(check), "off": check.off} for check in checks],
    }


def _memory_check(context: Context, scheduled: bool) -> dict[str, Any]:
    """Flash and SRAM as scheduled, planned and measured; nothing to compare without a schedule."""
    if not scheduled:
        return {"parts": [], "sentences": []}
    found: dict[str, Any] = json.loads(context.folder.file("memory.json").read_text())
    return found


def _pool(context: Context) -> dict[str, Any]:
    """The candidates, best first, and the number (from 1) of the one that was taken."""
    ranking, provenance = read_table(context.folder.file("pool.csv"))
    taken = int(ranking["taken"].to_numpy().argmax())
    return {
        "taken": taken + 1,
        "measured_loss": float(ranking["measured_loss"][taken]),
        "images": int(provenance["images"]),
        "schedules": json.loads(ranking.to_json(orient="records")),
    }


def _layers(context: Context, kernels: Mapping[str, str]) -> list[dict[str, Any]]:
    before = files.load(context, "network.dtmm", Network)
    after = files.load(context, "tuned.dtmm", Network)
    return [
        {
            "name": counts.name,
            "kernel": kernels[counts.name],
            "channels": counts.original_channels,
            "channels_kept": counts.channels,
            "filterlets": counts.original_filterlets,
            "filterlets_kept": counts.filterlets,
            "weights": counts.original_weights,
            "weights_kept": counts.weights,
            "dead_filters": counts.dead_filters,
        }
        for counts in kept_counts(before, after)
    ]


def _quantization(context: Context, name: str) -> list[dict[str, Any]]:
    """A line per tensor; a ratio without any error is None, JSON has no infinity."""
    table, _ = read_table(context.folder.file(name))
    columns = ["tensor", "layer", "sqnr_db", "weight_sqnr_db", "clipped"]
    finite = table[columns].replace([np.inf, -np.inf], np.nan).astype(object)
    lines: list[dict[str, Any]] = finite.where(finite.notna(), None).to_dict("records")
    return lines


def _memory(deployment: Deployment) -> list[Mapping[str, Any]]:
    buffers = deployment.layout.buffers
    return [
        {
            "op": step.op,
            "live": sum(buffers[name].bytes(buffers[name].channels) for name in step.live),
            "scratch": deployment.scratch.get(step.op, 0),
        }
        for step in deployment.layout.steps
    ]
