"""The C library builds without Python, with both compilers and without a warning, for every kind
of machine it is meant for; and can be installed and used."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dtmm.device.build import target_flags
from dtmm.device.toolchain import require_tool
from dtmm.runtime_c import include_dir, sources

FOLDER = include_dir().parent

USER = """
cmake_minimum_required(VERSION 3.20)
project(user C)
find_package(dtmm 0.1 REQUIRED)
add_executable(user user.c)
target_link_libraries(user dtmm::dtmm)
"""

USER_C = """
#include <dtmm/conv.h>
#include <dtmm/ops.h>
int main(void) {
  int8_t from[4] = {1, 2, 3, 4}, to[4] = {0};
  const dtmm_tensor a = {from, 1, 1, 4, 4, 4, 0}, b = {to, 1, 1, 4, 4, 4, 0};
  return dtmm_copy_s8(0, &a, &b) != DTMM_OK || to[3] != 4;
}
"""


def cmake(*arguments: object) -> None:
    done = subprocess.run(
        ["cmake", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_cmake_package(toolchain: None, tmp_path: Path) -> None:
    build, prefix, user = tmp_path / "build", tmp_path / "prefix", tmp_path / "user"
    cmake("-S", FOLDER, "-B", build)
    cmake("--build", build)
    cmake("--install", build, "--prefix", prefix)
    user.mkdir()
    (user / "CMakeLists.txt").write_text(USER)
    (user / "user.c").write_text(USER_C)
    cmake("-S", user, "-B", user / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    cmake("--build", user / "build")
    assert subprocess.run([user / "build" / "user"], check=False).returncode == 0


def test_cmake_for_the_device(toolchain: None, tmp_path: Path) -> None:
    file = FOLDER / "cmake" / "cortex-m55-clang.cmake"
    cmake("-S", FOLDER, "-B", tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={file}")
    cmake("--build", tmp_path)
    assert (tmp_path / "libdtmm.a").is_file()


M55 = ("-mcpu=cortex-m55", "-mfloat-abi=hard")
BUILDS = {
    "gcc for Cortex-M55": ("arm-none-eabi-gcc", "-O2", *M55),
    "gcc for Cortex-M4": ("arm-none-eabi-gcc", "-O2", "-mcpu=cortex-m4"),
    "clang for this machine": ("clang", "-O2"),
    "clang for Cortex-M55": ("clang", *target_flags("m55"), "-isystem", "/usr/include/newlib"),
    "C++ headers": ("arm-none-eabi-gcc", "-x", "c++", "-std=c++11", "-fsyntax-only"),
}


@pytest.mark.parametrize("build", BUILDS)
def test_no_compiler_warns(toolchain: None, tmp_path: Path, build: str) -> None:
    tool, *flags = BUILDS[build]
    files = list(map(str, sources()))
    standard = ["-std=c11"]
    if build == "C++ headers":
        files, standard = [str(h) for h in sorted(include_dir().glob("dtmm/*.h"))], []
    done = subprocess.run(
        [
            str(require_tool(tool).found_path),
            *flags,
            *standard,
            *("-Wall", "-Wextra", "-Werror"),
            f"-I{include_dir()}",
            "-c",
            *files,
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,  # where the object files go
    )
    assert done.returncode == 0, done.stderr
