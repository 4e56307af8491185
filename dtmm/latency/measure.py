"""Measures points on the simulated device: many operators per firmware, each in its own region."""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from dtmm import runtime_c
from dtmm.device.block_counts import RegionCounts
from dtmm.device.build import build_elf, build_host_program, firmware_dir
from dtmm.device.cache import cache_dir, digest
from dtmm.device.cycle_model import CycleModel
from dtmm.device.elf import Elf
from dtmm.device.protocol import Line, parse_lines
from dtmm.device.provenance import collect_provenance
from dtmm.device.qemu import run_firmware
from dtmm.errors import DtmmError, MeasurementError
from dtmm.latency import patterns
from dtmm.latency.table import Cost, LatencyTable, OpShape, Point, describe
from dtmm.planning.nouns import Buffer
from dtmm.storage import Csr, Fkw, fkw_scratch
from dtmm.storage.fkw import TAPS
from dtmm.storage.formats import USUAL_PATTERNS
from dtmm.storage.kernel_ids import (
    CONV_CSR,
    CONV_FKW,
    CONV_FWCS,
    CONV_IM2COL,
    CONV_POINTWISE,
    POINT_KERNEL_IDS,
    RUN_KERNEL_IDS,
    VARIANTS,
    family,
    is_listed,
    variant,
)
from dtmm.storage.stored import VECTOR_BYTES
from dtmm.sweep import ResultsStore, SweepError, run_sweep

OPERATORS = (
    "conv_im2col",
    "conv_dense",
    "conv_fwcs",
    "fully_connected",
    "add",
    "max_pool",
    "average_pool",
    "mean",
    "conv_grouped",
    "depthwise_conv",
    "add_broadcast",
    "mul",
    "mul_broadcast",
    "lookup",
    "softmax",
    "concat",
    "pad",
    "strided_slice",
    "conv_pointwise",
    "conv_csr",
    "conv_fkw",
)
"""Operators in the order of harness.c's enum."""

KERNELS = (
    *(name for name in OPERATORS if name != CONV_POINTWISE),  # which needs a kernel
    *RUN_KERNEL_IDS,
    *POINT_KERNEL_IDS,
)
"""Kernel ids that can be measured."""


CHUNK = 128
"""Points per firmware: large enough to amortise building, small enough to resume and to share."""

LIMITS: Mapping[str, int] = {
    "IN_BYTES": 384 << 10,
    "OUT_BYTES": 384 << 10,
    "WEIGHT_BYTES": 2 << 20,
    "SCRATCH_BYTES": 96 << 10,
    "INDEX_BYTES": 384 << 10,
    "CHANNELS": 1024,
}
"""Sizes of harness.c's buffers; together they fit the device's 4 MiB internal SRAM."""

RUN_KERNELS = ",".join(f"&dtmm_conv_kernel_{name}" for name in VARIANTS)
"""C initialisers of all kernels in assembly."""

_DEFINES: Mapping[str, str | int | None] = {**LIMITS, "RUN_KERNELS": RUN_KERNELS}

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
        progress: called with (chunks done, chunks in all) of what is not in the store.

    Raises:
        MeasurementError: an operator refuses a point, or device and host compute different outputs.
        ToolchainError: a tool is missing or fails.
    """
    wanted, code = set(points), _code()
    known = _measured(store, seed, code)
    missing = sorted(wanted - known.costs.keys())
    if missing:
        # Neighbouring points take similarly long; shuffling gives chunks of similar work.
        random.Random(seed).shuffle(missing)
        chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
        jobs = [{"points": [to_row(p) for p in c], "seed": seed, "code": code} for c in chunks]
        try:
            run_sweep(measure_chunk, jobs, store, executor, progress)
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
    if code != _code():
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


@dataclass(frozen=True)
class PointsRun:
    """One firmware and what it did: a counted region and scratch bytes per point, in order."""

    elf: Elf
    regions: tuple[RegionCounts, ...]
    scratch: tuple[int, ...]


def run_points(points: Sequence[Point], seed: int, work: Path, target: str = "m55") -> PointsRun:
    """Build the harness in the folder `work` and run it over the points, here and on the device.

    Args:
        target: of `dtmm.device.build.TARGETS`, one that runs on the simulated Cortex-M55.

    Raises:
        MeasurementError: an operator refuses a point, or device and host compute different outputs.
        ToolchainError: a tool is missing or fails.
    """
    np.array([len(points), seed], "<u4").tofile(work / "run.bin")
    _write_points(work, points, seed)
    elf = build_elf(
        model_sources=[],
        runtime_sources=runtime_c.device_sources(),
        harness_sources=[_folder() / "harness.c"],
        out_elf=work / "harness.elf",
        include_dirs=[runtime_c.include_dir()],
        defines=_DEFINES,
        target=target,
    )
    run = run_firmware(elf.path, count_regions=True, cwd=work)
    reported = _reports(run.lines, points)
    _compare(points, reported, _reports(_run_on_host(work), points))
    return PointsRun(elf, run.regions, tuple(report.scratch for report in reported))


def _code() -> str:
    return digest([runtime_c.digest(), (_folder() / "harness.c").read_bytes()])


def _run_on_host(work: Path) -> tuple[Line, ...]:
    sources = [_folder() / "harness.c", _folder() / "host_report.c", *runtime_c.sources()]
    headers = sorted(runtime_c.folder().rglob("*.h"))
    key = digest([repr(_DEFINES), *(path.read_bytes() for path in (*sources, *headers))])
    program = cache_dir() / "latency" / key[:24]
    if not program.is_file():
        build_host_program(
            sources=sources,
            out=program,
            include_dirs=[runtime_c.include_dir(), firmware_dir()],
            defines=_DEFINES,
        )
    done = subprocess.run([program], cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementError(
            f"the host's harness ended with status {done.returncode}: {done.stderr.strip()}"
        )
    return parse_lines(done.stdout)


def _folder() -> Path:
    return Path(str(resources.files("dtmm.latency")))


def to_row(point: Point) -> Row:
    """A point as JSON values."""
    return asdict(point)


def from_row(row: Mapping[str, Any]) -> Point:
    """The inverse of `to_row`, also after JSON made lists of tuples."""
    shape: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in row["shape"].items()
    }
    return Point(**{**row, "shape": OpShape(**shape)})


@dataclass(frozen=True)
class _Report:
    """What the harness said of one point."""

    scratch: int
    checksum: int


def _reports(lines: Sequence[Line], chunk: Sequence[Point]) -> list[_Report]:
    rows = {row[0]: row[1:] for row in (ln.numbers() for ln in lines if ln.key == "POINT")}
    if sorted(rows) != list(range(len(chunk))):
        raise MeasurementError(f"the harness reported {len(rows)} points, expected {len(chunk)}")
    for n, point in enumerate(chunk):
        if rows[n][0]:
            raise MeasurementError(f"{describe(point)}: the operator returned status -{rows[n][0]}")
    return [_Report(*rows[n][1:]) for n in range(len(chunk))]


def _compare(chunk: Sequence[Point], device: list[_Report], host: list[_Report]) -> None:
    for point, ours, theirs in zip(chunk, device, host, strict=True):
        if ours.checksum != theirs.checksum:
            raise MeasurementError(
                f"{describe(point)}: the device's output has checksum {ours.checksum:08x}, the "
                f"host's {theirs.checksum:08x}; the measurement is rejected"
            )


def _write_points(work: Path, chunk: Sequence[Point], seed: int) -> None:
    """The harness's input: points.bin, and index.bin with the index of each pruned layer."""
    indices, fields = b"", []
    for point in chunk:
        index = _index(point, seed)
        fields.append(_fields(point, len(indices), len(index), seed))
        indices += index
    np.array(fields, "<i4").tofile(work / "points.bin")
    (work / "index.bin").write_bytes(indices)


def _index(point: Point, seed: int) -> bytes:
    """What a layer's kernel reads beside the weights."""
    if family(point.kernel) == CONV_FWCS:
        positions = point.shape.kernel[0] * point.shape.kernel[1]
        kept = patterns.random_pattern(point.out_channels, positions, point.filterlets, seed)
        return np.packbits(kept, axis=1, bitorder="little").tobytes()
    if point.kernel in (CONV_CSR, CONV_FKW):
        return random_weights(point, seed).index.astype("<u2").tobytes()
    return b""


def random_weights(point: Point, seed: int) -> Csr | Fkw:
    """Which weights or kernels a CSR or FKW layer keeps in a measurement: as many weights as the
    point's filterlets have, FKW's in kernels of four.

    Raises:
        MeasurementError: an FKW layer cannot keep so many.
    """
    weights = point.filterlets * point.in_channels
    if point.kernel == CONV_CSR:
        kernel = point.shape.kernel
        return patterns.random_csr(point.out_channels, kernel, point.in_channels, weights, seed)
    kernels = round(weights / TAPS)
    return patterns.random_fkw(point.out_channels, point.in_channels, kernels, seed)


def _fields(point: Point, index: int, index_bytes: int, seed: int) -> list[int]:
    """The fields of harness.c's `point`, after a check that its buffers are large enough."""
    needs = {**_needs(point), "INDEX_BYTES": index_bytes}
    for name, limit in LIMITS.items():
        if needs[name] > limit:
            raise MeasurementError(
                f"{describe(point)} needs {name}={needs[name]}, the harness has {limit}"
            )
    shape = point.shape
    multiple = 1 if family(point.kernel) == CONV_IM2COL else VECTOR_BYTES
    run_kernel = variant(point.kernel)
    fields = [
        OPERATORS.index(family(point.kernel)),
        0 if run_kernel is None else 1 + VARIANTS.index(run_kernel),
        int(is_listed(point.kernel)),
        *shape.kernel,
        *shape.stride,
        *shape.dilation,
        *shape.pad,
        shape.in_halo,
        shape.out_halo,
        multiple,
        *shape.in_hw,
        *shape.out_hw,
        point.in_channels,
        point.out_channels,
        point.filterlets,
    ]
    point_seed = zlib.crc32(np.array([*fields, seed], "<i4").tobytes()) >> 1
    return [*fields, shape.groups, index, index_bytes, point_seed]


def _needs(point: Point) -> dict[str, int]:
    """Upper bounds of what harness.c's buffers must hold for a point."""
    shape, outputs = point.shape, point.out_channels
    positions = shape.kernel[0] * shape.kernel[1]
    padded = -(-point.in_channels // VECTOR_BYTES) * VECTOR_BYTES
    window = -(-positions * point.in_channels // VECTOR_BYTES) * VECTOR_BYTES
    if point.kernel == "fully_connected":
        weights = outputs * shape.in_hw[0] * shape.in_hw[1] * point.in_channels
    elif shape.kind == "conv2d":
        weights = outputs * max(positions * padded, window)
    else:  # a depthwise convolution's, or a lookup table
        weights = max(positions * padded, 256)
    return {
        # A vector load of a window's last pixel may reach a little past the tensor.
        "IN_BYTES": _bytes(shape.in_hw, point.in_channels, shape.in_halo) + 2 * VECTOR_BYTES,
        "OUT_BYTES": _bytes(shape.out_hw, outputs, shape.out_halo),
        "WEIGHT_BYTES": weights + VECTOR_BYTES,
        "SCRATCH_BYTES": max(
            4 * (outputs + 1) * (positions + 1),
            shape.out_hw[1] * window,
            fkw_scratch(USUAL_PATTERNS, padded) if point.kernel == CONV_FKW else 0,
        ),
        "CHANNELS": outputs,
    }


def _bytes(size: tuple[int, int], channels: int, halo: int) -> int:
    return Buffer(None, channels, *size, halo, VECTOR_BYTES).bytes(channels)
