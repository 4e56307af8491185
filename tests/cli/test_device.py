"""What a user sees of `dtmm devices` and `dtmm measure`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dtmm.cli import cli
from dtmm.device import build_elf
from dtmm.errors import DtmmError

MAIN = """
#include <stdint.h>
__attribute__((noinline)) uint32_t work(uint32_t n) {
    uint32_t sum = 0;
    for (volatile uint32_t i = 0; i < n; i++) sum += i;
    return sum;
}
int main(void) { return work(100) == 4950 ? 0 : 1; }
"""


@pytest.fixture(scope="module")
def elf(toolchain: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measure")
    (folder / "main.c").write_text(MAIN)
    return build_elf(
        model_sources=[],
        runtime_sources=[],
        harness_sources=[folder / "main.c"],
        out_elf=folder / "any.elf",
    ).path


def test_devices() -> None:
    result = CliRunner().invoke(cli, ["devices", "--json"], catch_exceptions=False)
    found = {row["name"]: row for row in json.loads(result.stdout)}
    assert {"qemu", "fvp", "board", "host"} <= found.keys()
    assert {"m55-v1", "m55-v2"} <= set(found["qemu"]["measures"].replace(",", "").split())
    assert "neither" in found["fvp"]["does_not_measure"]
    for name in ("fvp", "board"):
        assert "Has not met" in found[name]["does_not_measure"]
    assert not found["board"]["available"]
    text = CliRunner().invoke(cli, ["devices"], catch_exceptions=False).stdout
    assert "absent" in text


def test_measure(elf: Path) -> None:
    given = ["measure", str(elf), "--from", "work", "--to", "dtmm_report_end"]
    table = CliRunner().invoke(cli, given, catch_exceptions=False).stdout
    result = CliRunner().invoke(cli, [*given, "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    functions = {row["name"]: row["instructions"] for row in found["functions"]}
    assert functions["work"] > 500
    assert sum(functions.values()) == found["instructions"]
    assert found["cycle_model"].startswith("m55-v1/llvm-")
    assert found["provenance"].keys() >= {"compiler", "qemu", "cycle_model", "memory", "commit"}
    assert "cycles (m55-v1)" in table
    assert f"{functions['work']:,}" in table


def test_refusals(elf: Path) -> None:
    with pytest.raises(DtmmError, match="nothing_like_it"):
        CliRunner().invoke(
            cli, ["measure", str(elf), "--from", "nothing_like_it"], catch_exceptions=False
        )
    result = CliRunner().invoke(cli, ["measure", str(elf)])
    assert result.exit_code == 2
    assert "--from" in result.output
