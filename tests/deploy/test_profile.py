"""Profiles: sums, scenarios and hot blocks against what is measured and counted otherwise."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dtmm.deploy import Deployment, run_on_device
from dtmm.deploy import profile as module
from dtmm.deploy.profile import PMU, Profile, profile
from dtmm.device import Elf, cycle_model
from dtmm.device.fvp import PROGRAM
from dtmm.errors import DtmmError, MeasurementError, ToolchainError
from dtmm.network.ir import Conv2D, FullyConnected
from dtmm.quantization import QuantizedNetwork, run
from tests.deploy.test_deploy import quantized


@pytest.fixture(scope="module")
def case() -> tuple[Deployment, np.ndarray]:
    _, deployment, images = quantized("residual")
    return deployment, images[:1]


@pytest.fixture(scope="module", autouse=True)
def builds_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All profiles here are of one firmware, so it is built for the first alone."""
    kept: list[Elf] = []
    real = module.build_firmware

    def build(deployment: Deployment, work: Path, *rest: int, **options: bool) -> Elf:
        if not kept:
            made = real(deployment, work, *rest, **options)
            path = tmp_path_factory.mktemp("profile") / "profile.elf"
            path.write_bytes(made.path.read_bytes())
            kept.append(dataclasses.replace(made, path=path))
        return kept[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "build_firmware", build)
        yield


@pytest.fixture(scope="module")
def found(case: tuple[Deployment, np.ndarray], toolchain: None) -> Profile:
    return profile(*case, hot=10**6)


def test_equals_what_a_run_measures(case, found: Profile) -> None:
    measured = run_on_device(*case)
    for step, plain in zip(found.steps, measured.steps, strict=True):
        assert (step.name, step.instructions) == (plain.name, plain.instructions)
        assert step.cycles["m55-v1"] == pytest.approx(plain.cycles, rel=1e-12)
        assert step.cycles["m55-v2"] == pytest.approx(plain.cached_cycles, rel=1e-12)
        assert (step.bytes_read, step.checksum) == (plain.bytes_read, plain.checksum)
    assert found.stack <= measured.sram["stack"] + 64
    assert found.models == ("m55-v1", "m55-v2")


def test_cached_memory_adds_missed_lines(found: Profile) -> None:
    for step in found.steps:
        waiting = 46.9 * step.lines_missed
        assert step.cycles["m55-v2"] == pytest.approx(step.cycles["m55-v1"] + waiting)
    assert any(step.lines_missed for step in found.steps)


def test_multiply_accumulates_and_bytes(case, found: Profile) -> None:
    """Counted one by one: every weight of a filterlet that is kept, at every output pixel."""
    network = case[0].network
    steps = {step.name: step for step in found.steps}
    for op in network.ops:
        if isinstance(op, Conv2D):
            weights = network.params[op.weight]
            kept = sum(
                weights.shape[3]
                for filterlet in weights.reshape(-1, weights.shape[3])
                if filterlet.any()
            )
            _, height, width, _ = network.tensors[op.output].shape
            assert steps[op.name].macs == kept * height * width
            assert steps[op.name].bytes_read > kept  # every weight at least once
        elif isinstance(op, FullyConnected):
            assert steps[op.name].macs == network.params[op.weight].size
        else:
            assert steps.get(op.name) is None or steps[op.name].macs == 0
    image = int(np.prod(case[1].shape))
    assert image <= steps["input"].bytes_read < image + 64


def test_hot_blocks_are_the_whole(found: Profile) -> None:
    cycles = [block.cycles for block in found.hot]
    assert cycles == sorted(cycles, reverse=True)
    assert sum(cycles) == pytest.approx(found.total("m55-v1"))
    work = sum(block.executions * len(block.disassembly) for block in found.hot)
    assert work == sum(step.instructions or 0 for step in found.steps)
    assert any("vmla" in text for text in found.hot[0].disassembly)


def test_refusals(case) -> None:
    with pytest.raises(DtmmError, match="2 images to profile, expected 1"):
        profile(case[0], np.repeat(case[1], 2, axis=0))
    with pytest.raises(ToolchainError, match="device 'host' cannot profile: expected one of qemu"):
        profile(case[0], where="host")


def test_a_wrong_output_is_rejected(case, found, monkeypatch: pytest.MonkeyPatch) -> None:
    def flipped(network: QuantizedNetwork, images: np.ndarray) -> np.ndarray:
        outputs = run(network, images)
        outputs.flat[2] ^= 1
        return outputs

    monkeypatch.setattr(module, "run_reference", flipped)
    with pytest.raises(MeasurementError, match=r"1 of 6 output bytes .* measurement is rejected"):
        profile(*case, models=[cycle_model("m55-v1")])


STAND_IN = """#!{python}
import re, subprocess, sys, zlib
elf = sys.argv[sys.argv.index("-a") + 1]
from dtmm.device.qemu import MACHINE
text = subprocess.run(["qemu-system-arm", *MACHINE, "-kernel", elf], capture_output=True, text=True)
crc = 0
for line in text.stdout.splitlines():
    body = re.sub(r"REGION (\\d+) 0", lambda m: f"REGION {{m[1]}} {{100 + int(m[1])}}", line[:-10])
    crc = zlib.crc32((body + "\\n").encode(), crc)
    print(f"{{body}} *{{crc:08x}}")
"""


def test_on_the_fvp(case, found: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ELF on a stand-in, which lets QEMU compute and adds a counter."""
    program = tmp_path / PROGRAM
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("DTMM_FVP", str(program))
    there = profile(*case, where="fvp")
    assert there.models == (PMU,)
    assert [step.cycles[PMU] for step in there.steps] == [100 + n for n in range(len(there.steps))]
    assert [step.checksum for step in there.steps] == [step.checksum for step in found.steps]
    assert all(step.instructions is None and step.bytes_read is None for step in there.steps)
    assert "cycle counter" in str(there.provenance["cycle_model"])
