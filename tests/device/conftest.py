"""Firmware from a few lines of C, in a cache of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dtmm.device import Elf, build_elf
from tests.device.firmware import Build


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DTMM_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def build(toolchain: None, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """build(main, model="", runtime="", assembly="", **options of build_elf) -> Elf."""

    def make(
        main: str, *, model: str = "", runtime: str = "", assembly: str = "", **options: Any
    ) -> Elf:
        folder = tmp_path_factory.mktemp("firmware")

        def write(name: str, text: str) -> list[Path]:
            (folder / name).write_text(text)
            return [folder / name] if text else []

        return build_elf(
            model_sources=write("model.c", model),
            runtime_sources=write("runtime.c", runtime) + write("kernel.S", assembly),
            harness_sources=write("main.c", '#include "dtmm_firmware.h"\n' + main),
            out_elf=folder / "firmware.elf",
            **options,
        )

    return make
