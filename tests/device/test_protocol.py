"""The lines of a report: whatever happens to them on the way, they are right or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dtmm.device import Line, run_firmware
from dtmm.device.protocol import check_complete, parse_lines, read_transcript
from dtmm.errors import DtmmError, MeasurementError
from tests.device.firmware import Build, transcript

LINES = ("REGION 0 1234", "OUT 0 0aff", "OUT 1 ", "REGION 7 99", "STACK 312")
TEXT = transcript(*LINES)
NOISY = "Booting...\n" + TEXT.replace("DTMM OUT 1", "hello from printf\n\nDTMM OUT 1") + "bye\n"
EXPECTED = tuple(Line(key, tuple(rest)) for key, *rest in (line.split() for line in LINES))


def arrived(text: str) -> tuple[Line, ...]:
    """What a reader takes from a text. Raises DtmmError when it refuses."""
    report = read_transcript(text)
    check_complete(Path("any.elf"), report, "a wire")
    return report.lines[:-1]


def test_whole() -> None:
    assert arrived(TEXT) == arrived(NOISY) == arrived(NOISY.replace("\n", "\r\n")) == EXPECTED


def test_firmware_writes_these_checksums(build: Build, toolchain: None) -> None:
    """The C code against zlib, by a run that is read without checks."""
    main = """
    int main(void) {
        const uint32_t numbers[] = {0, 4294967295u};
        dtmm_report_u32("NUMBERS", numbers, 2);
        dtmm_report_bytes("OUT", 3, "\\x0a\\xff", 2);
        return 0;
    }"""
    run = run_firmware(build(main).path, count_regions=False, timeout_s=30)
    assert run.lines == (Line("NUMBERS", ("0", "4294967295")), Line("OUT", ("3", "0aff")))


WORDS = st.text("DTMEN 01aff*\n\r\t\x85\u2028\ufffd", max_size=8)


@given(st.lists(st.tuples(st.integers(0, len(NOISY)), st.integers(0, 8), WORDS),
                min_size=1, max_size=4))  # fmt: skip
@example([(NOISY.index("1234"), 1, "2")])
@example([(NOISY.index("DTMM END"), 100, "")])
@example([(0, len(NOISY), "DTMM END 0\n")])
def test_spoilt_anywhere(edits: list[tuple[int, int, str]]) -> None:
    """Each edit replaces some characters by others."""
    text = NOISY
    for at, length, new in edits:
        text = text[:at] + new + text[at + length :]
    assert_right_or_refused(text)


@given(st.data())
def test_noise_in_bytes(data: st.DataObject) -> None:
    """Bits that flip, bytes that are lost, as on a serial line."""
    spoilt = bytearray(NOISY.encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(spoilt) - 1))
        spoilt[at] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(spoilt) - 1))
        del spoilt[at : at + data.draw(st.integers(1, 40))]
    assert_right_or_refused(spoilt.decode(errors="replace"))


@given(st.lists(st.sampled_from(NOISY.splitlines(keepends=True)), max_size=14))
def test_lines_lost_doubled_displaced(lines: list[str]) -> None:
    assert_right_or_refused("".join(lines))


def test_cut_short_anywhere() -> None:
    for end in range(len(NOISY)):
        assert_right_or_refused(NOISY[:end])


def assert_right_or_refused(text: str) -> None:
    try:
        lines = arrived(text)
    except DtmmError as error:
        assert "\n" not in str(error)
    else:
        assert lines == EXPECTED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace("1234", "1235"), r"line 1 has checksum \w{8}, expected \w{8} \('DTMM REG"),
        (TEXT.replace(TEXT.splitlines()[1] + "\n", ""), "line 2 has .* or one is lost"),
        ("DTMM A 1\nDTMM END 1\n", "line 1 has no checksum"),
        (TEXT[: TEXT.rindex("\n")], "cut short: 5 lines, the last one 'STACK 312'"),
        ("", "cut short: 0 lines"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        arrived(text)


def test_lines_are_parsed_around_noise() -> None:
    text = "hello\nDTMM A 1 2\nnoise DTMM B\n\nDTMM\nDTMM \nDTMM C\nDTMM OUT 0 ab"
    assert parse_lines(text) == (Line("A", ("1", "2")), Line("C", ()))


def test_the_documents_example_is_whole() -> None:
    page = Path(__file__).parents[2] / "docs" / "devices.md"
    lines = [line.strip() for line in page.read_text().splitlines() if line.startswith("    DTMM")]
    assert arrived("\n".join([*lines, ""])) == (
        Line("REGION", ("0", "1234")),
        Line("OUT", ("0", "0aff")),
    )
