"""Runs a deployment as firmware on the simulated device and measures it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm import runtime_c
from dtmm.deploy.deployment import Deployment, check_images
from dtmm.deploy.project import render_project
from dtmm.deploy.steps import step_names
from dtmm.device.build import build_elf, compile_objects
from dtmm.device.cycle_model import CycleModel, cycle_model
from dtmm.device.elf import Elf, flash_bytes, product_ram_bytes, symbol
from dtmm.device.memory import MemoryMap
from dtmm.device.protocol import Run
from dtmm.device.provenance import collect_provenance
from dtmm.device.qemu import run_firmware
from dtmm.errors import DtmmError, MeasurementError

Int8 = npt.NDArray[np.int8]


@dataclass(frozen=True)
class StepCost:
    """One step of an inference.

    Attributes:
        cycles: by the model that the provenance names, all in TCM. cached_cycles: by m55-v2.
        checksum: FNV-1a over its output tensor's values. bytes_read: by its loads.
    """

    name: str
    instructions: int
    cycles: float
    checksum: int | None
    cached_cycles: float | None = None
    bytes_read: int | None = None


@dataclass(frozen=True)
class Measurement:
    """What one network does on the device.

    Attributes:
        outputs: [N, ...] int8 of all images that ran.
        counted_images: the first so many of them were counted.
        instructions, cycles: mean per inference; instructions are exact, cycles modelled.
        steps: a profile of the first image, in a build with a marker around every step.
        flash: bytes by "weights", "index", "parameters", "code" (instructions and read-only data).
        sram: bytes by "arena", "scratch", "stack" (measured by painting).
        provenance: compiler, flags, simulator, cycle model, memory map, version, commit.
    """

    outputs: Int8
    counted_images: int
    instructions: float
    cycles: float
    steps: tuple[StepCost, ...]
    flash: Mapping[str, int]
    sram: Mapping[str, int]
    provenance: Mapping[str, str | None]


def run_on_device(
    deployment: Deployment, images: Int8, counted_images: int = 3, timeout_s: float = 600.0
) -> Measurement:
    """Build the firmware, run all images, count the first ones, profile the first one.

    Args:
        images: [N, H, W, C] int8, at least one.
        counted_images: how many of them are counted, at least one: an inference's instructions
            hardly depend on the image, and counting slows the simulator down.

    Raises:
        DtmmError: no image, or images of another shape or dtype.
        ToolchainError: a tool is missing or fails. MeasurementError: the firmware fails, or the
        profiled build's output differs.
    """
    network = deployment.network
    check_images(images, network.tensors[network.inputs[0]].shape[1:])
    if not (len(images) and counted_images > 0):
        raise DtmmError(f"{len(images)} images, {counted_images} counted: expected at least 1")
    counted = min(counted_images, len(images))
    model = CycleModel()
    with tempfile.TemporaryDirectory(prefix="dtmm-firmware-") as name:
        work = Path(name)
        (work / "images.int8").write_bytes(np.ascontiguousarray(images).tobytes())
        elf = build_firmware(deployment, work, len(images), counted)
        run = run_firmware(elf.path, count_regions=True, timeout_s=timeout_s, cwd=work)
        costs = model.price(elf.path, run.regions)
        outputs = read_outputs(run, deployment, len(images))
        steps = _profile(deployment, work, model, outputs[:1], timeout_s)
        flash = flash_bytes(elf.path)
        product_ram = product_ram_bytes(elf.path)
        provenance = collect_provenance(elf, model).to_dict()
        provenance["cached_memory"] = f"m55-v2: {cycle_model('m55-v2').memory_text}"
    if product_ram:
        raise MeasurementError(
            f"runtime and model hold {product_ram} bytes of variables, expected none: "
            "all state belongs into the arena"
        )
    arena = deployment.arena
    return Measurement(
        outputs=outputs,
        counted_images=counted,
        instructions=float(np.mean([cost.instructions for cost in costs])),
        cycles=float(np.mean([cost.cycles for cost in costs])),
        steps=steps,
        flash={
            "weights": flash.weights,
            "index": flash.index,
            "parameters": flash.parameters,
            "code": flash.code + flash.constants,
        },
        sram={
            "arena": arena.tensor_bytes,
            "scratch": arena.bytes - arena.tensor_bytes,
            "stack": max(line.numbers()[0] for line in run.all("STACK")),
        },
        provenance=provenance,
    )


def _profile(
    deployment: Deployment, work: Path, model: CycleModel, expected: Int8, timeout_s: float
) -> tuple[StepCost, ...]:
    elf = build_firmware(deployment, work, 1, 0, profile=True)
    cached = cycle_model("m55-v2")
    run = run_firmware(
        elf.path, count_regions=True, timeout_s=timeout_s, cwd=work, cache=cached.cache
    )
    if not np.array_equal(read_outputs(run, deployment, 1), expected):
        raise MeasurementError("the profiled build's output differs from the plain build's")
    checksums = {line.numbers()[0]: line.numbers()[1] for line in run.all("STEP")}
    costs = model.price(elf.path, run.regions)
    behind_cache = cached.price(elf.path, run.regions, run.cache)
    rows = zip(step_names(deployment), costs, behind_cache, run.cache, strict=True)
    return tuple(
        StepCost(
            name, cost.instructions, cost.cycles, checksums.get(n), slow.cycles, moved.bytes_read
        )
        for n, (name, cost, slow, moved) in enumerate(rows)
    )


def build_firmware(
    deployment: Deployment,
    work: Path,
    images: int,
    counted: int,
    profile: bool = False,
    memory: MemoryMap | None = None,
) -> Elf:
    """The harness around a deployment, in the folder `work`, where "images.int8" must lie to run.

    Args:
        images: in that file. counted: the first so many inferences are a region each.
        profile: every step of an inference is a region instead, and reports a checksum.
        memory: where its parts lie; None: code and weights in ITCM, the arena in SRAM.

    Raises:
        ToolchainError: a tool is missing or fails. MeasurementError: the linked arena is not the
        planned one.
    """
    for name, text in render_project(deployment).items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text, encoding="utf-8")
    harness = Path(str(resources.files("dtmm.deploy") / "harness"))
    defines: dict[str, str | int | None] = {
        "HARNESS_IMAGES": images,
        "HARNESS_COUNTED": counted,
    }
    if profile:
        defines |= {"HARNESS_PROFILE": None, "DTMM_MODEL_HOOKS": '"hooks.h"'}
    objects = work / "runtime"  # without the model's headers in sight: from the cache
    objects.mkdir(exist_ok=True)
    elf = build_elf(
        model_sources=[work / "model" / "model.c", work / "model" / "weights.c"],
        runtime_sources=compile_objects(
            runtime_c.device_sources(), objects, [runtime_c.include_dir()]
        ),
        harness_sources=[harness / "network_main.c"],
        out_elf=work / ("profile.elf" if profile else "firmware.elf"),
        include_dirs=[work / "model", runtime_c.include_dir(), harness],
        defines=defines,
        memory=memory,
    )
    linked = symbol(elf.path, "arena").size
    if linked != deployment.arena.bytes:
        raise MeasurementError(
            f"the firmware's arena has {linked} bytes, planned are {deployment.arena.bytes}"
        )
    return elf


def read_outputs(run: Run, deployment: Deployment, images: int) -> Int8:
    """[images, ...] int8 of a run of the harness. Raises MeasurementError when one is missing."""
    network = deployment.network
    shape = network.tensors[network.outputs[0]].shape[1:]
    payloads = dict(line.payload() for line in run.all("OUT"))
    if sorted(payloads) != list(range(images)):
        raise MeasurementError(f"the firmware reported {len(payloads)} outputs, expected {images}")
    rows = [np.frombuffer(payloads[n], np.int8) for n in range(images)]
    if any(row.size != int(np.prod(shape)) for row in rows):
        raise MeasurementError(f"an output has {rows[0].size} bytes, expected {np.prod(shape)}")
    return np.stack(rows).reshape(images, *shape)
