"""Progress of long work: a bar on a terminal, plain lines in a log."""

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Reports ``done`` of ``total`` with rate and time left."""

    def __init__(self, task: str, total: int, start: int = 0, seconds_between_lines: float = 30.0):
        self._task, self._total, self._start = task, total, start
        self._began = self._last_line = time.perf_counter()
        self._interval = seconds_between_lines
        self._bar: Bar | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, TextColumn("{task.fields[note]}"))
            self._bar.start()
            self._id = self._bar.add_task(task, total=total, completed=start, note="")

    def update(self, done: int, **notes: str) -> None:
        """Work finished so far, and values worth seeing."""
        note = "  ".join(f"{name} {value}" for name, value in notes.items())
        now = time.perf_counter()
        if self._bar is not None:
            self._bar.update(self._id, completed=done, note=note)
        elif now - self._last_line >= self._interval or done >= self._total:
            rate = (done - self._start) / max(now - self._began, 1e-9)
            left = (self._total - done) / rate if rate > 0 else float("inf")
            line = f"{self._task}: {done}/{self._total}  {rate:.3g}/s  {left / 60:.1f} min left  {note}"
            print(line.rstrip(), file=sys.stderr, flush=True)
            self._last_line = now

    def close(self) -> None:
        """Takes the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()
