"""The grid's settings reach the scheduler's choices."""

from __future__ import annotations

from dtmm.config import load_config
from dtmm.pipeline.scheduling import levels


def test_settings_of_the_grid() -> None:
    given = ["table.pinned='stem.conv, last'", "table.minimum_channels=16"]
    found = levels(load_config(None, [*given, "table.channel_multiple=32"]))
    assert found.pinned == ("stem.conv", "last")
    assert (found.minimum, found.multiple) == (16, 32)
    assert found.channel_levels(128).tolist() == [128, 96, 64, 32]
    assert levels(load_config()).pinned == ()
