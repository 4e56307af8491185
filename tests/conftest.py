"""What all tests share: hypothesis profiles, `--full`, the toolchain and the folder of models."""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import hypothesis
import matplotlib
import pytest

from dtmm.device.toolchain import tools_report

matplotlib.use("agg")

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker per core: threads of torch would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")

hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=30, database=None
)
hypothesis.settings.register_profile(
    "full", deadline=None, max_examples=1000, print_blob=True, database=None
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full",
        action="store_true",
        default=os.environ.get("DTMM_FULL") == "1",
        help="the larger counts: more hypothesis examples, images and seeds (also DTMM_FULL=1)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: runs with --full only")
    hypothesis.settings.load_profile("full" if config.getoption("--full") else "ci")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="needs --full"))


def pytest_report_header(config: pytest.Config) -> str:
    models = os.environ.get("DTMM_MODELS", "not set: tests of real models skip")
    return f"dtmm: profile {'full' if config.getoption('--full') else 'ci'}, DTMM_MODELS {models}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What passing tests counted with `record_property(what, {unit: count})`, added up."""
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for report in terminalreporter.getreports("passed"):
        for what, counts in report.user_properties:
            if report.when == "call" and isinstance(counts, dict):
                counted[what].update(counts)
    for what, counts in sorted(counted.items()):
        numbers = ", ".join(f"{count:,} {unit}" for unit, count in counts.items())
        terminalreporter.write_line(f"counted: {what}: {numbers}")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether to use the larger counts."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def toolchain() -> None:
    """Requires the cross compilers and QEMU; without them a test skips, in CI it fails."""
    missing = [tool.name for tool in tools_report() if tool.found_path is None]
    missing += [] if shutil.which("cmake") else ["cmake"]
    if missing:
        message = f"not installed: {', '.join(missing)}; run scripts/setup.sh"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def models_folder() -> Path:
    """The folder of real .tflite models that `DTMM_MODELS` names; without it a test skips."""
    folder = os.environ.get("DTMM_MODELS")
    if not folder:
        pytest.skip("DTMM_MODELS names no folder of real models")
    if not Path(folder).is_dir():
        pytest.fail(f"DTMM_MODELS={folder} is not a folder")
    return Path(folder).resolve()
