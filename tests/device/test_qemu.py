"""Runs that end well, and every way in which one can go wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dtmm.device import MemoryMap, device, run_firmware
from dtmm.errors import DtmmError, MeasurementError, ToolchainError
from tests.device.firmware import Build, transcript


def test_report_lines_arrive_whole(build: Build) -> None:
    main = """
    static uint8_t data[5000];
    int main(void) {
        for (uint32_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * i + 7 * i);
        const uint32_t numbers[] = {0, 10, 4294967295u};
        dtmm_report_u32("NUMBERS", numbers, 3);
        dtmm_report_bytes("OUT", 3, data, sizeof data);
        dtmm_report_bytes("OUT", 4, data, 0);
        return 0;
    }"""
    run = run_firmware(build(main).path, count_regions=False, timeout_s=30)
    assert [line.key for line in run.lines] == ["NUMBERS", "OUT", "OUT"]
    assert run.one("NUMBERS").numbers() == (0, 10, 2**32 - 1)
    i = np.arange(5000)
    assert run.all("OUT")[0].payload() == (3, ((i * i + 7 * i) % 256).astype(np.uint8).tobytes())
    assert run.all("OUT")[1].payload() == (4, b"")
    assert run.regions == ()
    assert run.wall_seconds > 0
    for wrong in ("OUT", "ABSENT"):
        with pytest.raises(MeasurementError, match=f"'{wrong}' lines: expected 1"):
            run.one(wrong)
    with pytest.raises(MeasurementError, match="want index, hex"):
        run.one("NUMBERS").payload()
    with pytest.raises(MeasurementError, match="want numbers"):
        run.all("OUT")[0].numbers()


def test_firmware_reads_a_file_of_the_host(build: Build, tmp_path: Path) -> None:
    content = np.random.default_rng(1).integers(0, 256, 1000, dtype=np.uint8).tobytes()
    (tmp_path / "images.bin").write_bytes(content)
    main = """
    static uint8_t data[400];
    int main(void) {
        int32_t got = dtmm_read_file("images.bin", 700, data, 400);
        dtmm_report_bytes("PART", (uint32_t)got, data, sizeof data);
        got = dtmm_read_file("absent.bin", 0, data, 4);
        dtmm_report_u32("ABSENT", (const uint32_t *)&got, 1);
        return 0;
    }"""
    run = run_firmware(build(main).path, count_regions=False, timeout_s=30, cwd=tmp_path)
    assert run.one("PART").payload() == (300, content[700:] + bytes(100))
    assert run.one("ABSENT").numbers() == (2**32 - 1,)


def test_static_data_start_as_written_in_c(build: Build) -> None:
    model = """
    int counter = 41; static int zero[1000]; const char text[] = "kept";
    int next(void) { for (int i = 0; i < 1000; i++) counter += zero[i]; return ++counter; }
    """
    main = """
    int next(void); extern const char text[]; static volatile int own = 5; static volatile int nil;
    int main(void) {
        const uint32_t v[] = {(uint32_t)next(), (uint32_t)own, (uint32_t)nil, (uint32_t)text[0]};
        dtmm_report_u32("V", v, 4);
        return 0;
    }"""
    run = run_firmware(build(main, model=model).path, count_regions=False, timeout_s=30)
    assert run.one("V").numbers() == (42, 5, 0, ord("k"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("for (;;) {}", "did not end within 2 s"),
        ("return 3;", "failed on QEMU: main returned a non-zero status"),
        ('dtmm_fail("no such layer");', "failed on QEMU: no such layer"),
        ("__builtin_trap();", r"faulted on QEMU: CFSR 0x.*PC 0x.* in main"),
        ("return *(volatile int *)0x18000000u;", r"faulted on QEMU: CFSR 0x.* in main"),
        ("semihosting_exit(0);", "cut short: 1 lines, the last one 'HERE 1'"),
        ("semihosting_exit(5);", "QEMU ended with status 5"),
        ("dtmm_region_begin(1); dtmm_region_begin(2);", "regions do not nest"),
        ("dtmm_region_end();", "region ended that was not begun"),
        ("dtmm_region_begin(1);", "a region was begun and not ended"),
        ("return (int)deep(10000000);", "stack overflow: give MemoryMap more stack_bytes"),
    ],
)
def test_a_bad_run_is_one_clear_line(build: Build, body: str, message: str) -> None:
    main = """
    void semihosting_exit(uint32_t);
    __attribute__((noinline)) uint32_t deep(uint32_t n) {
        volatile uint32_t frame[64];
        for (int i = 0; i < 64; i++) frame[i] = n;
        return n == 0 ? 0 : deep(n - 1) + frame[n % 64];
    }
    int main(void) {
        const uint32_t one = 1;
        dtmm_report_u32("HERE", &one, 1);
    """
    elf = build(main + body + "\n return 0; }").path
    with pytest.raises(DtmmError, match=message) as error:
        run_firmware(elf, count_regions=False, timeout_s=2)
    assert "\n" not in str(error.value)


def test_missing_firmware(toolchain: None, tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"absent\.elf does not exist"):
        run_firmware(tmp_path / "absent.elf", count_regions=False)


def fake_qemu(folder: Path, script: str) -> str:
    """A PATH on which a shell script stands in for QEMU."""
    program = folder / "qemu-system-arm"
    version = 'case "$*" in *--version*) echo "QEMU emulator version 7.2.99"; exit 0;; esac'
    program.write_text(f"#!/bin/sh\n{version}\n{script}\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'qemu: fatal: Lockup' >&2; kill -SEGV $$", "status -11.*Lockup"),
        ("echo 'unsupported machine' >&2; exit 1", "status 1.*unsupported machine"),
        ("exit 0", "cut short: 0 lines"),
        ("echo DTMM OUT 0 ab; echo DTMM END 1", "is damaged: line 1 has no checksum"),
        (f"printf '{transcript('OUT 0 ab')[:-1]}'", "cut short: 1 lines"),
        ("echo 'unsupported CPU'", "cut short: 0 lines.* QEMU said: unsupported CPU"),
    ],
)
def test_a_dying_simulator_is_an_error(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    elf = build("int main(void) { return 0; }").path
    monkeypatch.setenv("PATH", fake_qemu(tmp_path, script))
    with pytest.raises(DtmmError, match=message) as error:
        run_firmware(elf, count_regions=False, timeout_s=5)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "script",
    ["kill -KILL $$", "sleep 60 & wait", "sleep 60 &", "echo DTMM OUT 0 ab"],
    ids=["kill", "hang", "pipe held open", "damage"],
)
def test_chance_gets_a_second_try(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """The first run goes wrong, the second does not; what the first started is gone."""
    elf = build("int main(void) { return 0; }").path
    text = transcript("REGION 0 0").replace("\n", "\\n")
    once = f"if mkdir {tmp_path}/tried 2>/dev/null; then\n{script}\nexit 0\nfi"
    monkeypatch.setenv("PATH", fake_qemu(tmp_path, f"{once}\nprintf '{text}'"))
    run = run_firmware(elf, count_regions=False, timeout_s=3)
    assert run.counters == ((0, 0),)


def test_a_firmware_that_fails_gets_one_try(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elf = build("int main(void) { return 0; }").path
    lines = transcript("FAIL no such layer").splitlines()[0]
    monkeypatch.setenv("PATH", fake_qemu(tmp_path, f"echo x >>{tmp_path}/tries; echo '{lines}'"))
    with pytest.raises(MeasurementError, match=r"failed on QEMU: no such layer$"):
        run_firmware(elf, count_regions=False, timeout_s=5)
    assert (tmp_path / "tries").read_text() == "x\n"


def test_an_old_simulator_is_refused(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elf = build("int main(void) { return 0; }").path
    fake_qemu(tmp_path, "exit 0")
    program = tmp_path / "qemu-system-arm"
    program.write_text(program.read_text().replace("7.2.99", "5.2.0"))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ToolchainError, match=r"qemu-system-arm 5\.2\.0 is too old: expected 6\.2"):
        run_firmware(elf, count_regions=False)
    assert not device("qemu").available


def test_a_plugin_that_writes_nothing_is_an_error(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elf = build("int main(void) { dtmm_region_begin(0); dtmm_region_end(); return 0; }").path
    text = transcript("REGION 0 0").replace("\n", "\\n")
    monkeypatch.setenv("PATH", fake_qemu(tmp_path, f"printf '{text}'"))
    with pytest.raises(MeasurementError, match="plug-in wrote no counts"):
        run_firmware(elf, count_regions=True)


@pytest.mark.parametrize(
    ("words", "tried"),
    [
        ("plugin requires API version 1, but this QEMU supports from version 2", 8),
        ("-plugin: invalid option", 1),
    ],
)
def test_a_refused_plugin_is_an_error(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, tried: int
) -> None:
    elf = build("int main(void) { dtmm_region_begin(0); dtmm_region_end(); return 0; }").path
    script = f"echo x >>{tmp_path}/tries; echo '{words}' >&2; exit 1"
    monkeypatch.setenv("PATH", fake_qemu(tmp_path, script))
    with pytest.raises(ToolchainError, match=f"refuses the counting plug-in: {words}"):
        run_firmware(elf, count_regions=True)
    assert len((tmp_path / "tries").read_text().split()) == tried


def test_firmware_without_markers_cannot_be_counted(build: Build) -> None:
    elf = build("int main(void) { return 0; }").path
    with pytest.raises(ToolchainError, match="no symbol 'dtmm_region_begin'"):
        run_firmware(elf, count_regions=True)


@pytest.mark.parametrize("size", [1024, 4096, 30_000])
def test_stack_peak_of_a_known_array(build: Build, size: int) -> None:
    main = """
    __attribute__((noinline)) uint32_t work(uint32_t seed) {
        volatile uint8_t array[SIZE];
        for (int i = 0; i < SIZE; i++) array[i] = (uint8_t)(seed + (uint32_t)i);
        return array[seed % SIZE];
    }
    __attribute__((noinline)) void measure(void) {
        volatile uint8_t harness_frame[5000];
        harness_frame[0] = 1;
        dtmm_stack_paint();
        uint32_t peak = dtmm_stack_peak();
        dtmm_report_u32("NONE", &peak, 1);
        dtmm_stack_paint();
        work(3);
        peak = dtmm_stack_peak();
        dtmm_report_u32("STACK", &peak, 1);
    }
    int main(void) { measure(); return 0; }
    """
    elf = build(main, defines={"SIZE": size}, memory=MemoryMap(stack_bytes=40 * 1024)).path
    run = run_firmware(elf, count_regions=False, timeout_s=30)
    assert run.one("NONE").numbers() == (0,)
    assert size <= run.one("STACK").numbers()[0] <= size + 64
