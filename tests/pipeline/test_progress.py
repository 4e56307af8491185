"""What a run says without a terminal."""

from __future__ import annotations

import pytest

from dtmm.pipeline import progress


def test_lines_at_tenths_say_how_long_it_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.Progress().bar("points") as bar:
        for done in (50, 51, 60, 100):  # 50 were done by a run before
            bar(done, 100)
            now += 2.0
    lines = capsys.readouterr().err.split("\n")
    assert lines[:3] == ["  points 50/100", "  points 60/100, about 16 s left", "  points 100/100"]
