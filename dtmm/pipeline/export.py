"""A quantized network as .tflite files, each run in others' interpreters before it counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dtmm import runtime_c
from dtmm.artifact import write_atomic
from dtmm.deploy.project import identifier
from dtmm.deploy.tflite_custom import kernel_header, smaller_layers, write_custom_tflite
from dtmm.device.provenance import dtmm_version, git_commit
from dtmm.errors import MeasurementError
from dtmm.network.ir import FullyConnected, op_inputs
from dtmm.network.tflite_writer import write_tflite
from dtmm.quantization import QuantizedNetwork, run
from dtmm.scheduler import Schedule

Int8 = npt.NDArray[np.int8]

SCHEDULE, PROVENANCE = "dtmm_schedule", "dtmm_provenance"
"""Names of the file's metadata entries; both are JSON."""

OPERATOR_FILES = (
    "dtmm_conv_2d_op.c",
    "dtmm_conv_2d_op.h",
    "dtmm_conv_2d_tflm.cc",
    "dtmm_conv_2d_tflm.h",
)


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        model: the standard file. compressed: that with DTMM_CONV_2D, None where no layer gets
            smaller. operator: the operator's sources for TFLM, None likewise.
        custom_layers: the convolutions that are DTMM_CONV_2D in it.
        checks: by interpreter what it found, or why it did not run.
    """

    model: Path
    compressed: Path | None
    operator: Path | None
    custom_layers: tuple[str, ...]
    checks: Mapping[str, str]


def export_tflite(
    network: QuantizedNetwork, folder: Path, images: Int8, schedule: Schedule | None = None
) -> Export:
    """Write NAME.tflite; where a layer gets smaller also NAME.dtmm.tflite and the operator.

    Args:
        images: [N, H, W, C] int8, on which the interpreters must compute what the reference does.
        schedule: what pruning decided, for the metadata.

    Raises:
        MeasurementError: an interpreter's output differs; nothing is written.
        ToolchainError: the [tflite] extra is not installed.
        UnsupportedError: an operator that .tflite cannot express.
    """
    entries = metadata(schedule)
    standard = write_tflite(network, metadata=entries)
    checks = check_export(network, standard, images)
    layers = smaller_layers(network)
    folder.mkdir(parents=True, exist_ok=True)
    name = identifier(network.name)
    model = folder / f"{name}.tflite"
    write_atomic(model, standard)
    compressed = operator = None
    if layers:
        compressed, operator = folder / f"{name}.dtmm.tflite", folder / "operator"
        write_atomic(compressed, write_custom_tflite(network, layers, metadata=entries))
        _write_operator(operator, kernel_header(network, layers))
    return Export(model, compressed, operator, layers, checks)


def metadata(schedule: Schedule | None) -> dict[str, bytes]:
    """What a file says about itself: who wrote it, and what every layer kept."""
    about: dict[str, Any] = {"dtmm_version": dtmm_version(), "commit": git_commit()}
    entries = {PROVENANCE: about}
    if schedule is not None:
        about |= {"solver": schedule.solver, "gap": schedule.gap}
        names = ("channels", "filterlets", "kernels", "latency", "flash", "sram", "loss")
        entries[SCHEDULE] = {
            name: dict(value) if isinstance(value := getattr(schedule, name), Mapping) else value
            for name in names
        }
    return {name: json.dumps(entry).encode() for name, entry in entries.items()}


def check_export(network: QuantizedNetwork, content: bytes, images: Int8) -> dict[str, str]:
    """Run a standard file in the interpreters that are installed.

    TFLM must give the reference's outputs. LiteRT's reference kernels must give every layer of it,
    but those behind a FULLY_CONNECTED, which they round once where TFLM rounds twice: that itself
    may differ by one.

    Returns:
        By interpreter, "LiteRT" and "TFLM": what was compared, or that it is not installed.

    Raises:
        MeasurementError: a byte differs.
    """
    expected = run(network, images, keep_all=True)
    return {
        "LiteRT": _in_litert(network, content, images, expected),
        "TFLM": _in_tflm(network, content, images, expected),
    }


def _in_litert(
    network: QuantizedNetwork, content: bytes, images: Int8, expected: Mapping[str, Int8]
) -> str:
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        return "not installed: pip install 'dtmm[tflite]'"
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    index = {tensor["name"]: tensor["index"] for tensor in interpreter.get_tensor_details()}
    inexact: set[str] = set()
    for n, image in enumerate(images):
        interpreter.set_tensor(index[network.inputs[0]], image[None])
        interpreter.invoke()
        for op in network.ops:
            want = expected[op.output][n].ravel().astype(np.int64)
            off = np.abs(interpreter.get_tensor(index[op.output]).ravel() - want)
            if not off.any():
                continue
            rounded = isinstance(op, FullyConnected) and off.max() == 1
            if not (rounded or inexact.intersection(op_inputs(op))):
                raise MeasurementError(
                    f"{network.name}: {np.count_nonzero(off)} of {off.size} bytes of "
                    f"{op.output!r} differ in LiteRT from the integer reference's"
                )
            inexact.add(op.output)
    exact = len(network.ops) - len(inexact)
    return f"{exact} of {len(network.ops)} layers equal to the byte on {len(images)} images" + (
        "; the others lie at or behind a FULLY_CONNECTED, which it rounds otherwise"
        if inexact
        else ""
    )


def _in_tflm(
    network: QuantizedNetwork, content: bytes, images: Int8, expected: Mapping[str, Int8]
) -> str:
    try:
        from tflite_micro import runtime
    except ImportError:
        return "not installed: pip install --pre tflite_micro"
    activations = sum(int(np.prod(tensor.shape)) for tensor in network.tensors.values())
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=2 * activations + (1 << 20))
    want = expected[network.outputs[0]]
    for n, image in enumerate(images):
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        different = int((interpreter.get_output(0)[0] != want[n]).sum())
        if different:
            raise MeasurementError(
                f"{network.name}: {different} of {want[n].size} output bytes differ in TFLM from "
                "the integer reference's"
            )
    return f"all {want.size} output bytes of {len(images)} images are equal"


def _write_operator(folder: Path, kernels: str) -> None:
    """The operator's sources, the run kernels of the model, and the C library."""
    shutil.rmtree(folder, ignore_errors=True)
    source = resources.files("dtmm.deploy") / "tflm"
    folder.mkdir(parents=True)
    for name in OPERATOR_FILES:
        shutil.copy(str(source / name), folder / name)
    (folder / "dtmm_op_kernels.h").write_text(kernels, encoding="utf-8")
    for name in ("include", "src"):
        shutil.copytree(runtime_c.folder() / name, folder / "dtmm" / name)


def describe(made: Export) -> str:
    """One line."""
    sizes = f"{made.model.name} {made.model.stat().st_size:,} bytes"
    if made.compressed is not None:
        sizes += (
            f", {made.compressed.name} {made.compressed.stat().st_size:,} bytes "
            f"({len(made.custom_layers)} DTMM_CONV_2D)"
        )
    return "; ".join([sizes, *(f"{name}: {found}" for name, found in made.checks.items())])
