"""docs/reproduce.md: what the paper says, what came out here, and why the two differ.

Our column is read off the committed tables; a claim whose table is not there, or has no such cell
yet, says so.

    python -m experiments.reproduce
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pandas as pd

from benchmarks.markdown import grid, replace_section
from dtmm.table import read_table
from experiments import (
    detection,
    latency_fidelity,
    operator_complexity,
    scheduler_gain,
    storage_overhead,
    trained_fronts,
)
from experiments.cells import MEASURED
from experiments.experiment import RESULTS
from experiments.matched import DENSE

BEGIN = "<!-- measured: python -m experiments.reproduce -->"
END = "<!-- end of measured -->"
DOCUMENT = Path(__file__).parents[1] / "docs" / "reproduce.md"
MISSING = "not measured yet"
UNKNOWN = "(its number is not known here)"


@dataclass(frozen=True)
class Claim:
    """A row of the document.

    Attributes:
        csv: of the results folder. ours: says what its table shows, "" where a cell is missing.
        why: the reason for a difference, whatever the numbers are.
    """

    claim: str
    paper: str
    csv: str
    ours: Callable[[pd.DataFrame], str]
    why: str


def _average(name: str) -> Callable[[pd.DataFrame], str]:
    def said(table: pd.DataFrame) -> str:
        known = table[(table["comparison"] == name) & (table["status"] == "measured")]
        return "; ".join(
            f"{row['percent']:+.2f} % [{row['low']:+.2f}, {row['high']:+.2f}], {row['task']}, "
            f"seeds: {row['seeds']}"
            for _, row in known.iterrows()
        )

    return said


def _pruned(table: pd.DataFrame) -> str:
    parts = []
    for share, part in table.groupby("share"):
        values = part["weights_removed"]
        parts.append(f"{values.min():.1f} to {values.max():.1f} % at {share:.0%} of the flash")
    return "; ".join(parts)


def _storage(table: pd.DataFrame) -> str:
    sums = storage_overhead.totals(table, "removed_percent")
    at = sums[sums["removed_percent"] == 90].set_index("format")["percent"]
    return (
        f"90 % removed: FWCS {at['fwcs_stored']:.2f} % of the kept weights as stored, "
        f"{at['fwcs_prepared']:.2f} % as run; the authors' format {at['authors']:.2f} %, CSR with "
        f"8-bit gaps {at['csr_delta']:.2f} %"
    )


def _operator(table: pd.DataFrame) -> str:
    cycles = table.set_index(["operator", "h", "cin", "cout", "removed_percent"])["cycles"]
    ratios: dict[str, list[float]] = {rival: [] for rival in ("cmsis_nn", "dtmm_authors", "csr")}
    for (name, *layer, removed), ours in cycles.items():
        if name == "fwcs" and removed == 75:
            ratios["cmsis_nn"].append(ours / cycles[("cmsis_nn", *layer, 0)])
            ratios["dtmm_authors"].append(ours / cycles[("dtmm_authors", *layer, 75)])
            ratios["csr"].append(ours / cycles[("csr", *layer, 75)])
    said = ", ".join(f"{min(v):.2f} to {max(v):.2f}x {name}" for name, v in ratios.items())
    return f"75 % of filterlets removed: {said}"


def _ablation(table: pd.DataFrame) -> str:
    wide = table.pivot_table(
        index=["h", "cin", "removed_percent"], columns="form", values="cycles"
    ).query("removed_percent == 75")
    forms = [name for name in wide if name != "full"]
    ratios = {name: wide[name] / wide["full"] for name in forms}
    return "75 % removed, times the cycles: " + ", ".join(
        f"{name.replace('_', ' ')} {v.min():.1f} to {v.max():.1f}" for name, v in ratios.items()
    )


def _complexity(table: pd.DataFrame) -> str:
    slope, offset, explained = operator_complexity.fit(table)
    return (
        f"cycles = {slope:.3f} (loads + MACs) + {offset:.2f} per output, R2 {explained:.4f} over "
        f"{len(table)} cells"
    )


def _scheduler(table: pd.DataFrame) -> str:
    loose = table[table["scenario"] == "loss decides"].groupby("solver")["ratio"].mean()
    return (
        f"loss decides, latency over the optimum: the paper's annealer and rule "
        f"{loose['annealing_paper']:.2f}x, annealing under the summed loss "
        f"{loose['annealing']:.3f}x, greedy {loose['greedy']:.3f}x, uniform {loose['uniform']:.2f}x"
    )


def _gain(table: pd.DataFrame) -> str:
    found = scheduler_gain.summary(table)
    return "; ".join(
        f"{row['solver']} {row['over_optimum']:.2f}x the cycles, {row['accuracy']:.2f} "
        f"± {row['spread']:.2f} %"
        for _, row in found.iterrows()
    )


def _fronts(table: pd.DataFrame) -> str:
    ranks = trained_fronts.summary(table).set_index("front")
    parts = []
    for front, part in table[table["front"] != trained_fronts.DENSE].groupby("front", sort=False):
        means = part.groupby("point")[["cycles", "accuracy"]].mean()
        first, last = means.iloc[0], means.iloc[-1]
        parts.append(
            f"{front}: {first['cycles'] / 1e6:.2f} to {last['cycles'] / 1e6:.2f} Mcycles, "
            f"{100 * first['accuracy']:.1f} to {100 * last['accuracy']:.1f} %, Spearman "
            f"{ranks.loc[front, 'tuned']:.2f} (seeds: {ranks.loc[front, 'seeds']})"
        )
    return "; ".join(parts)


def _taylor(table: pd.DataFrame) -> str:
    part = table[(table["truth"] == "reestimated")].set_index(["network", "size", "estimator"])
    return "; ".join(
        f"{network}, equal {size}: "
        + ", ".join(
            f"{each} {part.loc[(network, size, each), 'spearman']:.2f}"
            for each in ("taylor", "taylor_squared", "joint")
        )
        for network, size in dict.fromkeys((n, s) for n, s, _ in part.index)
    )


def _latency(table: pd.DataFrame) -> str:
    return "; ".join(
        f"{row['cost_model']} {row['mean_error']:.1f} % off, Spearman {row['spearman']:.3f}"
        for _, row in latency_fidelity.summary(table).iterrows()
    )


def _choices(table: pd.DataFrame) -> str:
    worst = table.groupby("cost_model", sort=False)["over_best"].max()
    return "over the best schedule, at worst: " + ", ".join(
        f"{name} {value:.3f}x" for name, value in worst.items()
    )


def _memory(table: pd.DataFrame) -> str:
    sizes = table.set_index(["system", "memory", "component"])["bytes"]
    said = [
        f"{memory} {sizes['dtmm', memory].sum() / 1024:.1f} of "
        f"{sizes['dense', memory].sum() / 1024:.1f} KiB"
        for memory in ("flash", "sram")
    ]
    return f"{', '.join(said)}; index {sizes['dtmm', 'flash', 'index']} B"


def _overheads(table: pd.DataFrame) -> str:
    seconds = table.set_index("stage")["seconds"]
    names = [n for n in ("importance", "profile", "schedule", "finetune") if n in seconds]
    return ", ".join(f"{name} {seconds[name]:.0f} s" for name in names)


def _units(table: pd.DataFrame) -> str:
    share = 0.3
    rows = table[(table["share"] == share) & (table["status"] == "measured")]
    parts = []
    for unit, part in rows.groupby("unit", sort=False):
        bare = part[part["tuned_images"] == 0].iloc[0]
        tuned = 100 * part[part["tuned_images"] > 0]["accuracy"]
        spread = f" ± {tuned.std():.1f}" if len(tuned) > 1 else ""
        after = f", {tuned.mean():.1f}{spread} % tuned" if len(tuned) else ""
        parts.append(f"{unit} {100 * bare['importance_kept']:.0f} % kept{after}")
    return f"{share:.0%} of the bytes: " + "; ".join(parts)


def _transfer(table: pd.DataFrame) -> str:
    known = table.dropna(subset=["dtmm_authors_O3_cycles"])
    ratios = known["dtmm_authors_O3_cycles"] / known["cycles"]
    return ", ".join(
        f"{name} {value:.1f}x fewer cycles than the authors' system"
        for name, value in zip(known["network"], ratios, strict=True)
    )


def _detection(table: pd.DataFrame) -> str:
    known = table[table["status"] == MEASURED]
    dense = known[known["method"] == DENSE].iloc[0]
    parts = [f"dense {100 * dense['map50']:.1f} %"]
    for share, part in known[known["method"] != DENSE].groupby("share", sort=False):
        said = [
            f"{detection.NAMES[row['method']]} {100 * row['map50']:.1f} % "
            f"({row['cycles'] / dense['cycles']:.2f}x the cycles)"
            for _, row in part.iterrows()
        ]
        parts.append(f"{share:.0%} of the flash: {', '.join(said)}")
    return f"mAP at 0.5, int8: {'; '.join(parts)}"


_METHODS = (
    "other data (the paper's are not ours), our CHIP and PatDNN, a short fine-tuning that is the "
    "same for all, sizes at one point below the dense accuracy"
)

CLAIMS: Sequence[Claim] = (
    Claim("model size against CHIP, average", "-39.53 %", "overall_averages.csv",
          _average("size_vs_chip"), _METHODS),
    Claim("model size against PatDNN, average", "-11.92 %", "overall_averages.csv",
          _average("size_vs_patdnn"), _METHODS),
    Claim("latency against CHIP, average", "-1.09 %", "overall_averages.csv",
          _average("latency_vs_chip"), _METHODS + "; modelled cycles"),
    Claim("latency against PatDNN, average", "-68.70 %", "overall_averages.csv",
          _average("latency_vs_patdnn"), _METHODS + "; our FKW kernel gathers with MVE, theirs is "
          "not known to us"),
    Claim("share of a layer's weights that is pruned", "37.5 to 99.0 %", "pruned_share.csv",
          _pruned, "ResNet-12 on Fashion-MNIST; the first layer and 1x1 shortcuts lose filters "
          "only; the size at which the paper reports is not known here"),
    Claim("FWCS needs little index, CSR much", UNKNOWN, "storage_overhead.csv", _storage,
          "our index is a bit per kernel position, theirs 16 bits per kept filterlet and 16 per "
          "filter"),
    Claim("the DTMM operator is faster than sparse and dense ones", UNKNOWN,
          "operator_latency.csv", _operator, "one model of the core for all; the authors' "
          "published kernel is compiled and measured like ours"),
    Claim("what SIMD, instruction parallelism and FWCS bring", UNKNOWN, "operator_ablation.csv",
          _ablation, "`no simd` is the portable C operator, compiled without MVE"),
    Claim("the operator's complexity explains its time", UNKNOWN, "operator_complexity.csv",
          _complexity, "one fit over all layers and shares"),
    Claim("the scheduler finds the fastest strategy under accuracy and memory limits", UNKNOWN,
          "scheduler_comparison.csv", _scheduler, "an integer program with proof instead of the "
          "annealing of the authors' code; instances with plausible tables"),
    Claim("the same, after fine-tuning", "not in the paper", "scheduler_gain.csv", _gain,
          "measured tables, one short fine-tuning for all; spread over seeds"),
    Claim("fronts of latency and accuracy", UNKNOWN, "trained_fronts.csv", _fronts,
          "one short fine-tuning, int8 on the device; Spearman of estimated loss and tuned "
          "accuracy"),
    Claim("the Taylor estimate foresees the loss", UNKNOWN, "loss_fidelity_ranks.csv", _taylor,
          "rank correlation with the measured loss; how far each network was trained: "
          "docs/pruning.md"),
    Claim("the latency model foresees the latency", UNKNOWN, "latency_fidelity.csv", _latency,
          "against whole networks on the same simulated core"),
    Claim("pruning by MACs does not pay in latency", UNKNOWN, "latency_fidelity_choices.csv",
          _choices, "by the measured table, of the schedule that each model takes for the fastest"),
    Claim("run-time memory", UNKNOWN, "memory_components.csv", _memory,
          "one schedule of ResNet-12, read off the ELF"),
    Claim("overheads of DTMM itself", UNKNOWN, "overheads.csv", _overheads,
          "wall time; the header of the table says on which machine"),
    Claim("filterlets keep more than filters at low index", UNKNOWN, "pruning_units.csv", _units,
          "same share of every layer, scores of single weights; the scheduler is out of it"),
    Claim("detection: tiny YOLO on FDDB", UNKNOWN, "detection.csv", _detection,
          "composed scenes of Fashion-MNIST items, a scaled-down network, one seed, short "
          "training and tuning; PatDNN and stripe-wise trained by SGD before they pruned, which "
          "suits the detection loss badly; FDDB itself is not at hand here"),
    Claim("the authors' published networks", UNKNOWN, "transfer.csv", _transfer,
          "packed without loss; their figures are of their kernel at -O3 on the same model"),
)  # fmt: skip


def rows(folder: Path = RESULTS) -> list[list[str]]:
    """The table of the document, its head first."""
    found = [["claim", "the paper", "here", "from", "what differs"]]
    for each in CLAIMS:
        path = folder / each.csv
        said = each.ours(read_table(path)[0]) if path.is_file() else ""
        found.append([each.claim, each.paper, said or MISSING, f"`{each.csv}`", each.why])
    return found


@click.command(help=__doc__.splitlines()[0])
def main() -> None:
    """Command line."""
    replace_section(DOCUMENT, BEGIN, END, grid(rows()) + "\n")


if __name__ == "__main__":
    main()
