"""The rules of the house hold, and the contracts that keep them bite."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "module",
    [
        "dtmm",
        "dtmm.artifact",
        "dtmm.config",
        "dtmm.device",
        "dtmm.latency",
        "dtmm.network",
        "dtmm.planning",
        "dtmm.quantization",
        "dtmm.scheduler",
        "dtmm.storage",
        "dtmm.sweep",
    ],
)
def test_importing_a_numpy_room_leaves_torch_out(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch is loaded' if 'torch' in sys.modules else 0)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_every_public_name_exists() -> None:
    code = "import dtmm; [getattr(dtmm, name) for name in dtmm.__all__]"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def lint_imports(folder: Path, contract: str | None = None) -> subprocess.CompletedProcess[str]:
    """import-linter on the packages in `folder`, not on the installed ones."""
    code = (
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command;"
        "lint_imports_command()"
    )
    command = [sys.executable, "-c", code, "--no-cache"]
    command += ["--contract", contract] if contract else []
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the packages that a test may spoil."""
    for name in ("dtmm", "experiments"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=lambda folder, names: not_python(folder, names)
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def not_python(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (name.endswith(".py") or Path(folder, name).is_dir())] + [
        "__pycache__"
    ]


@pytest.mark.parametrize(
    ("contract", "module", "violation"),
    [
        ("scheduler", "dtmm/scheduler/spoiled.py", "import torch"),
        ("scheduler", "dtmm/scheduler/spoiled.py", "from dtmm.network import ir"),
        ("numpy-rooms", "dtmm/network/spoiled.py", "def f():\n    import torch"),
        ("numpy-rooms", "dtmm/storage/spoiled.py", "import torch"),
        ("numpy-rooms", "dtmm/planning/spoiled.py", "import torch"),
        ("torch", "dtmm/latency/spoiled.py", "import torch"),
        ("device", "dtmm/device/spoiled.py", "import dtmm.pruning"),
        ("omniscient", "dtmm/latency/spoiled.py", "import experiments"),
        ("omniscient", "dtmm/artifact.py", "import dtmm.report"),
    ],
)
def test_a_broken_rule_is_noticed(contract: str, module: str, violation: str, house: Path) -> None:
    before = lint_imports(house, contract)
    assert before.returncode == 0, before.stdout + before.stderr
    path = house / module
    path.write_text((path.read_text() if path.exists() else "") + "\n" + violation + "\n")
    after = lint_imports(house, contract)
    assert after.returncode == 1
    assert "BROKEN" in after.stdout


def test_every_package_is_under_a_contract() -> None:
    """A new room must say which rules it obeys."""
    rules = (ROOT / "pyproject.toml").read_text()
    packages = {path.parent.name for path in (ROOT / "dtmm").glob("*/__init__.py")}
    assert packages, "no packages found"
    missing = sorted(name for name in packages if f'"dtmm.{name}"' not in rules)
    assert not missing


def test_a_wheel_holds_everything(tmp_path: Path) -> None:
    """Not only Python: C sources, firmware and the plugin must come with an installation."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    ignored = re.compile(r"__pycache__|/build|\.(pyc|o|a|elf|d)$")
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "dtmm").rglob("*")
        if path.is_file() and not ignored.search(path.as_posix())
    }
    assert any(name.endswith(".h") for name in ours)
    assert ours <= held, sorted(ours - held)
