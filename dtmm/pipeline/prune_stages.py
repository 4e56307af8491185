"""Stages on the float network: read, score, schedule, fine-tune, quantize.

Imports stand inside the functions where they pull in torch: the command line must answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from dtmm.pipeline import files
from dtmm.pipeline.data_free import FILE_RANGES, NO_DATA
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


def sensitivity(context: Context) -> str:
    """sensitivity.csv: measured losses of pruning one channel group or convolution alone."""
    from dtmm.network.ir import Network
    from dtmm.pipeline.scheduling import levels
    from dtmm.pruning.importance import Importance
    from dtmm.pruning.sensitivity_measure import measure_sensitivity

    with context.progress.bar("groups and convolutions") as bar:
        found = measure_sensitivity(
            files.load(context, "network.dtmm", Network),
            files.load(context, "importance.dtmm", Importance),
            levels(context.config),
            context.source.dataset,
            context.config.sensitivity,
            context.folder.file("sensitivity.jsonl"),
            bar,
        )
    found.save(context.folder.file("sensitivity.csv"))
    curves = [*found.groups.values(), *found.convs.values()]
    measured = sum(len(curve.kept) for curve in curves)
    return f"{measured} losses of {len(curves)} units on {found.provenance['images']} images"


def rounds(context: Context) -> str:
    """rounds/: the network after all rounds of pruning and tuning but the last, in its original
    shapes, its scores and what it keeps; rounds.csv: each round's limits and schedule."""
    from dtmm.pipeline.rounds import run_rounds

    return run_rounds(context)


def schedule(context: Context) -> str:
    """problem, schedule, selection and pruned.dtmm: what stays, proven within the gap; pool.csv:
    the schedules that were measured, and which was taken; layers.csv: its layers measured with what
    they really keep, beside what the table says."""
    from dtmm.latency.code_size import CodeSize
    from dtmm.latency.table import LatencyTable
    from dtmm.pipeline.choosing import choose, last_start
    from dtmm.pipeline.remeasure import Choice, measure_and_correct, save_checks
    from dtmm.pruning.equivalence import CHECKED_IMAGES, require_equal_outputs
    from dtmm.pruning.modes import Pruned
    from dtmm.pruning.removal import remove
    from dtmm.table import write_table

    table = LatencyTable.load(context.folder.file("latency.csv"))
    code = CodeSize.load(context.folder.file("code_size.csv"))
    config, dataset, start = context.config, context.source.dataset, last_start(context)
    source = start.network
    rankings = []

    def chosen(factors: Mapping[str, float]) -> Choice:
        """With the layers of the table corrected."""
        choice, ranking = choose(context, config, start, table, code, factors)
        rankings.append(ranking)
        return choice

    result = measure_and_correct(chosen, source, start.importance, table, config.table)
    found, selection, rounds = result.schedule, result.selection, result.plans
    ranking = rankings[-1]
    taken = int(ranking["taken"].to_numpy().argmax())
    about = {"images": config.schedule.pool_images, "unit": "cycles, bytes, nats"}
    write_table(context.folder.file("pool.csv"), ranking, about)
    files.save(context, "problem.dtmm", result.problem)
    files.save(context, "schedule.dtmm", found)
    files.save(context, "selection.dtmm", selection)
    save_checks(context.folder.file("layers.csv"), result, table.provenance)
    removed = remove(source, selection)
    some = dataset.to_input(dataset.train_images[:CHECKED_IMAGES])
    require_equal_outputs(source, selection, removed, some)
    files.save(context, "pruned.dtmm", Pruned(removed, found.kernels))
    if config.budget.max_loss is None and result.problem.budgets.loss == 0:
        context.progress.line(
            "the whole network fits: nothing that matters is pruned; give smaller budgets of flash "
            "or SRAM, or --max-loss to prune for latency"
        )
    unit = "nats" if dataset.name != NO_DATA else "shares of layers' weights"
    again = f", after {rounds} rounds (the real arena plan broke the SRAM budget)"
    if len(ranking) > 1:
        losses = ranking["measured_loss"]
        context.progress.line(
            f"schedule {taken + 1} of {len(ranking)} is taken: loss {losses[taken]:.3f} nats after "
            f"batch normalization is re-estimated, the others {losses.drop(taken).min():.3f} to "
            f"{losses.drop(taken).max():.3f}"
        )
    return (
        f"{found.latency / 1e6:.2f} Mcycles, {found.flash / 1024:.1f} KiB flash, "
        f"{found.sram / 1024:.1f} KiB SRAM, {found.loss:.3f} {unit}; gap {100 * found.gap:.4f} % "
        f"({found.status}, {found.solver}, {found.seconds:.1f} s){again if rounds > 1 else ''}"
        f"{result.sentence()}"
    )


def prune(context: Context) -> str:
    """pruned.dtmm: what the rule of prune.mode leaves within budget.flash."""
    from dtmm.latency.code_size import measure_code_size
    from dtmm.network.ir import Network
    from dtmm.pipeline.own_rule import stored_budget
    from dtmm.pruning.modes import own_rule
    from dtmm.pruning.modes.base import stored_bytes

    source = files.load(context, "network.dtmm", Network)
    settings = context.config.prune
    budget = stored_budget(context.config, source, measure_code_size())
    with context.progress.bar("steps") as bar:
        pruned = own_rule(settings.mode)(source, context.source.dataset, budget, settings, bar)
    files.save(context, "pruned.dtmm", pruned)
    return f"{settings.mode}: {stored_bytes(pruned):,} of at most {budget:,} B are stored"


def finetune(context: Context) -> str:
    """tuned.dtmm: the physically smaller network, fine-tuned with its masks held."""
    from dtmm.network.ir import Network
    from dtmm.pruning.modes import Pruned
    from dtmm.training.executor import Executor
    from dtmm.training.finetune import finetune as tune
    from dtmm.training.masks import filterlet_masks
    from dtmm.training.tasks import task_of

    source = files.load(context, "network.dtmm", Network)
    pruned = files.load(context, "pruned.dtmm", Pruned)
    dataset = context.source.dataset
    checkpoint = context.folder.file("finetune.pt")  # a killed run goes on from here
    with context.progress.bar("steps") as bar:
        tuned = tune(
            pruned.network,
            dataset,
            context.config.finetune,
            teacher=source,
            progress=bar,
            masks={**filterlet_masks(pruned.network), **pruned.masks},
            checkpoint=checkpoint,
        )
    files.save(context, "tuned.dtmm", tuned)
    checkpoint.unlink(missing_ok=True)
    task = task_of(dataset)
    share = task.score(Executor(tuned), dataset)
    if dataset.name == NO_DATA:
        return f"no images: nothing to tune; {100 * share:.2f} % of random images decided as before"
    return f"{100 * share:.2f} % test {task.measure_words} in float"


def quantize(context: Context) -> str:
    """dense_int8.dtmm, pruned_int8.dtmm: both networks in int8 by the same settings;
    dense_quantization.csv, quantization.csv: what that costs each of their tensors."""
    from dtmm.network.fold import fold
    from dtmm.network.ir import Network
    from dtmm.pruning.modes import Pruned
    from dtmm.quantization import quantize as quantize_folded
    from dtmm.quantization.error import save_errors
    from dtmm.training.int8 import Int8, calibration_images, int8_errors, to_int8
    from dtmm.training.masks import filterlet_masks

    dataset, settings = context.source.dataset, context.config.quantize
    images = calibration_images(dataset, settings)[:ERROR_IMAGES]
    worst = {}
    gone = files.load(context, "pruned.dtmm", Pruned).masks
    for source, prefix, single in (("network.dtmm", "dense_", {}), ("tuned.dtmm", "", gone)):
        network = files.load(context, source, Network)
        masks = {**filterlet_masks(network), **single}
        if settings.ranges == FILE_RANGES:
            folded = fold(network)
            made = Int8(quantize_folded(folded, context.source.ranges()), folded)
        else:
            with context.progress.bar("steps") as bar:
                made = to_int8(network, dataset, settings, bar, masks)
        files.save(context, f"{prefix or 'pruned_'}int8.dtmm", made.network)
        errors = int8_errors(made, images)
        save_errors(context.folder.file(f"{prefix}quantization.csv"), errors, len(images))
        worst[prefix] = min(errors, key=lambda error: error.sqnr_db)
    origin = f"{settings.calibration_images} training images"
    if settings.ranges == FILE_RANGES:
        origin = "the int8 network that was read"
    return (
        f"activation ranges ({settings.ranges}) from {origin}"
        f"{f', {settings.qat_epochs} epochs of training' if settings.qat_epochs else ''}; noisiest "
        f"tensor {worst[''].tensor}, {worst[''].sqnr_db:.1f} dB"
    )
