"""The C project as its receiver meets it: CMake alone, awkward names, folders that must not go."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dtmm.deploy import Deployment, HostModel, plan, write_project
from dtmm.deploy.project import identifier
from dtmm.errors import DtmmError
from dtmm.planning import layout
from dtmm.quantization import QuantizedNetwork, quantize, run
from dtmm.training.calibrate import activation_ranges
from tests.training.networks import Builder

AWKWARD = 'a*/ name ${X} "q"\n#error \\'
"""It would end a C comment, a CMake comment and a string, if it got there as it is."""


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    b = Builder(5, (1, 6, 5, 3))
    last = b.mean(b.conv(AWKWARD, "x", 5, bias=True))
    network = b.build(AWKWARD, b.fc("classifier", last, 4))
    images = np.random.default_rng(2).normal(size=(8, 6, 5, 3)).astype(np.float32)
    return plan(quantize(network, activation_ranges(network, images)), layout(network))


@pytest.fixture(scope="module")
def network(deployment: Deployment) -> QuantizedNetwork:
    return deployment.network


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(-128, 128, (5, 6, 5, 3)).astype(np.int8)


def cmake(*arguments: str | Path) -> None:
    done = subprocess.run(["cmake", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def program(
    deployment: Deployment, tmp_path_factory: pytest.TempPathFactory, toolchain: None
) -> Path:
    """The example, built by CMake with every warning an error."""
    folder = tmp_path_factory.mktemp("built")
    project = write_project(deployment, folder / "project")
    cmake("-S", project, "-B", folder / "b", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror")
    cmake("--build", folder / "b")
    return folder / "b" / identifier(AWKWARD)


def test_the_example_streams_images(
    program: Path, network: QuantizedNetwork, images: np.ndarray
) -> None:
    done = subprocess.run([program], input=images.tobytes(), capture_output=True, check=True)
    assert done.stdout == run(network, images).tobytes()


def test_the_example_takes_files(
    program: Path, network: QuantizedNetwork, images: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(images.tobytes())
    subprocess.run([program, tmp_path / "in", tmp_path / "out"], check=True)
    assert (tmp_path / "out").read_bytes() == run(network, images).tobytes()


@pytest.mark.parametrize(
    ("arguments", "data", "says"),
    [((), b"\0" * 100, b"cut short"), (("/nonexistent/images",), b"", b"/nonexistent/images")],
)
def test_the_example_says_what_is_wrong(
    program: Path, arguments: tuple[str, ...], data: bytes, says: bytes
) -> None:
    done = subprocess.run([program, *arguments], input=data, capture_output=True, check=False)
    assert done.returncode == 1
    assert says in done.stderr


def test_cmake_builds_for_the_device(
    deployment: Deployment, toolchain: None, tmp_path: Path
) -> None:
    """The runtime and the model: a device has no files for the example to read."""
    project = write_project(deployment, tmp_path / "project")
    file = project / "dtmm" / "cmake" / "cortex-m55-clang.cmake"
    cmake("-S", project, "-B", tmp_path / "b", f"-DCMAKE_TOOLCHAIN_FILE={file}")
    cmake("--build", tmp_path / "b")
    library = next((tmp_path / "b").glob(f"*{identifier(AWKWARD)}*.a"))
    symbols = subprocess.run(["nm", library], capture_output=True, text=True, check=True).stdout
    assert " T dtmm_model_run" in symbols


def test_a_failing_swap_brings_the_old_project_back(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(deployment, tmp_path / "project")
    (project / "model" / "model.h").write_text("the old one")
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp" and Path(target) == project:
            raise OSError("disk full")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DtmmError, match="disk full"):
        write_project(deployment, project)
    assert (project / "model" / "model.h").read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


@pytest.mark.parametrize("name", ["test", "dtmm", "3x3 conv", "日本"])
def test_cmake_accepts_any_name(name: str, deployment: Deployment, tmp_path: Path) -> None:
    named = dataclasses.replace(deployment.network, name=name)
    project = write_project(dataclasses.replace(deployment, network=named), tmp_path / "p")
    cmake("-S", project, "-B", tmp_path / "b")


def test_a_project_runs_on_the_host_without_its_deployment(
    deployment: Deployment, network: QuantizedNetwork, images: np.ndarray, tmp_path: Path
) -> None:
    project = write_project(deployment, tmp_path / "project")
    assert np.array_equal(HostModel(project).run(images), run(network, images))
    with pytest.raises(DtmmError, match="no C project"):
        HostModel(tmp_path)


def test_a_folder_of_something_else_is_left_alone(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DtmmError, match="something else is there"):
        write_project(deployment, tmp_path)
    with pytest.raises(DtmmError, match="something else is there"):
        write_project(deployment, tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_same_deployment_gives_the_same_files(deployment: Deployment, tmp_path: Path) -> None:
    first, second = (write_project(deployment, tmp_path / name) for name in ("a", "b"))
    again = write_project(deployment, first)
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert again == first
    assert files == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)
