"""Zephyr modules and Arduino libraries: their files, compiled as those systems compile them.

Neither system is installed here: what is tried is its include folders and its compiler flags.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dtmm.deploy import Deployment, plan, write_project
from dtmm.device.elf import symbols
from dtmm.device.toolchain import require_tool
from dtmm.errors import ConfigError, DtmmError
from dtmm.planning import layout
from tests.quantization.oracles import calibrated
from tests.training.networks import Builder

MACHINES = {
    "m55": ("-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"),
    "m4": ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
}
FLAGS = {
    "cmake": ("-O3", "-std=c11", "-fomit-frame-pointer"),
    "zephyr": ("-O3", "-fomit-frame-pointer", "-std=c17", "-ffreestanding", "-fno-common",
               "-fno-strict-aliasing", "-Wall", "-Wformat", "-Wno-format-zero-length"),
    "arduino": ("-Os", "-std=gnu11", "-nostdlib", "-Wall"),
}  # fmt: skip
INCLUDES = {
    "cmake": ("model", "dtmm/include"),
    "zephyr": ("model", "dtmm/include"),
    "arduino": ("src",),
}
QUICK = ("model.c", "weights.c", "dtmm_depthwise_conv_s8.c", "dtmm_conv_runs.c", "dtmm_point_p16.S")


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    b = Builder(5, (1, 9, 9, 3))
    last = b.mean(b.depthwise("deep", b.conv("stem", "x", 16, bias=True)))
    network = b.build("tiny net", b.fc("classifier", last, 4))
    return plan(calibrated(network, 0)[0], layout(network))


def check_compiles(project: Path, name: str, machine: str, every: bool) -> None:
    files = [p for p in project.rglob("*") if p.suffix in (".c", ".S") and p.name != "main.c"]
    files = sorted(p for p in files if every or p.name in QUICK)
    assert len(files) > 100 if every else len(files) == len(QUICK)
    where = [f"-I{project / folder}" for folder in INCLUDES[name]]
    command = [
        require_tool("arm-none-eabi-gcc").found_path, *MACHINES[machine], *FLAGS[name], "-Werror",
        "-ffunction-sections", "-fdata-sections", *where, "-c", *files,
    ]  # fmt: skip
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False,
        cwd=project.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(project.parent.glob("*.o"))) == len(files)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", FLAGS)
def test_it_compiles(
    deployment: Deployment, name: str, machine: str, toolchain: None, full: bool, tmp_path: Path
) -> None:
    project = write_project(deployment, tmp_path / "project", name)
    check_compiles(project, name, machine, every=full)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_linker_script_places_the_constants(
    deployment: Deployment, machine: str, toolchain: None, tmp_path: Path
) -> None:
    """By the very lines of docs/frameworks.md."""
    document = (Path(__file__).parents[2] / "docs" / "frameworks.md").read_text()
    lines = re.findall(r"^    \.dtmm_.*$", document, re.MULTILINE)
    assert len(lines) == 2
    script = tmp_path / "place.ld"
    script.write_text(
        "MEMORY { ITCM (rx) : ORIGIN = 0, LENGTH = 512K\n"
        "EXTERNAL_FLASH (r) : ORIGIN = 0x70000000, LENGTH = 8M }\n"
        "SECTIONS {\n" + "\n".join(lines) + "\n}\n"
    )
    project = write_project(deployment, tmp_path / "project")
    gcc = require_tool("arm-none-eabi-gcc").found_path
    command = [gcc, *MACHINES[machine], *(f"-I{project / f}" for f in INCLUDES["cmake"]),
               "-nostdlib", "-Wl,--entry=0", f"-Wl,-T,{script}", project / "model" / "weights.c",
               "-o", tmp_path / "placed.elf"]  # fmt: skip
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    arrays = [each for each in symbols(tmp_path / "placed.elf") if each.name.startswith("dtmm_")]
    assert len(arrays) >= 5
    for array in arrays:
        assert (array.address >= 0x70000000) == ("_weights_" in array.name), array


def test_a_zephyr_module(deployment: Deployment, tmp_path: Path) -> None:
    project = write_project(deployment, tmp_path / "p", "zephyr")
    assert "name: tiny_net\n" in (project / "zephyr" / "module.yml").read_text()
    assert (project / "zephyr" / "Kconfig").read_text().startswith("config TINY_NET\n\tbool")
    build = (project / "zephyr" / "CMakeLists.txt").read_text()
    assert "if(CONFIG_TINY_NET)" in build
    assert "zephyr_library_named(tiny_net)" in build
    assert "CONFIG_TINY_NET=y" in (project / "README.md").read_text()


def test_an_arduino_library(deployment: Deployment, tmp_path: Path, toolchain: None) -> None:
    project = write_project(deployment, tmp_path / "p", "arduino")
    properties = dict(
        line.split("=", 1) for line in (project / "library.properties").read_text().splitlines()
    )
    assert properties.keys() >= {
        "name", "version", "author", "maintainer", "sentence", "paragraph", "category",
        "architectures", "includes",
    }  # fmt: skip
    assert (project / "src" / properties["includes"]).is_file()
    sketch = tmp_path / "infer.cpp"  # the sketch itself, with what an Arduino core declares
    declared = "struct S { void begin(long); void println(int); } Serial; void delay(int);\n"
    sketch.write_text(declared + (project / "examples" / "infer" / "infer.ino").read_text())
    command = [require_tool("clang").found_path, "-std=c++17", "-fsyntax-only", "-Wall", "-Werror",
               f"-I{project / 'src'}", sketch]  # fmt: skip
    done = subprocess.run([str(w) for w in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_one_layout_replaces_another(deployment: Deployment, tmp_path: Path) -> None:
    write_project(deployment, tmp_path / "p", "arduino")
    project = write_project(deployment, tmp_path / "p", "cmake")
    assert not (project / "src").exists()
    assert (project / "dtmm" / "CMakeLists.txt").is_file()


def test_an_unknown_layout_is_named(deployment: Deployment, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="layout 'rust': expected one of cmake, zephyr, arduino"):
        write_project(deployment, tmp_path / "p", "rust")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(DtmmError, match="something else is there"):
        write_project(deployment, tmp_path / "mine", "arduino")
