"""The report dictionary of a finished run, and what a single stage prints as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from dtmm.deploy import Deployment, Measurement
from dtmm.latency.table import LatencyTable
from dtmm.network.ir import Network
from dtmm.pipeline import files
from dtmm.pipeline.engine import Context
from dtmm.pruning.counts import kept_counts
from dtmm.scheduler import Schedule
from dtmm.table import read_table


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
    found = files.load(context, "schedule.dtmm", Schedule)
    table = LatencyTable.load(context.folder.file("latency.csv"))
    evaluation = json.loads(context.folder.file("evaluation.json").read_text())
    dataset = context.source.dataset
    return {
        "name": config.run.name,
        "model": config.model.name,
        "dataset": dataset.name,
        "test_images": len(dataset.test_labels),
        "device_images": len(ours.outputs),
        "clock_mhz": config.device.clock_mhz,
        "dense": _system(dense, evaluation["dense"]["accuracy"], config.device.clock_mhz),
        "dtmm": _system(ours, evaluation["dtmm"]["accuracy"], config.device.clock_mhz),
        "bit_exact": all(system["bit_exact"] for system in evaluation.values()),
        "schedule": _schedule(context, found, ours),
        "layers": _layers(context, found),
        "quantization": {
            system: _quantization(context, f"{prefix}quantization.csv")
            for system, prefix in (("dense", "dense_"), ("dtmm", ""))
        },
        "memory": {
            "steps": _memory(deployment),
            **json.loads(context.folder.file("memory.json").read_text()),
        },
        "provenance": {
            **ours.provenance,
            "memory_map_dense": dense.provenance["memory_map"],
            "dataset_sha256": dataset.hash,
            "latency_table": f"{len(table.costs)} points, {table.provenance['patterns']}, "
            f"seed {table.provenance['pattern_seed']}",
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


def _schedule(context: Context, found: Schedule, measured: Measurement) -> dict[str, Any]:
    budget = context.config.budget
    return {
        "objective": found.objective,
        "bound": found.bound,
        "gap": found.gap,
        "status": found.status,
        "solver": found.solver,
        "seconds": found.seconds,
        "loss": found.loss,
        "budgets": {"flash": budget.flash, "sram": budget.sram, "max_loss": budget.max_loss},
        "predicted": {"cycles": found.latency, "flash": found.flash, "sram": found.sram},
        "measured": {
            "cycles": measured.cycles,
            "flash": sum(measured.flash.values()),
            "sram": sum(measured.sram.values()),
        },
    }


def _layers(context: Context, found: Schedule) -> list[dict[str, Any]]:
    before = files.load(context, "network.dtmm", Network)
    after = files.load(context, "tuned.dtmm", Network)
    return [
        {
            "name": counts.name,
            "kernel": found.kernels[counts.name],
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
