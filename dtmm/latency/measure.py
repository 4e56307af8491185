"""Measures points on the simulated device: many operators per firmware, each in its own region."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dtmm.device.cycle_model import CycleModel
from dtmm.device.provenance import collect_provenance
from dtmm.errors import DtmmError, MeasurementError
from dtmm.latency import patterns
from dtmm.latency.harness import code_digest, run_points
from dtmm.latency.table import Cost, LatencyTable, OpShape, Point
from dtmm.sweep import ResultsStore, SweepError, run_sweep

CHUNK = 128
"""Points per run of the firmware: many per start of the simulator, few to lose or to share."""

Row = dict[str, Any]


def measure_points(
    points: Iterable[Point],
    store: Path,
    seed: int = 1,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LatencyTable:
    """Measure every point; what `store` already holds is not measured again.

    Weights, inputs and filterlet patterns (`dtmm.latency.patterns`) are random, from `seed`. They
    depend on the point and the seed alone, so its cost is the same whatever it is measured with.

    Args:
        store: results file, appended chunk by chunk (`dtmm.sweep`).
        executor: runs the chunks; None: one process per core.
        progress: called with (points done, points in all) of what is not in the store.

    Raises:
        MeasurementError: an operator refuses a point, or device and host compute different outputs.
        ToolchainError: a tool is missing or fails.
    """
    wanted, code = set(points), code_digest()
    known = _measured(store, seed, code)
    missing = sorted(wanted - known.costs.keys())
    if missing:
        # Neighbouring points take similarly long; shuffling gives chunks of similar work.
        random.Random(seed).shuffle(missing)
        chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
        jobs = [{"points": [to_row(p) for p in c], "seed": seed, "code": code} for c in chunks]

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
        known = _measured(store, seed, code)
    return LatencyTable({p: known.costs[p] for p in sorted(wanted)}, known.provenance)


def _measured(store: Path, seed: int, code: str) -> LatencyTable:
    """What the store holds of this seed and code, whatever chunks it was measured in."""
    costs: dict[Point, Cost] = {}
    provenance: dict[str, str] = {}
    with ResultsStore(store, f"{__name__}.{measure_chunk.__name__}") as results:
        for key, result in results.values.items():
            job = json.loads(key)
            if (job["seed"], job["code"]) == (seed, code):
                measured = (Cost(**row) for row in result["costs"])
                costs |= zip(map(from_row, job["points"]), measured, strict=True)
                provenance = result["provenance"]
    return LatencyTable(costs, provenance)


def measure_chunk(points: list[Row], seed: int, code: str) -> dict[str, Any]:
    """Costs of some points and how they were measured, as JSON values. One firmware run.

    Args:
        code: digest of the C code to measure; a stored result of other code is another point.
    """
    if code != code_digest():
        raise MeasurementError("the C code changed while it was being measured")
    chunk = [from_row(row) for row in points]
    with tempfile.TemporaryDirectory(prefix="dtmm-latency-") as name:
        run = run_points(chunk, seed, Path(name))
        model = CycleModel()
        priced = model.price(run.elf.path, run.regions)
        provenance = {
            key: str(value) for key, value in collect_provenance(run.elf, model).to_dict().items()
        }
    provenance |= {"pattern_seed": str(seed), "patterns": patterns.DESCRIPTION}
    costs = [
        Cost(cost.cycles, cost.instructions, scratch)
        for cost, scratch in zip(priced, run.scratch, strict=True)
    ]
    return {"costs": [asdict(cost) for cost in costs], "provenance": provenance}


def to_row(point: Point) -> Row:
    """A point as JSON values."""
    return asdict(point)


def from_row(row: Mapping[str, Any]) -> Point:
    """The inverse of `to_row`, also after JSON made lists of tuples."""
    shape: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in row["shape"].items()
    }
    return Point(**{**row, "shape": OpShape(**shape)})
