"""The rows of the result table, shared by the terminal and the HTML report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def comparison_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """(quantity, dense int8, DTMM, ratio or difference), formatted."""
    dense, ours = report["dense"], report["dtmm"]
    clock = report["clock_mhz"]
    judged = "test {} ({:,} images)" if has_data(report) else "as the file ({1:,} random images)"
    rows = [
        (
            judged.format(report["measure"], report["test_images"]),
            f"{100 * dense['accuracy']:.2f} %",
            f"{100 * ours['accuracy']:.2f} %",
            f"{100 * (ours['accuracy'] - dense['accuracy']):+.2f} points",
        ),
        _count("instructions per inference", dense["instructions"], ours["instructions"]),
        _count(f"cycles ({cycle_model(report)}) per inference", dense["cycles"], ours["cycles"]),
        *_cached(dense, ours),
        (
            f"ms per inference at {clock:g} MHz ({cycle_model(report)})",
            f"{dense['ms']:.2f}",
            f"{ours['ms']:.2f}",
            _ratio(dense["ms"], ours["ms"]),
        ),
    ]
    rows += [
        _bytes(f"flash: {part}", dense["flash"][part], ours["flash"][part])
        for part in ("weights", "index", "parameters", "code")
    ]
    rows.append(_bytes("flash: total", sum(dense["flash"].values()), sum(ours["flash"].values())))
    rows += [
        _bytes(f"SRAM: {part}", dense["sram"][part], ours["sram"][part])
        for part in ("arena", "scratch", "stack")
    ]
    rows.append(_bytes("SRAM: total", sum(dense["sram"].values()), sum(ours["sram"].values())))
    return rows


def title(report: Mapping[str, Any]) -> str:
    """The network, and what it was pruned on."""
    return f"{report['model']} " + (
        f"on {report['dataset']}" if has_data(report) else "without data"
    )


def has_data(report: Mapping[str, Any]) -> bool:
    """Whether the run had a dataset: without one, scores are shares of weights and not nats."""
    return bool(report["dataset"] != "none")


def cycle_model(report: Mapping[str, Any]) -> str:
    """The name of the model whose cycles the report gives, without LLVM's release."""
    return str(report["provenance"]["cycle_model"]).partition("/")[0]


def _cached(dense: Mapping[str, Any], ours: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """The sum over steps in the cached scenario, where it was measured."""
    totals = [[row["cached_cycles"] for row in system["layers"]] for system in (dense, ours)]
    if any(value is None for values in totals for value in values):
        return []
    return [_count("cycles (m55-v2), cached memory", *map(sum, totals))]


def layer_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """(layer, kernel, channels kept, filterlets kept, kilocycles dense and DTMM)."""
    dense = {row["name"]: row["cycles"] for row in report["dense"]["layers"]}
    ours = {row["name"]: row["cycles"] for row in report["dtmm"]["layers"]}
    return [
        (
            layer["name"],
            layer["kernel"].removeprefix("conv_"),
            f"{layer['channels_kept']} / {layer['channels']}",
            f"{layer['filterlets_kept']} / {layer['filterlets']}",
            f"{dense[layer['name']] / 1e3:,.0f} to {ours[layer['name']] / 1e3:,.0f}",
        )
        for layer in report["layers"]
    ]


def schedule_line(report: Mapping[str, Any]) -> str:
    """One sentence on how the schedule was found and how good it provably is; or on the mode that
    had none."""
    schedule = report["schedule"]
    if schedule is None:
        return f"pruned by the rule of prune.mode={report['mode']}, without a schedule"
    return (
        f"schedule: {schedule['objective']:,.0f} cycles ({cycle_model(report)}) predicted, "
        f"bound {schedule['bound']:,.0f}, gap {100 * schedule['gap']:.4f} % ({schedule['status']}, "
        f"{schedule['solver']}, {schedule['seconds']:.1f} s), "
        + (
            f"estimated loss {schedule['loss']:.4f} nats"
            if has_data(report)
            else f"shares of the layers' weights that go: {schedule['loss']:.4f} in all"
        )
    )


def price_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """(budget, limit, used, binds, step, cycles that a step more saves, that one less costs)."""
    rows = []
    for each in (report.get("tradeoff") or {"prices": []})["prices"]:
        binds = {True: "yes", False: "no", None: "not settled in time"}[each["binds"]]
        limit, used, step = (
            _amount(each["budget"], each[key]) for key in ("limit", "used", "step")
        )
        worth = ["nothing fits" if each[key] is None else f"{abs(each[key]):,.0f}"
                 for key in ("saves", "costs")]  # fmt: skip
        rows.append((each["budget"], limit, used, binds, step, *worth))
    return rows


def has_front(report: Mapping[str, Any]) -> bool:
    """Whether the report holds the front that its schedule is compared with."""
    return bool((report.get("tradeoff") or {"front": []})["front"])


def _amount(metric: str, value: float) -> str:
    return {
        "flash": f"{value / 1024:,.1f} KiB",
        "sram": f"{value / 1024:,.1f} KiB",
        "loss": f"{value:.3f} nats",
    }.get(metric, f"{value:,.0f} cycles")


def pool_line(report: Mapping[str, Any]) -> str:
    """One sentence on the candidates and which of them was taken, and on dead filters (on
    these alone where a mode has no candidates)."""
    pool, dead = report["pool"], report["dead_filters"]
    filters = f"{dead} dead filter{'' if dead == 1 else 's'}"
    if pool is None:
        return filters
    losses = [each["measured_loss"] for each in pool["schedules"]]
    line = (
        f"pool: schedule {pool['taken']} of {len(losses)} taken by its loss on {pool['images']} "
        f"training images after batch normalization is re-estimated, {pool['measured_loss']:.3f} "
        f"nats"
    )
    if len(losses) > 1:
        line += f" (all: {min(losses):.3f} to {max(losses):.3f})"
    return f"{line}; {filters}"


def _count(name: str, dense: float, ours: float) -> tuple[str, str, str, str]:
    return name, f"{dense:,.0f}", f"{ours:,.0f}", _ratio(dense, ours)


def _bytes(name: str, dense: float, ours: float) -> tuple[str, str, str, str]:
    return name, f"{dense:,.0f} B", f"{ours:,.0f} B", _ratio(dense, ours)


def _ratio(dense: float, ours: float) -> str:
    if not dense or not ours:
        return ""
    return f"{dense / ours:.2f}x less" if ours <= dense else f"{ours / dense:.2f}x more"
