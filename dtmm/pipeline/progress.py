"""How a run says how far it is: a line when a stage begins and ends, a bar while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

Update = Callable[[int, int], None]
"""update(done, total): called by long-running functions."""


class Progress:
    """Prints to stderr, so that stdout stays free for results (`--json`)."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)

    def started(self, stage: str, title: str) -> None:
        """A stage begins."""
        self._console.print(f"[bold]{stage}[/bold]: {title}")

    def skipped(self, stage: str) -> None:
        """A stage is up to date."""
        self._console.print(f"[bold]{stage}[/bold]: up to date")

    def finished(self, stage: str, summary: str, seconds: float) -> None:
        """A stage is done."""
        self._console.print(f"  {summary} [dim]({seconds:.1f} s)[/dim]")

    def line(self, text: str) -> None:
        """One line of information."""
        self._console.print(f"  {text}")

    @contextmanager
    def bar(self, what: str) -> Iterator[Update]:
        """A progress bar with the time left; without a terminal, lines at tenths of the work."""
        if not self._console.is_terminal:
            yield self._tenths(what)
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=self._console, transient=True) as bars:
            task = bars.add_task(what, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)

    def _tenths(self, what: str) -> Update:
        last, first, start = -1, 0, 0.0

        def update(done: int, total: int) -> None:
            nonlocal last, first, start
            tenth = 10 * done // total if total else 0
            if last < 0:
                first, start = done, time.monotonic()
            if tenth > last:
                last = tenth
                left = (total - done) * (time.monotonic() - start) / max(done - first, 1)
                about = f", about {left:.0f} s left" if first < done < total else ""
                self._console.print(f"  {what} {done}/{total}{about}")

        return update
