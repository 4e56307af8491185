"""Runs generated C on this machine, in the process, through a shared library."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dtmm import runtime_c
from dtmm.deploy.deployment import Deployment
from dtmm.deploy.project import render_project
from dtmm.device.build import build_host_library
from dtmm.device.cache import cache_dir, digest
from dtmm.errors import DtmmError, MeasurementError

Int8 = npt.NDArray[np.int8]

_ALIGNMENT = 16
_CHUNK = 64
"""Images per task: large enough to amortise Python, small enough for a moving progress bar."""


class HostModel:
    """A deployment compiled with the host's C compiler.

    Raises:
        ToolchainError: there is no C compiler, or it refuses the code.
    """

    def __init__(self, deployment: Deployment) -> None:
        network = deployment.network
        self._input_shape = network.tensors[network.inputs[0]].shape[1:]
        self._output_shape = network.tensors[network.outputs[0]].shape[1:]
        self._arena_bytes = deployment.arena.bytes
        library = ctypes.CDLL(str(_build(deployment)))
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
        if images.dtype != np.int8 or images.shape[1:] != self._input_shape:
            raise DtmmError(
                f"images are {images.dtype} of shape {images.shape}, expected int8 "
                f"(N, {', '.join(map(str, self._input_shape))})"
            )
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


def _build(deployment: Deployment) -> Path:
    """The shared library, from the cache if this very code was compiled before."""
    files = {name: text for name, text in render_project(deployment).items() if "model/" in name}
    runtime = [path for path in runtime_c.folder().rglob("*.[ch]")]
    key = digest([*files.values(), *(path.read_bytes() for path in sorted(runtime))])
    folder = cache_dir() / "models" / key[:24]
    library = folder / "model.so"
    if not library.is_file():
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        build_host_library(
            sources=[*folder.glob("model/*.c"), *runtime_c.sources()],
            out_so=library,
            include_dirs=[folder / "model", runtime_c.include_dir()],
        )
    return library
