"""How the files of a C project lie: for CMake, as a Zephyr module, as an Arduino library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dtmm.errors import ConfigError


@dataclass(frozen=True)
class ProjectLayout:
    """Where the parts of a project go.

    Attributes:
        files: path of each generated file by template; {identifier} is the network's.
        runtime: the C library's folders, from their names in `dtmm/runtime_c` to those here.
    """

    files: Mapping[str, str]
    runtime: Mapping[str, str]

    @property
    def header(self) -> str:
        """The model's header: by it an earlier project is known."""
        return self.files["model.h.jinja"]


def _model(folder: str) -> dict[str, str]:
    names = ("model.h", "model.c", "weights.h", "weights.c")
    return {f"{name}.jinja": f"{folder}/{name}" for name in names}


LAYOUTS: Mapping[str, ProjectLayout] = {
    "cmake": ProjectLayout(
        files={
            **_model("model"),
            "main.c.jinja": "main.c",
            "CMakeLists.txt.jinja": "CMakeLists.txt",
            "README.md.jinja": "README.md",
        },
        runtime={
            "include": "dtmm/include",
            "src": "dtmm/src",
            "cmake": "dtmm/cmake",
            "CMakeLists.txt": "dtmm/CMakeLists.txt",
        },
    ),
    "zephyr": ProjectLayout(
        files={
            **_model("model"),
            "zephyr/module.yml.jinja": "zephyr/module.yml",
            "zephyr/Kconfig.jinja": "zephyr/Kconfig",
            "zephyr/CMakeLists.txt.jinja": "zephyr/CMakeLists.txt",
            "zephyr/README.md.jinja": "README.md",
        },
        runtime={"include": "dtmm/include", "src": "dtmm/src"},
    ),
    # Arduino compiles all below src/ with src/ as the only include folder
    "arduino": ProjectLayout(
        files={
            **_model("src"),
            "arduino/library.h.jinja": "src/{identifier}.h",
            "arduino/library.properties.jinja": "library.properties",
            "arduino/infer.ino.jinja": "examples/infer/infer.ino",
            "arduino/README.md.jinja": "README.md",
        },
        runtime={"include/dtmm": "src/dtmm", "src": "src/dtmm"},
    ),
}
"""By name."""


def find_layout(name: str) -> ProjectLayout:
    """One of LAYOUTS. Raises ConfigError on any other name."""
    if name not in LAYOUTS:
        raise ConfigError(f"project layout {name!r}: expected one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]
