"""Every byte of every layer of one inference: TFLM, integer reference, host C library, M55."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm import runtime_c
from dtmm.deploy import Deployment, plan
from dtmm.deploy.firmware import build_firmware, read_outputs
from dtmm.deploy.host import runtime_library
from dtmm.deploy.project import render_project
from dtmm.deploy.steps import step_codes
from dtmm.device.build import build_host_library
from dtmm.device.memory import MemoryMap
from dtmm.device.qemu import run_firmware
from dtmm.network.ir import Conv2D
from dtmm.planning import layout
from dtmm.quantization import QuantizedNetwork, run
from dtmm.quantization.dequantize import dequantize
from dtmm.quantization.tflite_file import parse_tflite
from dtmm.quantization.tflite_reader import TfliteReader
from tests.quantization.oracles import tflm
from tests.runtime_c.library import Tensor

Int8 = npt.NDArray[np.int8]

ROOMY = MemoryMap(weights="DDR", weights_overflow=None, data="DDR")
"""For networks that no microcontroller holds."""

HOOKS = """
void (*dtmm_test_trace)(int step, const dtmm_tensor *tensor);
#define DTMM_STEP_END(step)                                              \\
  do {                                                                   \\
    if ((step) < DTMM_MODEL_STEPS - 1) {                                 \\
      const dtmm_tensor made = dtmm_model_step_output(arena, step);      \\
      dtmm_test_trace(step, &made);                                      \\
    }                                                                    \\
  } while (0)
/* As in the harness; in Python it would take minutes. */
unsigned dtmm_test_fnv1a(const unsigned char *data, long size) {
  unsigned hash = 2166136261u;
  for (long n = 0; n < size; n++) hash = (hash ^ data[n]) * 16777619u;
  return hash;
}
"""
TRACE = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(Tensor))


@dataclass(frozen=True)
class Compared:
    """What was equal everywhere; bytes are those of one copy."""

    layers: int
    bytes: int

    def to_dict(self) -> dict[str, int]:
        """For `record_property`, as `tests/conftest.py` adds it up."""
        return {"networks": 1, "layers": self.layers, "bytes": self.bytes}


def pruned(network: QuantizedNetwork, share: float, seed: int) -> QuantizedNetwork:
    """The network without a share of its filterlets, and one filter of each layer dead."""
    rng = np.random.default_rng(seed)
    for op in network.ops:
        if isinstance(op, Conv2D):
            weights = network.params[op.weight]
            weights[rng.random(weights.shape[:3]) < share] = 0
            weights[int(rng.integers(len(weights)))] = 0
    return network


def compare_everywhere(
    network: QuantizedNetwork,
    image: Int8,
    *,
    in_tflm: Mapping[str, Int8] | None = None,
    memory: MemoryMap | None = None,
) -> Compared:
    """Assert that all four agree on [1, H, W, C].

    TFLM and the reference are compared operator by operator. The C code has a step per operator
    that computes: it has none for a Reshape and for a Concat whose parts are made in place, whose
    bytes are their operands'. The device reports a 32-bit FNV-1a of each, and its output in full.

    Args:
        in_tflm: by tensor, what TFLM found; None: it runs the network as our writer writes it.
        memory: of the firmware.
    """
    expected = run(network, image, keep_all=True)
    for name, found in (tflm(network, image) if in_tflm is None else in_tflm).items():
        _require_equal(f"TFLM {name}", found.reshape(expected[name].shape), expected[name])
    deployment = plan(network, layout(dequantize(network)))
    codes = step_codes(deployment, {name: n for n, name in enumerate(deployment.layers)})[:-1]
    with tempfile.TemporaryDirectory() as folder:
        host = HostSteps(deployment, Path(folder))
        found_here = host.run(image)
        assert len(found_here) == len(codes)
        for code, found in zip(codes, found_here, strict=True):
            wanted = expected[code.tensor].reshape(found.shape)
            _require_equal(f"host {code.name}", found, wanted)
        checksums, output = device_steps(deployment, image, Path(folder), memory)
        for number, code in enumerate(codes):
            wanted_sum = host.checksum(expected[code.tensor])
            assert checksums[number] == wanted_sum, f"{network.name}: device {code.name}"
        _require_equal("device output", output, expected[network.outputs[0]])
    return Compared(len(network.ops), sum(expected[op.output].size for op in network.ops))


def _require_equal(what: str, found: Int8, expected: Int8) -> None:
    assert np.array_equal(found, expected), f"{what}: {int((found != expected).sum())} bytes differ"


class HostSteps:
    """A deployment compiled for this machine, in `folder`, with a look at every step's output."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        model = folder / "host"
        model.mkdir()
        for path, text in render_project(deployment).items():
            if path.startswith("model/"):
                (model / Path(path).name).write_text(text)
        (model / "trace.h").write_text(HOOKS)
        built = build_host_library(
            sources=[*model.glob("*.c"), runtime_library(runtime_c.folder())],
            out_so=folder / "steps.so",
            include_dirs=[model, runtime_c.include_dir()],
            defines={"DTMM_MODEL_HOOKS": '"trace.h"'},
        )
        self._library = ctypes.CDLL(str(built))
        self._library.dtmm_model_run.argtypes = [ctypes.c_void_p] * 3
        self._library.dtmm_test_fnv1a.argtypes = [ctypes.c_void_p, ctypes.c_long]
        self._library.dtmm_test_fnv1a.restype = ctypes.c_uint32
        self._arena_bytes = deployment.arena.bytes
        network = deployment.network
        self._output = np.empty(network.tensors[network.outputs[0]].shape, np.int8)

    def run(self, image: Int8) -> list[Int8]:
        """[H, W, C] of every step but the last copy, in order."""
        found: list[Int8] = []

        def keep(step: int, made: ctypes._Pointer[Tensor]) -> None:
            assert step == len(found)
            found.append(_values(made.contents))

        trace = TRACE(keep)
        ctypes.c_void_p.in_dll(self._library, "dtmm_test_trace").value = ctypes.cast(
            trace, ctypes.c_void_p
        ).value
        memory = np.empty(self._arena_bytes + 16, np.int8)
        image = np.ascontiguousarray(image)
        arena = memory.ctypes.data + -memory.ctypes.data % 16
        status = self._library.dtmm_model_run(arena, image.ctypes.data, self._output.ctypes.data)
        assert status == 0
        return found

    def checksum(self, values: Int8) -> int:
        """32-bit FNV-1a."""
        values = np.ascontiguousarray(values)
        return int(self._library.dtmm_test_fnv1a(values.ctypes.data, values.size))


def _values(tensor: Tensor) -> Int8:
    rows = (tensor.height - 1) * tensor.row_stride
    size = rows + (tensor.width - 1) * tensor.pixel_stride + tensor.channels
    flat = np.ctypeslib.as_array((ctypes.c_int8 * size).from_address(tensor.data))
    shape = (tensor.height, tensor.width, tensor.channels)
    strides = (tensor.row_stride, tensor.pixel_stride, 1)
    return np.lib.stride_tricks.as_strided(flat, shape, strides).copy()


def device_steps(
    deployment: Deployment, image: Int8, work: Path, memory: MemoryMap | None = None
) -> tuple[dict[int, int], Int8]:
    """Checksums by step and the output, from the simulated Cortex-M55."""
    (work / "images.int8").write_bytes(image.tobytes())
    elf = build_firmware(deployment, work, 1, 0, profile=True, memory=memory)
    found = run_firmware(elf.path, count_regions=False, cwd=work, timeout_s=1200)
    steps = {line.numbers()[0]: line.numbers()[1] for line in found.all("STEP")}
    return steps, read_outputs(found, deployment, 1)


def tflm_of_file(content: bytes, image: Int8) -> dict[str, Int8]:
    """Every activation of a file as it is, by the name that our reader gives it."""
    from tflite_micro import runtime

    file = parse_tflite(content)
    reader = TfliteReader(file)
    network = reader.network("file")
    interpreter = runtime.Interpreter.from_bytes(
        content,
        arena_size=32 << 20,
        intrepreter_config=runtime.InterpreterConfig.kPreserveAllTensors,
    )
    interpreter.set_input(image, 0)
    interpreter.invoke()
    made = {op.output for op in network.ops}
    found = {}
    for operator in file.operators:
        number = operator.outputs[0]
        if file.tensors[number].kind == "INT8" and reader.activation(number) in made:
            found[reader.activation(number)] = interpreter.GetTensor(number, 0)["tensor_data"]
    assert len(found) >= len(file.operators) // 2
    return found
