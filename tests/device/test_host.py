"""The host as a device: the same harness, the same lines, and nothing measured."""

from __future__ import annotations

import pytest

from dtmm.device import device
from dtmm.errors import DtmmError, MeasurementError
from tests.device.firmware import Build

MAIN = """
uint32_t squares(uint32_t);
int main(void) {
    uint8_t data[4];
    const int32_t got = dtmm_read_file("input", 1, data, sizeof data);
    dtmm_stack_paint();
    dtmm_region_begin(5);
    const uint32_t values[] = {squares(10), dtmm_stack_peak()};
    dtmm_region_end();
    dtmm_report_u32("SQUARES", values, 2);
    dtmm_report_bytes("READ", (uint32_t)got, data, (size_t)got);
    return data[0] - 'b';
}
"""
SQUARES = """#include <stdint.h>
uint32_t squares(uint32_t n) { return n == 0 ? 0 : n * n + squares(n - 1); }"""


def test_computes_what_the_device_does(build: Build, tmp_path) -> None:
    (tmp_path / "input").write_text("abcd")
    found = [
        device(name).run(build(MAIN, model=SQUARES, target=target).path, count_regions=False,
                         timeout_s=30, cwd=tmp_path)
        for name, target in (("host", "host"), ("qemu", "m55"))
    ]  # fmt: skip
    assert [run.one("READ").payload() for run in found] == [(3, b"bcd")] * 2
    assert [run.one("SQUARES").numbers()[0] for run in found] == [385] * 2


def test_measures_nothing(build: Build, tmp_path) -> None:
    elf = build(MAIN, model=SQUARES, target="host").path
    with pytest.raises(MeasurementError, match="the host measures nothing"):
        device("host").run(elf, count_regions=True)
    (tmp_path / "input").write_text("xyz")
    with pytest.raises(DtmmError, match="failed on the host: main returned a non-zero status"):
        device("host").run(elf, count_regions=False, cwd=tmp_path)
