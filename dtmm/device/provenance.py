"""What every measured figure carries, so that others can make it again."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from dtmm.device.cycle_model import CycleModel
from dtmm.device.elf import Elf
from dtmm.device.toolchain import require_tool


@dataclass(frozen=True)
class Provenance:
    """How a figure came about. `commit` is None outside a git checkout of this library."""

    compiler: str
    flags: str
    qemu: str
    cycle_model: str
    memory_map: str
    dtmm_version: str
    commit: str | None

    def to_dict(self) -> dict[str, str | None]:
        """For JSON and for the columns of a result table."""
        return asdict(self)


def collect_provenance(elf: Elf, model: CycleModel | None = None) -> Provenance:
    """The provenance of figures measured with this ELF on the QEMU that is on PATH.

    Raises ToolchainError when QEMU or LLVM's tools are missing.
    """
    model = model or CycleModel()
    return Provenance(
        compiler=elf.compiler,
        flags=" ".join(elf.flags),
        qemu=f"{require_tool('qemu-system-arm').version} mps3-an547",
        cycle_model=model.full_name,
        memory_map=f"{elf.memory.describe()}, {model.memory_text}",
        dtmm_version=dtmm_version(),
        commit=git_commit(),
    )


def dtmm_version() -> str:
    """The installed version, or "unknown" for a source tree that was never installed."""
    try:
        return metadata.version("dtmm")
    except metadata.PackageNotFoundError:
        return "unknown"


def git_commit(folder: Path | None = None) -> str | None:
    """The commit of the checkout this file (or `folder`) lies in, "+changes" if it has any.

    None when git is missing, there is no commit, or the file is not one that git tracks (an
    installed copy inside somebody else's repository says nothing of this library).
    """
    here = folder or Path(__file__).parent
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*arguments: str) -> str | None:
        done = subprocess.run(
            [git, "-C", str(here), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if not commit or not ask("ls-files", "."):
        return None
    changed = ask("status", "--porcelain", "--untracked-files=no")
    return f"{commit}+changes" if changed else commit
