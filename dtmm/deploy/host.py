"""Runs generated C on this machine, in the process, through a shared library."""

from __future__ import annotations

import ctypes
import re
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm import runtime_c
from dtmm.deploy.deployment import Deployment, check_images
from dtmm.deploy.project import render_project
from dtmm.device.build import build_host_library
from dtmm.device.cache import cache_dir, digest
from dtmm.errors import DtmmError, MeasurementError

Int8 = npt.NDArray[np.int8]

_ALIGNMENT = 16
_AXES = ("HEIGHT", "WIDTH", "CHANNELS")
_CHUNK = 64
"""Images per task: large enough to amortise Python, small enough for a moving progress bar."""

_SIZE = re.compile(r"^#define DTMM_MODEL_(\w+) (\d+)$", re.MULTILINE)


class HostModel:
    """A deployment, or the C project of one, compiled with the host's C compiler.

    Args:
        source: a deployment, or the folder of a project; a project's outputs come flat,
            [N, bytes].

    Raises:
        ToolchainError: there is no C compiler, or it refuses the code.
        DtmmError: the folder holds no project.
    """

    def __init__(self, source: Deployment | Path) -> None:
        if isinstance(source, Path):
            sizes = _sizes(source)
            self._input_shape = tuple(sizes[f"INPUT_{axis}"] for axis in _AXES)
            self._output_shape: tuple[int, ...] = (sizes["OUTPUT_BYTES"],)
            self._arena_bytes = sizes["ARENA_BYTES"]
            library = ctypes.CDLL(str(_build_project(source)))
        else:
            network = source.network
            self._input_shape = network.tensors[network.inputs[0]].shape[1:]
            self._output_shape = network.tensors[network.outputs[0]].shape[1:]
            self._arena_bytes = source.arena.bytes
            library = ctypes.CDLL(str(_build_deployment(source)))
        self._function = library.dtmm_model_run
        self._function.argtypes = [ctypes.c_void_p] * 3
        self._function.restype = ctypes.c_int

    def run(
        self,
        images: Int8,
        threads: int = 2,
        progress: Callable[[int, int], None] | None = None,
    ) -> Int8:
        """Outputs [N, ...] int8 of images [N, H, W, C] int8; each thread has an arena of its own.

        Raises:
            DtmmError: images of another shape or dtype.
            MeasurementError: the C library returned a status other than DTMM_OK.
        """
        check_images(images, self._input_shape)
        outputs = np.empty((len(images), *self._output_shape), np.int8)
        starts = range(0, len(images), _CHUNK)
        with ThreadPoolExecutor(threads) as pool:
            tasks = [
                pool.submit(self._run_chunk, images[s : s + _CHUNK], outputs[s : s + _CHUNK])
                for s in starts
            ]
            for start, task in zip(starts, tasks, strict=True):
                task.result()
                if progress is not None:
                    progress(min(start + _CHUNK, len(images)), len(images))
        return outputs

    def _run_chunk(self, images: Int8, outputs: Int8) -> None:
        images = np.ascontiguousarray(images)
        memory = np.empty(self._arena_bytes + _ALIGNMENT, np.int8)
        arena = memory.ctypes.data + -memory.ctypes.data % _ALIGNMENT
        for n in range(len(images)):
            status = self._function(arena, images[n].ctypes.data, outputs[n].ctypes.data)
            if status != 0:
                raise MeasurementError(f"dtmm_model_run returned status {status}, expected 0")


def _sizes(project: Path) -> dict[str, int]:
    """The sizes that a project's header states."""
    header = project / "model" / "model.h"
    try:
        text = header.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DtmmError(f"{project} is no C project: {header}: {error.strerror}") from None
    sizes = {name: int(value) for name, value in _SIZE.findall(text)}
    wanted = {"ARENA_BYTES", "OUTPUT_BYTES", *(f"INPUT_{axis}" for axis in _AXES)}
    if absent := sorted(wanted - sizes.keys()):
        raise DtmmError(f"{header} does not define DTMM_MODEL_{absent[0]}")
    return sizes


def _build_deployment(deployment: Deployment) -> Path:
    with tempfile.TemporaryDirectory(prefix="dtmm-host-") as name:
        model = Path(name)
        for path, text in render_project(deployment).items():
            if path.startswith("model/"):
                (model / Path(path).name).write_text(text, encoding="utf-8")
        return _build(sorted(model.glob("*.[ch]")), runtime_c.folder())


def _build_project(project: Path) -> Path:
    return _build(sorted((project / "model").glob("*.[ch]")), project / "dtmm")


def _build(model: Sequence[Path], runtime: Path) -> Path:
    """The model's shared library, from the cache if this very code was compiled before."""
    library = runtime_library(runtime)
    code = (part for path in model for part in (path.name, path.read_bytes()))
    target = library.with_name(f"{library.stem}-{digest(code)}.so")
    if not target.is_file():
        build_host_library(
            sources=[*(path for path in model if path.suffix == ".c"), library],
            out_so=target,
            include_dirs=[model[0].parent, runtime / "include"],
        )
    return target


def runtime_library(runtime: Path) -> Path:
    """The C library, compiled once for all models that run on the same code."""
    code = sorted([*(runtime / "src").glob("*.c"), *runtime.rglob("*.h")])
    key = digest(part for path in code for part in (path.name, path.read_bytes()))
    library = cache_dir() / "models" / f"{key}.so"
    if not library.is_file():
        build_host_library(
            sources=[path for path in code if path.suffix == ".c"],
            out_so=library,
            include_dirs=[runtime / "include"],
        )
    return library
