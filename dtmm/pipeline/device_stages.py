"""Stages that touch the device: latency table, C projects, running both networks, the report."""

from __future__ import annotations

import json
from functools import partial

from dtmm.errors import ConfigError
from dtmm.pipeline import files
from dtmm.pipeline.engine import Context

EXPORT_IMAGES = 4
"""Test images that a .tflite file is tried on in other interpreters."""

MEASURES = "qemu"
"""The device of a run's stages; `dtmm profile MODEL --device NAME` shows others."""


def _require_device(context: Context) -> None:
    name = context.config.device.name
    if name != MEASURES:
        raise ConfigError(
            f"device.name={name!r}: a run is measured on {MEASURES!r} alone; afterwards "
            f"`dtmm profile {context.config.run.name} --device {name}` profiles its network there"
        )


def profile(context: Context) -> str:
    """latency.csv: what the cost model says of every point the scheduler can ask for, measured
    unless the settings say otherwise; latency_fit.csv: the prices of a fitted model; code_size.csv.
    """
    from dtmm.latency.code_size import measure_code_size
    from dtmm.latency.cost_models import make_cost_model, tabulate
    from dtmm.latency.fitted import FittedModel
    from dtmm.latency.measure import measure_points
    from dtmm.network.fold import fold
    from dtmm.network.ir import Network
    from dtmm.pipeline.scheduling import levels
    from dtmm.planning import layout, required_points

    _require_device(context)
    folded = fold(files.load(context, "network.dtmm", Network))
    points = required_points(folded, layout(folded), levels(context.config))
    settings = context.config.table
    with context.progress.bar("points") as bar:
        measure = partial(
            measure_points,
            store=context.folder.file("latency.jsonl"),
            seed=settings.seed,
            progress=bar,
            cycle_model=settings.cycle_model,
        )
        model = make_cost_model(settings.cost_model, points, measure)
        table = tabulate(settings.cost_model, model, points)
    table.save(context.folder.file("latency.csv"))
    if isinstance(model, FittedModel):
        model.save(context.folder.file("latency_fit.csv"))
    measure_code_size().save(context.folder.file("code_size.csv"))
    how = "".join(
        f", {words}{table.provenance[key]}"
        for key, words in (
            ("cycle_model", ""),
            ("fit_points", "fitted to "),
            ("fit_mean_error", "mean error "),
            ("fit_worst_error", "worst error "),
        )
        if key in table.provenance
    )
    return f"{len(table.costs):,} points, {settings.cost_model}{how}"


def deploy(context: Context) -> str:
    """Deployments and C projects of the dense and the pruned network."""
    from dtmm.deploy import plan, write_project
    from dtmm.network.fold import fold
    from dtmm.network.ir import Conv2D, Network
    from dtmm.planning import layout
    from dtmm.pruning.lossless import pack, require_equal_bytes
    from dtmm.pruning.modes import Pruned
    from dtmm.quantization import QuantizedNetwork
    from dtmm.quantization.dequantize import dequantize
    from dtmm.storage.kernel_ids import CONV_CSR, CONV_FKW

    dense = files.load(context, "dense_int8.dtmm", QuantizedNetwork)
    place = layout(fold(files.load(context, "network.dtmm", Network)))
    dense_deployment = plan(dense, place)
    pruned = files.load(context, "pruned_int8.dtmm", QuantizedNetwork)
    place = layout(fold(files.load(context, "tuned.dtmm", Network)))
    kernels = files.load(context, "pruned.dtmm", Pruned).kernels
    packed = pack(pruned)
    if packed is not pruned:  # channels that no output byte depends on: other counts than scheduled
        require_equal_bytes(pruned, packed)
        place = layout(dequantize(packed))
        kernels = {name: k for name, k in kernels.items() if k in (CONV_CSR, CONV_FKW)}
    ours = plan(packed, place, kernels)
    files.save(context, "dense_deployment.dtmm", dense_deployment)
    files.save(context, "deployment.dtmm", ours)
    form = context.config.deploy.layout
    write_project(dense_deployment, context.folder.file("dense_project"), form)
    write_project(ours, context.folder.file("project"), form)
    convs = [op for op in packed.ops if isinstance(op, Conv2D)]
    sparse = sum(bool((packed.params[op.weight] == 0).all(axis=3).any()) for op in convs)
    gone = sum(len(pruned.params[op.weight]) - len(packed.params[op.weight]) for op in convs)
    dead = f"; {gone} filters without effect left out" if gone else ""
    return (
        f"{ours.size.total / 1024:.1f} KiB of weights, index and parameters (dense: "
        f"{dense_deployment.size.total / 1024:.1f}); {sparse} of {len(convs)} convolutions lack "
        f"filterlets{dead}"
    )


def export(context: Context) -> str:
    """tflite/: the pruned network as standard and as compressed .tflite, and checks.json."""
    import dataclasses
    import shutil

    from dtmm.artifact import write_atomic
    from dtmm.errors import ToolchainError
    from dtmm.pipeline.export import describe, export_tflite
    from dtmm.pipeline.scheduling import SCHEDULED_MODES
    from dtmm.quantization import QuantizedNetwork, quantize_input
    from dtmm.scheduler import Schedule

    network = files.load(context, "pruned_int8.dtmm", QuantizedNetwork)
    dataset = context.source.dataset
    images = quantize_input(network, dataset.to_input(dataset.test_images[:EXPORT_IMAGES]))
    folder = context.folder.file("tflite")
    shutil.rmtree(folder, ignore_errors=True)
    named = dataclasses.replace(network, name=context.config.model.name)
    scheduled = context.config.prune.mode in SCHEDULED_MODES
    schedule = files.load(context, "schedule.dtmm", Schedule) if scheduled else None
    try:
        made = export_tflite(named, folder, images, schedule)
        checks, summary = dict(made.checks), describe(made)
    except ToolchainError as error:  # no file without the extra: the C project needs none
        checks, summary = {"not written": str(error)}, str(error)
    write_atomic(folder / "checks.json", json.dumps(checks, indent=1) + "\n")
    return summary


def run(context: Context) -> str:
    """Measurements of both networks; evaluation.json: accuracy, and whether all bytes agree;
    memory.json: flash and SRAM as scheduled, planned and measured."""
    from dtmm.artifact import write_atomic
    from dtmm.pipeline.evaluation import evaluate

    _require_device(context)
    results = {}
    for system, prefix in (("dense", "dense_"), ("dtmm", "")):
        results[system] = evaluate(context, f"{prefix}deployment.dtmm", f"{prefix}measurement.dtmm")
    write_atomic(context.folder.file("evaluation.json"), json.dumps(results, indent=1) + "\n")
    _check_memory(context)
    images = results["dtmm"]["images_compared"]
    return (
        f"dense {100 * results['dense']['accuracy']:.2f} %, "
        f"DTMM {100 * results['dtmm']['accuracy']:.2f} %; every output "
        f"byte of {images} images is equal on device, host and reference"
    )


def _check_memory(context: Context) -> None:
    """memory.json; says nothing of a run without a schedule, which predicts nothing."""
    from dtmm.artifact import write_atomic
    from dtmm.deploy import Deployment, Measurement
    from dtmm.pipeline.memory_check import check_memory
    from dtmm.pipeline.scheduling import SCHEDULED_MODES
    from dtmm.scheduler import Problem, Schedule

    if context.config.prune.mode not in SCHEDULED_MODES:
        write_atomic(context.folder.file("memory.json"), "{}\n")
        return
    memory = check_memory(
        files.load(context, "problem.dtmm", Problem),
        files.load(context, "schedule.dtmm", Schedule),
        files.load(context, "deployment.dtmm", Deployment),
        files.load(context, "measurement.dtmm", Measurement),
    )
    write_atomic(context.folder.file("memory.json"), json.dumps(memory.to_dict(), indent=1) + "\n")
    for sentence in memory.sentences():
        context.progress.line(sentence)


def report(context: Context) -> str:
    """report.json and report.html."""
    from dtmm.artifact import write_atomic
    from dtmm.pipeline.summary import build_report
    from dtmm.report.html import render

    content = build_report(context)
    write_atomic(context.folder.file("report.json"), json.dumps(content, indent=1) + "\n")
    write_atomic(context.folder.file("report.html"), render(content))
    return str(context.folder.file("report.html"))
