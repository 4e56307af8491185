"""From C sources to a firmware for the device, or to a library or program for the host."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from dtmm.device.cache import publish
from dtmm.device.elf import Elf
from dtmm.device.memory import AN386_MAP, MemoryMap
from dtmm.device.objects import compile_sources, existing
from dtmm.device.toolchain import require_tool, run_tool
from dtmm.errors import ToolchainError

Defines = Mapping[str, str | int | None]

# -mcpu values: with MVE, as a Cortex-M without vectors (the portable C path on the device), and a
# core of the previous architecture (it has an FPU, whose registers no operator uses).
TARGETS: dict[str, str] = {
    "m55": "cortex-m55",
    "m55-scalar": "cortex-m55+nomve",
    "m4": "cortex-m4",
}
HOST = "host"
"""The target that is this machine, for the device of that name."""

_FIRMWARE_SOURCES = ("startup.c", "semihosting.c", "report.c", "region.c", "stack.S")
_COMMON_FLAGS = ("-std=gnu11", "-O3", "-fomit-frame-pointer", "-ffp-contract=off")


def firmware_dir() -> Path:
    """The folder with the start-up code and dtmm_firmware.h, in the checkout or as installed."""
    return Path(str(resources.files("dtmm.device") / "firmware"))


def target_flags(target: str = "m55") -> tuple[str, ...]:
    """The compiler flags for a target, without include folders and defines.

    Raises ToolchainError on an unknown target.
    """
    if target not in TARGETS:
        raise ToolchainError(f"target {target!r}: expected one of {', '.join(TARGETS)}")
    machine = ("--target=arm-none-eabi", f"-mcpu={TARGETS[target]}", "-mfloat-abi=hard")
    return (*machine, *_COMMON_FLAGS, "-ffunction-sections", "-fdata-sections")


def build_elf(
    *,
    model_sources: Sequence[Path],
    runtime_sources: Sequence[Path],
    harness_sources: Sequence[Path],
    out_elf: Path,
    include_dirs: Sequence[Path] = (),
    defines: Defines | None = None,
    memory: MemoryMap | None = None,
    target: str = "m55",
) -> Elf:
    """Compiles with clang, links with arm-none-eabi-gcc and newlib, and writes `out_elf`.

    Target "host" is this machine: a program that its C compiler makes of the same sources, the
    start-up code replaced by firmware/host.c.

    Model and runtime are the product: their sections are kept apart from those of the harness
    (which holds main), the start-up code and the C library; see elf.flash_bytes. Unused functions
    and data are dropped. When weights do not fit their region the memory map's overflow region is
    used; the returned Elf says which. Sources may be objects (compile_objects). Raises
    ToolchainError with the compiler's or linker's first error line.
    """
    if target == HOST:
        sources = [*model_sources, *runtime_sources, *harness_sources]
        return _build_host_elf(sources, out_elf, include_dirs, defines)
    clang, gcc = require_tool("clang"), require_tool("arm-none-eabi-gcc")
    memory = memory or (AN386_MAP if target == "m4" else MemoryMap())
    flags = target_flags(target)
    includes = [firmware_dir(), *include_dirs]
    with tempfile.TemporaryDirectory(prefix="dtmm-build-") as name:
        work = Path(name)
        startup = [firmware_dir() / source for source in _FIRMWARE_SOURCES]
        options = _options(target, defines)
        objects = []
        for folder, sources in (
            ("product", [*model_sources, *runtime_sources]),
            ("harness", [*harness_sources, *startup]),
        ):
            (work / folder).mkdir()
            made = compile_sources(sources, options, includes, work / folder)
            objects += [str(each.relative_to(work)) for each in made]
        used = _link(work, objects, memory, target)
        publish(work / "firmware.elf", out_elf)
    compiler = f"clang {clang.version}, linked by arm-none-eabi-gcc {gcc.version}"
    return Elf(out_elf, target, compiler, (*flags, *_definitions(defines)), used)


def compile_objects(
    sources: Sequence[Path], folder: Path, include_dirs: Sequence[Path] = (), target: str = "m55"
) -> list[Path]:
    """Compiles for a target, into `folder`, what several programs are then linked of.

    build_elf takes the objects for sources. Raises ToolchainError as it does.
    """
    return compile_sources(sources, _options(target, None), [firmware_dir(), *include_dirs], folder)


def _build_host_elf(
    sources: Sequence[Path], out: Path, include_dirs: Sequence[Path], defines: Defines | None
) -> Elf:
    own = [firmware_dir() / name for name in ("host.c", "report.c")]
    everything = {**(defines or {}), "main": "dtmm_harness_main"}
    build_host_program(
        sources=[*(source for source in sources if source.suffix != ".S"), *own],
        out=out,
        include_dirs=[firmware_dir(), *include_dirs],
        defines=everything,
    )
    flags = (*_COMMON_FLAGS, *_definitions(everything))
    return Elf(out, HOST, f"cc {require_tool('cc').version}", flags, MemoryMap())


def build_host_library(
    *,
    sources: Sequence[Path],
    out_so: Path,
    include_dirs: Sequence[Path] = (),
    defines: Defines | None = None,
    sanitize: Sequence[str] = (),
) -> Path:
    """Builds a shared library for this machine with the host's C compiler; returns `out_so`.

    -march=native is used where the compiler knows it. `sanitize` names sanitizers ("undefined",
    "address"); a library with "address" loads only into a process that has the sanitizer's run
    time preloaded. Raises ToolchainError with the compiler's first error line.
    """
    shared = ["-shared", "-fPIC"]
    return _build_host(shared, sources, out_so, include_dirs, defines, sanitize)


def build_host_program(
    *,
    sources: Sequence[Path],
    out: Path,
    include_dirs: Sequence[Path] = (),
    defines: Defines | None = None,
    sanitize: Sequence[str] = (),
) -> Path:
    """As build_host_library, but an executable (for C tests under sanitizers)."""
    return _build_host([], sources, out, include_dirs, defines, sanitize)


def _build_host(
    kind: Sequence[str],
    sources: Sequence[Path],
    out: Path,
    include_dirs: Sequence[Path],
    defines: Defines | None,
    sanitize: Sequence[str],
) -> Path:
    options = [*kind, *_COMMON_FLAGS, *_definitions(defines)]
    options += [f"-I{folder}" for folder in include_dirs]
    if sanitize:
        options += ["-g", f"-fsanitize={','.join(sanitize)}", "-fno-sanitize-recover=all"]
    with tempfile.TemporaryDirectory(prefix="dtmm-build-") as name:
        made = Path(name) / "made"
        if _host_knows_native():
            options.append("-march=native")
        run_tool("cc", [*options, *existing(sources), "-o", made])
        publish(made, out)
    return out


def _host_knows_native() -> bool:
    try:
        run_tool("cc", ["-march=native", "-x", "c", "-", "-fsyntax-only"], stdin="int unused;\n")
    except ToolchainError:
        return False
    return True


def _definitions(defines: Defines | None) -> list[str]:
    return [f"-D{k}" if v is None else f"-D{k}={v}" for k, v in (defines or {}).items()]


def _newlib_headers() -> Path:
    """Debian keeps newlib's headers apart from the compiler; elsewhere they are in its sysroot."""
    debian = Path("/usr/include/newlib")
    if (debian / "string.h").is_file():
        return debian
    sysroot = Path(run_tool("arm-none-eabi-gcc", ["-print-sysroot"]).strip() or "/nonexistent")
    if (sysroot / "include" / "string.h").is_file():
        return sysroot / "include"
    raise ToolchainError(
        "newlib's headers are missing: install them with: apt install libnewlib-arm-none-eabi"
    )


def _options(target: str, defines: Defines | None) -> list[str]:
    return [*target_flags(target), "-isystem", str(_newlib_headers()), *_definitions(defines)]


def _link(work: Path, objects: Sequence[str], memory: MemoryMap, target: str) -> MemoryMap:
    """Links work/firmware.elf; returns the memory map used (weights moved if they must be)."""
    (work / "memory.ld").write_text(memory.linker_script())
    # gcc picks the C library by -mcpu; for "+nomve" it is that of any Armv8-M hard-float core
    cpu = TARGETS[target].partition("+")[0]
    machine = [f"-mcpu={cpu}", "-mfloat-abi=hard", "-nostartfiles"]
    script = ["-T", str(firmware_dir() / "an547.ld"), "-L."]
    linker = ["-Wl,--gc-sections", "-Wl,--strip-debug"]
    try:
        command = [*machine, *script, *linker, "-o", "firmware.elf", *objects]
        run_tool("arm-none-eabi-gcc", command, cwd=work)
    except ToolchainError as error:
        spill = memory.weights_overflow
        full = f"region `{memory.weights}' overflowed" in str(error)
        if spill is None or spill == memory.weights or not full:
            raise
        elsewhere = replace(memory, weights=spill, weights_overflow=None)
        return _link(work, objects, elsewhere, target)
    return memory
