"""The library built for this machine: the portable C path."""

from __future__ import annotations

import ctypes

import pytest

from dtmm.device import build_host_library
from dtmm.runtime_c import include_dir, sources
from tests.runtime_c.library import load


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    out = tmp_path_factory.mktemp("host") / "libdtmm.so"
    return load(build_host_library(sources=sources(), out_so=out, include_dirs=[include_dir()]))
