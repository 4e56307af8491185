"""Where an inference's time goes: every step in both memory scenarios, and the hottest blocks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm.deploy.deployment import Deployment, check_images
from dtmm.deploy.firmware import build_firmware, read_outputs
from dtmm.deploy.steps import step_names
from dtmm.device.cache_misses import DataCache
from dtmm.device.cycle_model import BlockCost, CycleModel, RegionCost, cycle_model
from dtmm.device.elf import Elf
from dtmm.device.protocol import Run
from dtmm.device.provenance import collect_provenance, dtmm_version, git_commit
from dtmm.device.qemu import run_firmware
from dtmm.device.registry import device
from dtmm.errors import DtmmError, MeasurementError, ToolchainError
from dtmm.network.ir import Op
from dtmm.quantization import run as run_reference

Int8 = npt.NDArray[np.int8]

COUNTED = ("qemu",)
"""Devices that count; the others that can be profiled (OWN_COUNTER) show their PMU's cycles."""

OWN_COUNTER = ("fvp", "board")

PMU = "pmu"

SCENARIOS = ("m55-v1", "m55-v2")
"""All in TCM; SRAM and flash behind a data cache."""


@dataclass(frozen=True)
class StepProfile:
    """One step of an inference.

    Attributes:
        kernel: kernel id of a convolution, the operator's class of others, "copy" at the border.
        macs: multiply-accumulates on the weights that are kept.
        instructions: exact; None where the device does not count them.
        cycles: by what says so: a model's name, or "pmu" for the core's own counter.
        bytes_read, bytes_written: by its loads and stores, without the stack; None as above.
        lines_missed: read misses of the modelled data cache.
        checksum: FNV-1a over its output tensor's values; None for the last copy.
    """

    name: str
    kernel: str
    macs: int
    instructions: int | None
    cycles: Mapping[str, float]
    bytes_read: int | None = None
    bytes_written: int | None = None
    lines_missed: int | None = None
    checksum: int | None = None


@dataclass(frozen=True)
class HotBlock:
    """A translation block: straight-line code, all its executions in all steps together.

    cycles are those of the model without a cache: misses are known per step, not per block.
    """

    address: int
    function: str
    steps: tuple[str, ...]
    executions: int
    cycles: float
    disassembly: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """An inference of one network, step by step.

    Attributes:
        models: keys of every step's cycles, in order.
        hot: the blocks with most cycles first.
        stack: bytes, by painting. provenance: as of `dtmm.deploy.Measurement`, with the cache.
    """

    network: str
    device: str
    models: tuple[str, ...]
    steps: tuple[StepProfile, ...]
    hot: tuple[HotBlock, ...]
    stack: int
    provenance: Mapping[str, str | None]

    def total(self, model: str) -> float:
        """Cycles of all steps by one of `models`."""
        return sum(step.cycles[model] for step in self.steps)


def profile(
    deployment: Deployment,
    image: Int8 | None = None,
    *,
    where: str = "qemu",
    hot: int = 0,
    models: Sequence[CycleModel] | None = None,
    timeout_s: float = 600.0,
) -> Profile:
    """Run one inference with a marker around every step.

    Args:
        image: [1, H, W, C] int8; None: seeded noise, for cost hardly depends on the image.
        where: a name of COUNTED or OWN_COUNTER.
        hot: how many of the hottest blocks to keep.
        models: the memory scenarios, of which at most one has a cache; None: SCENARIOS.

    Raises:
        ToolchainError: a tool is missing or fails; the device cannot be profiled on.
        MeasurementError: the firmware fails, or an output byte differs from the integer
            reference's.
    """
    if where not in COUNTED + OWN_COUNTER:
        known = ", ".join(COUNTED + OWN_COUNTER)
        raise ToolchainError(f"device {where!r} cannot profile: expected one of {known}")
    network = deployment.network
    shape = network.tensors[network.inputs[0]].shape[1:]
    if image is None:
        image = np.random.default_rng(0).integers(-128, 128, (1, *shape)).astype(np.int8)
    check_images(image, shape)
    if len(image) != 1:
        raise DtmmError(f"{len(image)} images to profile, expected 1")
    with tempfile.TemporaryDirectory(prefix="dtmm-profile-") as name:
        work = Path(name)
        (work / "images.int8").write_bytes(np.ascontiguousarray(image).tobytes())
        elf = build_firmware(deployment, work, 1, 0, profile=True)
        if where in COUNTED:
            scenarios = models or [cycle_model(each) for each in SCENARIOS]
            steps, run, kept = _count(deployment, elf, scenarios, hot, work, timeout_s)
            provenance = collect_provenance(elf, scenarios[0]).to_dict()
            provenance |= {each.name: each.memory_text for each in scenarios}
        else:
            run = device(where).run(elf.path, count_regions=True, timeout_s=timeout_s, cwd=work)
            steps, kept = _own_counter_steps(deployment, run), ()
            provenance = {
                "compiler": elf.compiler,
                "flags": " ".join(elf.flags),
                "cycle_model": f"none: the cycle counter of the core's PMU on device {where}",
                "memory_map": elf.memory.describe(),
                "dtmm_version": dtmm_version(),
                "commit": git_commit(),
            }
        _require_reference(deployment, image, read_outputs(run, deployment, 1))
    return Profile(
        network=network.name,
        device=where,
        models=tuple(steps[0].cycles),
        steps=steps,
        hot=kept,
        stack=max(line.numbers()[0] for line in run.all("STACK")),
        provenance=provenance,
    )


def _count(
    deployment: Deployment,
    elf: Elf,
    models: Sequence[CycleModel],
    hot: int,
    work: Path,
    timeout_s: float,
) -> tuple[tuple[StepProfile, ...], Run, tuple[HotBlock, ...]]:
    caches = [each.cache for each in models if each.cache is not None] or [DataCache()]
    if len(caches) > 1:
        raise MeasurementError(f"{len(caches)} models with a cache in one profile, expected one")
    run = run_firmware(elf.path, count_regions=True, timeout_s=timeout_s, cwd=work, cache=caches[0])
    costs = {each.name: each.price(elf.path, run.regions, run.cache) for each in models}
    steps = _counted_steps(deployment, run, costs)
    if not hot:
        return steps, run, ()
    blocks = models[0].price_blocks(elf.path, run.regions)
    return steps, run, _hottest(step_names(deployment), blocks, hot)


def op_macs(ready: Deployment, op: Op) -> int:
    """Multiply-accumulates of an operator on the weights it keeps; 0 where it has none."""
    weight = getattr(op, "weight", None)
    if weight is None:
        return 0
    values = ready.network.params[weight]
    shape = ready.network.tensors[op.output].shape
    if values.ndim != 4:
        return int(values.size)
    # of a filterlet that is kept every weight counts, also one that is zero by chance
    kept = int(values.any(axis=3).sum()) * values.shape[3]
    return int(shape[1] * shape[2] * kept)


def kernel_name(ready: Deployment, op: Op | None) -> str:
    """The kernel id of a convolution, the operator's class of others, "copy" at the border."""
    return "copy" if op is None else ready.kernels.get(op.name, type(op).__name__)


def _require_reference(deployment: Deployment, image: Int8, found: Int8) -> None:
    expected = run_reference(deployment.network, image).reshape(found.shape)
    if not np.array_equal(found, expected):
        raise MeasurementError(
            f"{deployment.network.name}: {int((found != expected).sum())} of {expected.size} "
            "output bytes of the device differ from the integer reference's; the measurement is "
            "rejected"
        )


def _counted_steps(
    deployment: Deployment, run: Run, costs: Mapping[str, Sequence[RegionCost]]
) -> tuple[StepProfile, ...]:
    rows = zip(_bare_steps(deployment, run), run.regions, run.cache, strict=True)
    return tuple(
        replace(
            bare,
            instructions=region.total_instructions,
            cycles={name: each[number].cycles for name, each in costs.items()},
            bytes_read=cache.bytes_read,
            bytes_written=cache.bytes_written,
            lines_missed=cache.read_misses,
        )
        for number, (bare, region, cache) in enumerate(rows)
    )


def _own_counter_steps(deployment: Deployment, run: Run) -> tuple[StepProfile, ...]:
    pairs = zip(_bare_steps(deployment, run), run.counters, strict=True)
    return tuple(replace(bare, cycles={PMU: float(cycles)}) for bare, (_, cycles) in pairs)


def _bare_steps(deployment: Deployment, run: Run) -> list[StepProfile]:
    """The steps before anything is said of their cost."""
    ops = {op.name: op for op in deployment.network.ops}
    checksums = {line.numbers()[0]: line.numbers()[1] for line in run.all("STEP")}
    return [
        StepProfile(
            name=name,
            kernel=kernel_name(deployment, ops.get(name)),
            macs=op_macs(deployment, ops[name]) if name in ops else 0,
            instructions=None,
            cycles={},
            checksum=checksums.get(number),
        )
        for number, name in enumerate(step_names(deployment))
    ]


def _hottest(
    names: Sequence[str], blocks: Sequence[Sequence[BlockCost]], hot: int
) -> tuple[HotBlock, ...]:
    """Blocks of one address and text are one, whichever steps ran them."""
    found: dict[tuple[int, tuple[str, ...]], list[tuple[str, BlockCost]]] = {}
    for name, costs in zip(names, blocks, strict=True):
        for cost in costs:
            found.setdefault((cost.pc, cost.instructions), []).append((name, cost))
    merged = [
        HotBlock(
            address=address,
            function=uses[0][1].symbol,
            steps=tuple(name for name, _ in sorted(uses, key=lambda use: -use[1].cycles)),
            executions=sum(cost.executions for _, cost in uses),
            cycles=sum(cost.cycles for _, cost in uses),
            disassembly=text,
        )
        for (address, text), uses in found.items()
    ]
    return tuple(sorted(merged, key=lambda block: (-block.cycles, block.address))[:hot])
