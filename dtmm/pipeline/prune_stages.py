"""Stages on the float network: read, score, schedule, fine-tune, quantize.

Imports stand inside the functions where they pull in torch: the command line must answer at once.
"""

from __future__ import annotations

from dtmm.pipeline import files
from dtmm.pipeline.engine import Context

ERROR_IMAGES = 32
"""Training images on which the int8 networks are compared with their float ones."""


def network(context: Context) -> str:
    """network.dtmm: the trained float network."""
    source, summary = context.source.network()
    files.save(context, "network.dtmm", source)
    return summary


def importance(context: Context) -> str:
    """importance.dtmm: what every filter and filterlet is worth, in nats."""
    from dtmm.network.ir import Network
    from dtmm.pruning.registry import estimate_importance

    source = files.load(context, "network.dtmm", Network)
    settings = context.config.importance
    with context.progress.bar("batches") as bar:
        scores = estimate_importance(source, context.source.dataset, settings, bar)
    files.save(context, "importance.dtmm", scores)
    return f"{scores.criterion} on {scores.images} images, {scores.aggregation}"


def schedule(context: Context) -> str:
    """problem.dtmm, schedule.dtmm, selection.dtmm: what stays, proven within the gap."""
    from dtmm.latency.code_size import CodeSize
    from dtmm.latency.table import LatencyTable
    from dtmm.network.fold import fold
    from dtmm.network.ir import Network
    from dtmm.pipeline.scheduling import schedule_within_plan
    from dtmm.planning import select
    from dtmm.pruning.importance import Importance

    source = files.load(context, "network.dtmm", Network)
    scores = files.load(context, "importance.dtmm", Importance)
    table = LatencyTable.load(context.folder.file("latency.csv"))
    code = files.load(context, "code_size.dtmm", CodeSize)
    problem, found, rounds = schedule_within_plan(context.config, fold(source), scores, table, code)
    files.save(context, "problem.dtmm", problem)
    files.save(context, "schedule.dtmm", found)
    files.save(context, "selection.dtmm", select(source, scores, found))
    again = f", after {rounds} rounds (the real arena plan broke the SRAM budget)"
    return (
        f"{found.latency / 1e6:.2f} Mcycles, {found.flash / 1024:.1f} KiB flash, "
        f"{found.sram / 1024:.1f} KiB SRAM, {found.loss:.3f} nats; gap {100 * found.gap:.4f} % "
        f"({found.status}, {found.solver}, {found.seconds:.1f} s){again if rounds > 1 else ''}"
    )


def finetune(context: Context) -> str:
    """tuned.dtmm: the physically smaller network, fine-tuned with its masks held."""
    from dtmm.network.ir import Network
    from dtmm.planning import Selection
    from dtmm.pruning.removal import remove
    from dtmm.training.executor import Executor
    from dtmm.training.finetune import finetune as tune
    from dtmm.training.loop import accuracy

    source = files.load(context, "network.dtmm", Network)
    selection = files.load(context, "selection.dtmm", Selection)
    dataset = context.source.dataset
    checkpoint = context.folder.file("finetune.pt")  # a killed run goes on from here
    with context.progress.bar("steps") as bar:
        tuned = tune(
            remove(source, selection),
            dataset,
            context.config.finetune,
            teacher=source,
            progress=bar,
            checkpoint=checkpoint,
        )
    files.save(context, "tuned.dtmm", tuned)
    checkpoint.unlink(missing_ok=True)
    share = accuracy(Executor(tuned), dataset, dataset.test_images, dataset.test_labels)
    return f"{100 * share:.2f} % test accuracy in float"


def quantize(context: Context) -> str:
    """dense_int8.dtmm, pruned_int8.dtmm: both networks in int8 by the same settings;
    dense_quantization.csv, quantization.csv: what that costs each of their tensors."""
    from dtmm.network.ir import Network
    from dtmm.quantization.error import save_errors
    from dtmm.training.int8 import calibration_images, int8_errors, to_int8

    dataset, settings = context.source.dataset, context.config.quantize
    images = calibration_images(dataset, settings)[:ERROR_IMAGES]
    worst = {}
    for source, prefix in (("network.dtmm", "dense_"), ("tuned.dtmm", "")):
        with context.progress.bar("steps") as bar:
            made = to_int8(files.load(context, source, Network), dataset, settings, bar)
        files.save(context, f"{prefix or 'pruned_'}int8.dtmm", made.network)
        errors = int8_errors(made, images)
        save_errors(context.folder.file(f"{prefix}quantization.csv"), errors, len(images))
        worst[prefix] = min(errors, key=lambda error: error.sqnr_db)
    return (
        f"activation ranges ({settings.ranges}) from {settings.calibration_images} training images"
        f"{f', {settings.qat_epochs} epochs of training' if settings.qat_epochs else ''}; noisiest "
        f"tensor {worst[''].tensor}, {worst[''].sqnr_db:.1f} dB"
    )
