"""The C around generated assembly: descriptors, headers, and where they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path


def descriptor(
    head: str, header: str, internal: str, symbol: str, function: str, portable: str, fields: str
) -> str:
    """The text of the C file that defines a dtmm_conv_kernel.

    Args:
        header, internal: what it includes: the public and the private declarations.
        function: the assembly; portable: what stands for it where there is no MVE.
        fields: the first members of the struct.
    """
    return (
        f"{head} */\n"
        f'#include "dtmm/{header}"\n\n#include "{internal}"\n\n'
        f"#if DTMM_USE_MVE\nvoid {function}(const dtmm_run_job *job);\n"
        f"#define RUN {function}\n#else\n#define RUN {portable}\n#endif\n\n"
        f"const dtmm_conv_kernel {symbol} = {{{fields}, RUN}};\n"
    )


def header(head: str, guard: str, comment: str, symbols: Iterable[str]) -> str:
    """The text of the public header that declares kernels; `comment`: lines of its @file."""
    lines = [f"extern const dtmm_conv_kernel {symbol};" for symbol in symbols]
    return (
        f"{head} */\n"
        f"/** @file\n{comment}"
        f'#ifndef {guard}\n#define {guard}\n\n#include "dtmm/conv.h"\n\n'
        '#ifdef __cplusplus\nextern "C" {\n#endif\n\n'
        + "\n".join(lines)
        + "\n\n#ifdef __cplusplus\n}\n#endif\n#endif\n"
    )


def assembly(head: str, comment: str, name: str, lines: Iterable[str]) -> str:
    """The text of an assembly file; `comment` follows the head."""
    body = "\n".join(line if line.endswith(":") else f"    {line}" for line in lines)
    return (
        f"{head}\n{comment} */\n"
        '#include "dtmm_run_asm.h"\n#if DTMM_USE_MVE\n\n'
        f"DTMM_ASM_FUNCTION({name})\n{body}\nDTMM_ASM_END({name})\n\n#endif\n"
    )


def write(files: Mapping[str, str]) -> None:
    """Files by their path in the library."""
    library = Path(__file__).parent.parent
    for path, text in files.items():
        (library / path).write_text(text, encoding="utf-8")
