"""The stand-alone example: built from the installed library, its blob and its result recomputed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dtmm.device import build_elf, run_firmware
from dtmm.runtime_c import folder, include_dir, sources
from dtmm.storage import encode_fwcs, folded_bias, pack_channel_params, write_fwcs
from tests.runtime_c import arithmetic
from tests.runtime_c.test_build import cmake

EXAMPLE = folder() / "examples" / "conv"
SHAPE = (4, 5, 3)
ZERO_POINT = -7

ON_DEVICE = """
#include "conv.h"
#include "dtmm_firmware.h"
int main(void) {
  int8_t image[HEIGHT][WIDTH][IN_CHANNELS], result[HEIGHT][WIDTH][OUT_CHANNELS];
  for (int i = 0; i < HEIGHT * WIDTH * IN_CHANNELS; ++i) {
    (&image[0][0][0])[i] = (int8_t)(4 * i - 120);
  }
  const uint32_t status = (uint32_t)-(int32_t)example_conv(image, result);
  dtmm_report_u32("STATUS", &status, 1);
  dtmm_report_bytes("RESULT", 0, result, sizeof result);
  return 0;
}
"""


def layer() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights [4, 3, 3, 3] with 13 filterlets kept, bias, multipliers, shifts."""
    rng = np.random.default_rng(2024)
    weights = rng.integers(-127, 128, (4, 3, 3, 3), dtype=np.int8)
    flat = weights.reshape(36, 3)
    flat[rng.permutation(36)[13:]] = 0
    return (
        weights,
        rng.integers(-2000, 2000, 4),
        rng.integers(1 << 30, 1 << 31, 4),
        np.array([-9, -8, -8, -9]),
    )


def blob() -> bytes:
    weights, bias, multipliers, shifts = layer()
    params = pack_channel_params(folded_bias(weights, bias, ZERO_POINT), multipliers, shifts)
    return write_fwcs(encode_fwcs(weights, 16), params, "stored")


def expected() -> np.ndarray:
    weights, bias, multipliers, shifts = layer()
    image = (4 * np.arange(60) - 120).astype(np.int8).reshape(SHAPE).astype(np.int64)
    seen = arithmetic.windows(image, (3, 3), (1, 1), (1, 1), (1, 1), SHAPE[:2], ZERO_POINT)
    sums = arithmetic.conv_sums(seen, weights.astype(np.int64), bias, ZERO_POINT)
    return arithmetic.clamp(arithmetic.requantize(sums, multipliers, shifts), 3, -128, 127)


def installed(folder_: Path, *options: str) -> Path:
    """The library, installed; returns the prefix."""
    cmake("-S", folder(), "-B", folder_ / "library", *options)
    cmake("--build", folder_ / "library")
    cmake("--install", folder_ / "library", "--prefix", folder_ / "prefix")
    return folder_ / "prefix"


def test_the_embedded_blob_is_what_the_encoder_writes() -> None:
    text = (EXAMPLE / "conv.c").read_text()
    [array] = re.findall(r"blob\[\] = \{(.*?)\};", text, re.DOTALL)
    assert bytes(int(n, 16) for n in re.findall(r"0x..", array)) == blob()


def test_on_this_machine(toolchain: None, tmp_path: Path) -> None:
    prefix = installed(tmp_path)
    cmake("-S", EXAMPLE, "-B", tmp_path / "example", f"-DCMAKE_PREFIX_PATH={prefix}")
    cmake("--build", tmp_path / "example")
    done = subprocess.run(
        [tmp_path / "example" / "conv_example"], capture_output=True, text=True, check=True
    )
    got = np.array([line.split() for line in done.stdout.splitlines()], int)
    np.testing.assert_array_equal(got, expected().reshape(-1, 4))
    assert len(np.unique(got)) > 20, "the example is saturated"


def test_builds_for_the_device(toolchain: None, tmp_path: Path) -> None:
    file = f"-DCMAKE_TOOLCHAIN_FILE={folder() / 'cmake' / 'cortex-m55-clang.cmake'}"
    prefix = installed(tmp_path, file)
    example = tmp_path / "example"
    # CMake looks for packages of the target below its root path
    cmake("-S", EXAMPLE, "-B", example, file, f"-DCMAKE_PREFIX_PATH={prefix}")
    cmake("--build", example)
    assert (example / "libconv.a").is_file()


@pytest.mark.parametrize("target", ["m55", "m55-scalar"])
def test_on_the_device(toolchain: None, tmp_path: Path, target: str) -> None:
    harness = tmp_path / "harness.c"
    harness.write_text(ON_DEVICE)
    elf = build_elf(
        model_sources=[],
        runtime_sources=sources(),
        harness_sources=[harness, EXAMPLE / "conv.c"],
        out_elf=tmp_path / "firmware.elf",
        include_dirs=[include_dir(), EXAMPLE],
        target=target,
    )
    run = run_firmware(elf.path, count_regions=False, timeout_s=60)
    assert run.one("STATUS").numbers() == (0,)
    [line] = run.all("RESULT")
    got = np.frombuffer(bytes.fromhex(line.values[1]), np.int8)
    np.testing.assert_array_equal(got, expected().reshape(-1))
