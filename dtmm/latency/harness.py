"""The measuring firmware: single operators on generated data, each in a counted region."""

from __future__ import annotations

import functools
import subprocess
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from dtmm import runtime_c
from dtmm.device.block_counts import RegionCounts
from dtmm.device.build import build_elf, build_host_program, firmware_dir
from dtmm.device.cache import cache_dir, digest
from dtmm.device.cache_misses import CacheCounts, DataCache
from dtmm.device.elf import Elf
from dtmm.device.protocol import Line, parse_lines
from dtmm.device.qemu import run_firmware
from dtmm.errors import MeasurementError
from dtmm.latency.patterns import Kept, random_csr, random_fkw, random_pattern
from dtmm.latency.table import Point, describe
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


@dataclass(frozen=True)
class PointsRun:
    """One firmware and what it did: a counted region and scratch bytes per point, in order.

    misses: what each region did to the data cache, where one was simulated.
    """

    elf: Elf
    regions: tuple[RegionCounts, ...]
    scratch: tuple[int, ...]
    misses: tuple[CacheCounts, ...] = ()


def run_points(
    points: Sequence[Point],
    seed: int,
    work: Path,
    target: str = "m55",
    kept: Mapping[int, Kept] | None = None,
    cache: DataCache | None = None,
) -> PointsRun:
    """Run the harness over the points, here and on the device; `work` holds its files.

    The firmware is the same whatever the points are: each process builds it once.

    Args:
        target: of `dtmm.device.build.TARGETS`, one that runs on the simulated Cortex-M55.
        kept: bool [out_channels, positions] by a point's place: the filterlets that it keeps,
            where they are not to be those of `dtmm.latency.patterns`.
        cache: a data cache whose misses are counted; the simulator is several times slower then.

    Raises:
        MeasurementError: an operator refuses a point, or device and host compute different outputs.
        ToolchainError: a tool is missing or fails.
    """
    np.array([len(points), seed], "<u4").tofile(work / "run.bin")
    _write_points(work, points, seed, kept or {})
    elf = _firmware(target, code_digest(), cache_dir())
    run = run_firmware(elf.path, count_regions=True, cwd=work, cache=cache)
    reported = _reports(run.lines, points)
    _compare(points, reported, _reports(_run_on_host(work), points))
    return PointsRun(elf, run.regions, tuple(report.scratch for report in reported), run.cache)


def code_digest() -> str:
    """Of all C code that is measured or measures."""
    return digest([runtime_c.digest(), (_folder() / "harness.c").read_bytes()])


@functools.lru_cache(maxsize=4)
def _firmware(target: str, code: str, cache: Path) -> Elf:
    """The harness for a target, linked once for each state of the code."""
    return build_elf(
        model_sources=[],
        runtime_sources=runtime_c.device_sources(),
        harness_sources=[_folder() / "harness.c"],
        out_elf=cache / "latency" / f"{target}-{code}.elf",
        include_dirs=[runtime_c.include_dir()],
        defines=_DEFINES,
        target=target,
    )


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


def _write_points(work: Path, chunk: Sequence[Point], seed: int, given: Mapping[int, Kept]) -> None:
    """The harness's input: points.bin, and index.bin with the index of each pruned layer."""
    indices, fields = b"", []
    for number, point in enumerate(chunk):
        index = _index(point, given.get(number), seed)
        fields.append(_fields(point, len(indices), len(index), seed))
        indices += index
    np.array(fields, "<i4").tofile(work / "points.bin")
    (work / "index.bin").write_bytes(indices)


def _index(point: Point, given: Kept | None, seed: int) -> bytes:
    """What a layer's kernel reads beside the weights."""
    if family(point.kernel) == CONV_FWCS:
        kept = pattern(point, seed) if given is None else _checked(point, given)
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
        return random_csr(point.out_channels, kernel, point.in_channels, weights, seed)
    kernels = round(weights / TAPS)
    return random_fkw(point.out_channels, point.in_channels, kernels, seed)


def pattern(point: Point, seed: int) -> Kept:
    """bool [out_channels, positions]: the filterlets that a measured convolution keeps."""
    positions = point.shape.kernel[0] * point.shape.kernel[1]
    return random_pattern(point.out_channels, positions, point.filterlets, seed)


def _checked(point: Point, kept: Kept) -> Kept:
    positions = point.shape.kernel[0] * point.shape.kernel[1]
    if kept.shape != (point.out_channels, positions) or kept.sum() != point.filterlets:
        raise MeasurementError(
            f"{describe(point)}: a mask of shape {kept.shape} that keeps {kept.sum()}, expected "
            f"({point.out_channels}, {positions}) and {point.filterlets}"
        )
    return kept


def check_size(point: Point, index_bytes: int = 0) -> None:
    """Raises MeasurementError where the firmware's buffers are too small for a point."""
    needs = {**_needs(point), "INDEX_BYTES": index_bytes}
    for name, limit in LIMITS.items():
        if needs[name] > limit:
            raise MeasurementError(
                f"{describe(point)} needs {name}={needs[name]}, the harness has {limit}"
            )


def _fields(point: Point, index: int, index_bytes: int, seed: int) -> list[int]:
    """The fields of harness.c's `point`, after a check that its buffers are large enough."""
    check_size(point, index_bytes)
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
