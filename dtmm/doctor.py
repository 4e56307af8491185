"""What `dtmm doctor` finds: programs, packages, solvers, data. Nothing heavy is imported."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from dtmm.data.fashion_mnist import DEFAULT_FOLDER, FILES
from dtmm.device.toolchain import tools_report
from dtmm.scheduler import list_solvers

_CORE = ("torch", "numpy", "scipy", "pulp", "highspy", "pandas", "matplotlib")

_OPTIONAL = {
    "ai-edge-litert": ("writing .tflite files", "tflite"),
    "tflite_micro": ("tests against TFLM", "test"),
    "distributed": ("sweeps on a Dask cluster", "dask"),
    "scikit-learn": ("the digits dataset", "test"),
}

_FVP = "FVP_Corstone_SSE-300_Ethos-U55"


@dataclass(frozen=True)
class Finding:
    """One thing that may be there: `optional` things do not make the examination fail."""

    name: str
    found: bool
    version: str | None
    needed_for: str
    how_to_get: str
    optional: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def examine() -> list[Finding]:
    """Everything this library uses, found or not."""
    return [*_tools(), *_packages(), *_solvers(), *_data()]


def _tools() -> list[Finding]:
    tools = [
        Finding(tool.name, tool.found_path is not None, tool.version, tool.needed_for,
                tool.how_to_get)
        for tool in tools_report()
    ]  # fmt: skip
    cmake, fvp = shutil.which("cmake"), shutil.which(_FVP)
    return [
        *tools,
        Finding("cmake", cmake is not None, None, "building generated C projects",
                "apt install cmake", optional=True),
        Finding(_FVP, fvp is not None, None, "measuring on the FVP", "Arm's developer site",
                optional=True),
    ]  # fmt: skip


def _packages() -> list[Finding]:
    core = [_package(name, "everything", "pip install dtmm", False) for name in _CORE]
    optional = [
        _package(name, why, f"pip install 'dtmm[{extra}]'", True)
        for name, (why, extra) in _OPTIONAL.items()
    ]
    return core + optional


def _package(name: str, why: str, how: str, optional: bool) -> Finding:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = None
    return Finding(name, version is not None, version, why, how, optional)


def _solvers() -> list[Finding]:
    return [
        Finding(f"solver {name}", version is not None, version, "scheduling",
                "pip install highspy pulp", optional=True)
        for name, version in list_solvers().items()
    ]  # fmt: skip


def _data() -> list[Finding]:
    there = all((DEFAULT_FOLDER / name).is_file() for name in FILES.values())
    package = util.find_spec("dtmm.models")
    folder = Path(package.origin).parent if package and package.origin else Path()
    shipped = sorted(path.name for path in (folder / "checkpoints").glob("*.safetensors"))
    return [
        Finding(str(DEFAULT_FOLDER), there, None, "the demo's images",
                "apt install dataset-fashion-mnist"),
        Finding("shipped checkpoints", bool(shipped), None, ", ".join(shipped) or "the demo",
                "dtmm train"),
    ]  # fmt: skip
