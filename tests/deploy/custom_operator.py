"""DTMM_CONV_2D compiled for this machine, inside TFLM's and LiteRT's interpreters."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtmm import runtime_c
from dtmm.deploy.host import runtime_library
from dtmm.deploy.tflite_custom import OPERATOR

SOURCES = Path(str(resources.files("dtmm.deploy") / "tflm"))
HERE = Path(__file__).parent
TFLM_HEADERS = (
    "tensorflow/lite/c/common.h",
    "tensorflow/lite/micro/micro_common.h",
    "tensorflow/lite/micro/micro_context.h",
    "tensorflow/lite/micro/micro_log.h",
    "tensorflow/lite/micro/kernels/kernel_util.h",
)
ALL_KERNELS = "#define DTMM_OP_KERNELS(X) " + " ".join(
    f"X({kernel.name})" for kernel in runtime_c.RUN_KERNELS
)


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@functools.cache
def folder() -> Path:
    """Where the operator is built, once for all tests."""
    made = Path(tempfile.mkdtemp(prefix="dtmm-operator-"))
    (made / "dtmm_op_kernels.h").write_text(ALL_KERNELS + "\n")
    return made


@functools.cache
def operator_library() -> Path:
    """The operator without any interpreter, on the C library."""
    made = folder() / "liboperator.so"
    files = [SOURCES / "dtmm_conv_2d_op.c", runtime_library(runtime_c.folder())]
    where = (f"-I{runtime_c.include_dir()}", f"-I{folder()}")
    _run("cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *where,
         *files, "-o", made)  # fmt: skip
    return made


@functools.cache
def tflm_headers() -> Path:
    """A folder that stands for TFLM's headers."""
    headers = folder() / "headers"
    for name in TFLM_HEADERS:
        (headers / name).parent.mkdir(parents=True, exist_ok=True)
        (headers / name).write_text('#include "tflm_declarations.h"\n')
    return headers


@functools.cache
def tflm_registerer() -> str:
    """Compiles and loads TFLM's adapter; returns the name for `custom_op_registerers`."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler (c++)")
    import tflite_micro

    [runtime] = Path(tflite_micro.__file__).parent.rglob("_runtime.so")
    made = folder() / "libtflm.so"
    where = [f"-I{path}" for path in (tflm_headers(), HERE, SOURCES, runtime_c.include_dir())]
    files = [SOURCES / "dtmm_conv_2d_tflm.cc", HERE / "tflm_register.cc"]
    _run("c++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *where,
         *files, operator_library(), runtime, f"-Wl,-rpath,{folder()}:{runtime.parent}",
         "-o", made)  # fmt: skip
    ctypes.CDLL(str(made), ctypes.RTLD_GLOBAL)
    return "DtmmRegisterOps"


def run_tflm(model: bytes, images: np.ndarray, arena_size: int = 16 << 20) -> np.ndarray:
    """The first output for each image from TFLM, with the operator registered."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(
        model, arena_size=arena_size, custom_op_registerers=[tflm_registerer()]
    )
    found = []
    for image in images:
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        found.append(np.array(interpreter.get_output(0)))
    return np.concatenate(found)


class Operator:
    """One opened operator, as any interpreter's adapter uses it."""

    def __init__(self, options: bytes, blob: np.ndarray, shape: tuple[int, ...]) -> None:
        self.library = ctypes.CDLL(str(operator_library()))
        for name in ("kept", "scratch"):
            getattr(self.library, f"dtmm_conv_2d_op_{name}_bytes").restype = ctypes.c_size_t
        self.options = options
        self.blob = _aligned(blob)
        self.state = np.zeros(1024, np.uint8)
        self._at = ctypes.c_void_p(self.state.ctypes.data)
        self.status = self.library.dtmm_conv_2d_op_open(
            self._at, ctypes.c_char_p(options), ctypes.c_size_t(len(options)),
            ctypes.c_void_p(self.blob.ctypes.data), ctypes.c_size_t(blob.size), *shape,
        )  # fmt: skip

    @property
    def output_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.state[:12].view(np.int32).tolist()
        return height, width, channels

    def run(self, image: np.ndarray) -> np.ndarray:
        size = self.library.dtmm_conv_2d_op_kept_bytes(self._at)
        kept = _aligned(np.zeros(size, np.uint8))
        data = ctypes.c_void_p(kept.ctypes.data)
        assert self.library.dtmm_conv_2d_op_prepare(self._at, data, ctypes.c_size_t(size)) == 0
        size = self.library.dtmm_conv_2d_op_scratch_bytes(self._at)
        scratch = _aligned(np.zeros(size, np.uint8))
        source, target = _aligned(image), np.zeros(self.output_shape, np.int8)
        status = self.library.dtmm_conv_2d_op_run(
            self._at, ctypes.c_void_p(source.ctypes.data), ctypes.c_void_p(target.ctypes.data),
            ctypes.c_void_p(scratch.ctypes.data), ctypes.c_size_t(size),
        )  # fmt: skip
        assert status == 0
        return target


def _aligned(values: np.ndarray) -> np.ndarray:
    memory = np.empty(values.nbytes + 16, np.uint8)
    start = -memory.ctypes.data % 16
    inside = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    inside[...] = values
    return inside


# --- LiteRT's C interface; its wheel ships no headers either -----------------------------------

P, SIZE = ctypes.c_void_p, ctypes.c_size_t
_INT8 = 9
_CPU = 1
_READ, _WRITE = 0, 1


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank", ctypes.c_uint32),  # seven bits of it
        ("dims", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )

    @property
    def shape(self) -> list[int]:
        return list(self.dims[: self.rank & 127])


class _Type(ctypes.Structure):
    _fields_ = (("element", ctypes.c_int), ("layout", _Layout))


_Init = ctypes.CFUNCTYPE(ctypes.c_int, P, P, SIZE)
_Shapes = ctypes.CFUNCTYPE(
    ctypes.c_int, P, SIZE, ctypes.POINTER(_Layout), SIZE, ctypes.POINTER(_Layout)
)
_Run = ctypes.CFUNCTYPE(ctypes.c_int, P, SIZE, ctypes.POINTER(P), SIZE, ctypes.POINTER(P))
_Destroy = ctypes.CFUNCTYPE(ctypes.c_int, P)


class _Kernel(ctypes.Structure):
    _fields_ = (("init", _Init), ("shapes", _Shapes), ("run", _Run), ("destroy", _Destroy))


def run_litert(model: Path, image: np.ndarray, output_shape: tuple[int, ...]) -> np.ndarray:
    """One image through LiteRT, [1, H, W, C]; its custom operators are `Operator`."""
    import ai_edge_litert

    library = ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))

    def call(name: str, *arguments: Any) -> None:
        assert getattr(library, name)(*arguments) == 0, name

    environment, content, options, compiled = P(), P(), P(), P()
    call("LiteRtCreateEnvironment", 0, None, ctypes.byref(environment))
    call("LiteRtCreateModelFromFile", environment, str(model).encode(), ctypes.byref(content))
    call("LiteRtCreateOptions", ctypes.byref(options))
    call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
    kernel = _kernel(call)
    call("LiteRtAddCustomOpKernelOption", options, OPERATOR.encode(), 1, ctypes.byref(kernel), None)
    call("LiteRtCreateCompiledModel", environment, content, options, ctypes.byref(compiled))
    buffers = []
    for side, shape in (("Input", image.shape), ("Output", output_shape)):
        needs, buffer, kind = P(), P(), _Type(_INT8)
        kind.layout.rank = len(shape)
        kind.layout.dims[: len(shape)] = shape
        call(f"LiteRtGetCompiledModel{side}BufferRequirements", compiled, SIZE(0), SIZE(0),
             ctypes.byref(needs))  # fmt: skip
        call("LiteRtCreateManagedTensorBufferFromRequirements", environment, ctypes.byref(kind),
             needs, ctypes.byref(buffer))  # fmt: skip
        buffers.append(buffer)
    with _locked(call, buffers[0].value, _WRITE) as values:
        values[...] = image
    call("LiteRtRunCompiledModel", compiled, SIZE(0), SIZE(1), ctypes.byref(buffers[0]), SIZE(1),
         ctypes.byref(buffers[1]))  # fmt: skip
    with _locked(call, buffers[1].value, _READ) as values:
        return values.copy()


def _kernel(call: Callable[..., None]) -> _Kernel:
    """The C interface's four functions. Each opened operator keeps its options in `opened`."""
    opened: dict[str, bytes] = {}

    @_Init
    def init(_: int, options: int, size: int) -> int:
        opened["options"] = ctypes.string_at(options, size)
        return 0

    @_Shapes
    def shapes(_: int, __: int, inputs: Any, ___: int, outputs: Any) -> int:
        numbers = np.frombuffer(opened["options"], np.int16).tolist()
        kernel, stride, dilation, before, after = (numbers[n : n + 2] for n in range(2, 12, 2))
        sizes = inputs[0].shape[1:3]
        outputs[0].rank = 4
        outputs[0].dims[0], outputs[0].dims[3] = 1, numbers[1]
        for axis in (0, 1):
            room = sizes[axis] + before[axis] + after[axis] - (kernel[axis] - 1) * dilation[axis]
            outputs[0].dims[1 + axis] = (room - 1) // stride[axis] + 1
        return 0

    @_Run
    def run(_: int, __: int, inputs: Any, ___: int, outputs: Any) -> int:
        with (
            _locked(call, inputs[0], _READ) as image,
            _locked(call, inputs[1], _READ) as blob,
            _locked(call, outputs[0], _WRITE) as target,
        ):
            operator = Operator(opened["options"], blob.view(np.uint8), image.shape[1:])
            if operator.status != 0:
                return 1
            target[0] = operator.run(image[0])
        return 0

    @_Destroy
    def destroy(_: int) -> int:
        return 0

    return _Kernel(init, shapes, run, destroy)


@contextmanager
def _locked(call: Callable[..., None], buffer: int | None, mode: int) -> Iterator[np.ndarray]:
    kind, data = _Type(), P()
    call("LiteRtGetTensorBufferTensorType", P(buffer), ctypes.byref(kind))
    call("LiteRtLockTensorBuffer", P(buffer), ctypes.byref(data), mode)
    shape = kind.layout.shape
    pointer = ctypes.cast(data, ctypes.POINTER(ctypes.c_int8))
    yield np.ctypeslib.as_array(pointer, (int(np.prod(shape)),)).reshape(shape)
    call("LiteRtUnlockTensorBuffer", P(buffer))
