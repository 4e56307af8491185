"""Measures points on the simulated device: many operators per firmware, each in its own region."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dtmm.device.cycle_model import cycle_model as model_by_name
from dtmm.device.provenance import collect_provenance
from dtmm.errors import DtmmError, MeasurementError
from dtmm.latency import patterns
from dtmm.latency.harness import code_digest, run_points
from dtmm.latency.patterns import Kept
from dtmm.latency.table import Cost, LatencyTable, OpShape, Point
from dtmm.sweep import ResultsStore, SweepError, run_sweep

CHUNK = 128
"""Points per run of the firmware: many per start of the simulator, few to lose or to share."""

CYCLE_MODEL = "m55-v1"
"""What measures cycles unless told otherwise: zero-wait memory."""

Row = dict[str, Any]


def measure_points(
    points: Iterable[Point],
    store: Path,
    seed: int = 1,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
    cycle_model: str = CYCLE_MODEL,
) -> LatencyTable:
    """Measure every point; what `store` already holds is not measured again.

    Weights, inputs and filterlet patterns (`dtmm.latency.patterns`) are random, from `seed`. They
    depend on the point and the seed alone, so its cost is the same whatever it is measured with.

    Args:
        store: results file, appended chunk by chunk (`dtmm.sweep`).
        executor: runs the chunks; None: one process per core.
        progress: called with (points done, points in all) of what is not in the store.
        cycle_model: of `dtmm.device.cycle_model`: zero-wait memory, or a data cache.

    Raises:
        MeasurementError: an operator refuses a point, or device and host compute different outputs.
        ToolchainError: a tool is missing or fails.
    """
    wanted = set(points)
    how = {"seed": seed, "code": code_digest(), "cycle_model": cycle_model}
    known = _measured(store, how)
    missing = sorted(wanted - known.costs.keys())
    if missing:
        # Neighbouring points take similarly long; shuffling gives chunks of similar work.
        random.Random(seed).shuffle(missing)
        chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
        jobs = [{"points": [to_row(p) for p in chunk], **how} for chunk in chunks]

        def report(done: int, total: int) -> None:
            if progress is not None:
                progress(min(done * CHUNK, len(missing)), len(missing))

        try:
            run_sweep(measure_chunk, jobs, store, executor, report)
        except SweepError as error:
            # what failed says more than a list of the points it failed with
            if isinstance(error.__cause__, DtmmError):
                raise error.__cause__ from None
            raise
        known = _measured(store, how)
    return LatencyTable({p: known.costs[p] for p in sorted(wanted)}, known.provenance)


def _measured(store: Path, how: Mapping[str, Any]) -> LatencyTable:
    """What the store holds that was measured in this way, whatever chunks it came in."""
    costs: dict[Point, Cost] = {}
    provenance: dict[str, str] = {}
    with ResultsStore(store, f"{__name__}.{measure_chunk.__name__}") as results:
        for key, result in results.values.items():
            job = json.loads(key)
            if {**job, "points": None} == {**how, "points": None}:
                measured = (Cost(**row) for row in result["costs"])
                costs |= zip(map(from_row, job["points"]), measured, strict=True)
                provenance = result["provenance"]
    return LatencyTable(costs, provenance)


def measure_chunk(points: list[Row], seed: int, code: str, cycle_model: str) -> dict[str, Any]:
    """Costs of some points and how they were measured, as JSON values. One firmware run.

    Args:
        code: digest of the C code to measure; a stored result of other code is another point.
    """
    if code != code_digest():
        raise MeasurementError("the C code changed while it was being measured")
    table = measure_once([from_row(row) for row in points], seed, {}, cycle_model)
    costs = [asdict(cost) for cost in table.costs.values()]
    return {"costs": costs, "provenance": dict(table.provenance)}


def measure_once(
    points: Sequence[Point], seed: int, kept: Mapping[int, Kept], cycle_model: str = CYCLE_MODEL
) -> LatencyTable:
    """Measure different points in this process, in one run of the firmware.

    Args:
        kept: the filterlets of convolutions by their place, where they are not to be random.

    Raises:
        MeasurementError, ToolchainError: as measure_points.
    """
    model = model_by_name(cycle_model)
    with tempfile.TemporaryDirectory(prefix="dtmm-latency-") as name:
        run = run_points(points, seed, Path(name), kept=kept, cache=model.cache)
        priced = model.price(run.elf.path, run.regions, run.misses)
        provenance = {
            key: str(value) for key, value in collect_provenance(run.elf, model).to_dict().items()
        }
    provenance |= {"pattern_seed": str(seed), "patterns": patterns.DESCRIPTION}
    costs = {
        point: Cost(cost.cycles, cost.instructions, scratch)
        for point, cost, scratch in zip(points, priced, run.scratch, strict=True)
    }
    return LatencyTable(costs, provenance)


def to_row(point: Point) -> Row:
    """A point as JSON values."""
    return asdict(point)


def from_row(row: Mapping[str, Any]) -> Point:
    """The inverse of `to_row`, also after JSON made lists of tuples."""
    shape: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in row["shape"].items()
    }
    return Point(**{**row, "shape": OpShape(**shape)})
