"""Writes a self-contained C project for a deployment."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import jinja2

import dtmm
from dtmm import runtime_c
from dtmm.deploy.deployment import Deployment
from dtmm.deploy.layouts import LAYOUTS, ProjectLayout, find_layout
from dtmm.deploy.steps import comment, step_codes, step_views, view_numbers
from dtmm.errors import DtmmError


@dataclass(frozen=True)
class _LayerArrays:
    """A layer's constants as the templates print them."""

    id: int
    title: str
    weights: list[int]
    index: list[int]
    index_bytes: int
    params: list[list[int]]


def write_project(deployment: Deployment, folder: Path, layout: str = "cmake") -> Path:
    """Write the project to `folder`, replacing an earlier one only once the new one is complete.

    Args:
        layout: one of LAYOUTS, by name.

    Raises:
        ConfigError: an unknown layout.
        DtmmError: the folder cannot be written, or holds something else than a project.
        UnsupportedError: the network needs an operator that has no C code.
    """
    files = render_project(deployment, layout)
    folder = folder.resolve()
    _require_replaceable(folder)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.tmp")
    try:
        for name, text in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        _copy_runtime(temporary, find_layout(layout))
        _put_in_place(temporary, folder)
    except OSError as error:
        raise DtmmError(f"cannot write C project {folder}: {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _put_in_place(new: Path, folder: Path) -> None:
    """Rename `new` to `folder`; an earlier project is deleted last, or comes back on failure."""
    if not folder.exists():
        new.replace(folder)
        return
    old = new.with_suffix(".old")  # a folder cannot be replaced by another in one step
    folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def render_project(deployment: Deployment, layout: str = "cmake") -> dict[str, str]:
    """The generated files by relative path, without the runtime's copy."""
    files = find_layout(layout).files
    network = deployment.network
    layer_ids = {name: n for n, name in enumerate(deployment.layers)}
    steps = step_codes(deployment, layer_ids)
    views = step_views(deployment, steps)
    source, target = network.tensors[network.inputs[0]], network.tensors[network.outputs[0]]
    values = {
        "name": comment(network.name),
        "identifier": identifier(network.name),
        "version": dtmm.__version__,
        "arena_bytes": deployment.arena.bytes,
        "size": deployment.size,
        "steps": steps,
        "views": views,
        "layers": [_arrays(deployment, name, number) for name, number in layer_ids.items()],
        "input": views[0],
        "input_scale": repr(source.scale),
        "input_zero_point": source.zero_point,
        "output_view": view_numbers(deployment)[network.outputs[0]],
        "output_bytes": _product(target.shape),
        "output_scale": repr(target.scale),
        "output_zero_point": target.zero_point,
    }
    templates = _templates()
    return {
        path.format(identifier=values["identifier"]): templates.get_template(template).render(
            values
        )
        for template, path in files.items()
    }


def identifier(name: str) -> str:
    """A C and CMake identifier made from a network's name."""
    cleaned = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "model"
    return cleaned if not cleaned[0].isdigit() else f"_{cleaned}"


def _require_replaceable(folder: Path) -> None:
    """Whoever names a folder of their own by mistake must not lose it."""
    if not folder.exists():
        return
    ours = any(
        (folder / layout.header).is_file() and all((folder / to).exists() for to in runtime)
        for layout in LAYOUTS.values()
        for runtime in [layout.runtime.values()]
    )
    if not folder.is_dir() or not (ours or not any(folder.iterdir())):
        raise DtmmError(
            f"cannot write C project {folder}: something else is there; "
            "expected an earlier project, an empty folder or nothing"
        )


def _product(shape: Iterable[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _arrays(deployment: Deployment, name: str, number: int) -> _LayerArrays:
    layer = deployment.layers[name]
    kernel = deployment.kernels.get(name, "fully_connected")
    return _LayerArrays(
        id=number,
        title=comment(f"{name}: {kernel}"),
        # An empty array is not C: a convolution that lost every filterlet keeps one unread byte.
        weights=layer.weights.tolist() or [0],
        index=layer.index.tolist(),
        index_bytes=layer.index.itemsize,
        params=layer.parameters.tolist(),
    )


def _rows(values: list[int], per_row: int = 24) -> str:
    rows = (values[start : start + per_row] for start in range(0, len(values), per_row))
    return ",\n".join("  " + ", ".join(map(str, row)) for row in rows)


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(str(resources.files("dtmm.deploy") / "templates"))
    environment = jinja2.Environment(
        loader=loader,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["rows"] = _rows
    return environment


def _copy_runtime(project: Path, layout: ProjectLayout) -> None:
    for name, to in layout.runtime.items():
        source, target = runtime_c.folder() / name, project / to
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)
