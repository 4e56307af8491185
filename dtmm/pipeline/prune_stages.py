"""Stages on the float network: read, score, schedule, fine-tune, quantize.

Imports stand inside the functions where they pull in torch: the command line must answer at once.
"""

from __future__ import annotations

from dtmm.pipeline import files
from dtmm.pipeline.engine import Context


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
    """problem.dtmm, schedule.dtmm, selection.dtmm: what stays, proven within the gap.

    layers.csv: its layers measured with what they really keep, beside what the table says.
    """
    from dtmm.latency.code_size import CodeSize
    from dtmm.latency.table import LatencyTable
    from dtmm.network.ir import Network
    from dtmm.pipeline.remeasure import save_checks, schedule_and_measure
    from dtmm.pruning.importance import Importance

    source = files.load(context, "network.dtmm", Network)
    scores = files.load(context, "importance.dtmm", Importance)
    table = LatencyTable.load(context.folder.file("latency.csv"))
    code = CodeSize.load(context.folder.file("code_size.csv"))
    result = schedule_and_measure(context.config, source, scores, table, code)
    found, rounds = result.schedule, result.plans
    files.save(context, "problem.dtmm", result.problem)
    files.save(context, "schedule.dtmm", found)
    files.save(context, "selection.dtmm", result.selection)
    save_checks(context.folder.file("layers.csv"), result, table.provenance)
    again = f", after {rounds} rounds (the real arena plan broke the SRAM budget)"
    return (
        f"{found.latency / 1e6:.2f} Mcycles, {found.flash / 1024:.1f} KiB flash, "
        f"{found.sram / 1024:.1f} KiB SRAM, {found.loss:.3f} nats; gap {100 * found.gap:.4f} % "
        f"({found.status}, {found.solver}, {found.seconds:.1f} s){again if rounds > 1 else ''}"
        f"{result.sentence()}"
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
    """dense_int8.dtmm, pruned_int8.dtmm: post-training int8 of both networks."""
    import numpy as np

    from dtmm.network.fold import fold
    from dtmm.network.ir import Network
    from dtmm.quantization import quantize as to_int8
    from dtmm.training.calibrate import activation_ranges

    dataset = context.source.dataset
    count = min(context.config.quantize.calibration_images, len(dataset.train_images))
    rng = np.random.default_rng(context.config.run.seed)
    chosen = rng.choice(len(dataset.train_images), count, replace=False)
    images = dataset.to_input(dataset.train_images[chosen])
    for source, target in (("network.dtmm", "dense_int8.dtmm"), ("tuned.dtmm", "pruned_int8.dtmm")):
        folded = fold(files.load(context, source, Network))
        files.save(context, target, to_int8(folded, activation_ranges(folded, images)))
    return f"activation ranges from {count} training images"
