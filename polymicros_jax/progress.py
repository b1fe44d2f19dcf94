"""Progress of long work: a bar on a terminal, plain lines in a log."""

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text


def _rate(per_second: float) -> str:
    """Work a second, or seconds a piece of work that takes longer than one."""
    return f"{1 / per_second:.3g} s each" if 0 < per_second < 1 else f"{per_second:.3g}/s"


class _RateColumn(ProgressColumn):
    """The rate as the lines of a log show it; nothing before there is one."""

    def render(self, task: Task) -> Text:
        """The rate of the latest updates."""
        return Text("" if task.speed is None else _rate(task.speed))


class Progress:
    """Reports ``done`` of ``total`` with rate and time left; closed at the end of a ``with`` block, or by hand."""

    def __init__(self, task: str, total: int, start: int = 0, seconds_between_lines: float = 30.0):
        self._task, self._total, self._start = task, total, start
        self._began = self._last_line = time.perf_counter()
        self._interval = seconds_between_lines
        self._bar: Bar | None = None
        if sys.stderr.isatty():
            before = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _RateColumn())
            # The rate of slow work is that of its last ten minutes, not of the last half minute.
            self._bar = Bar(
                *before, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), speed_estimate_period=600
            )
            self._bar.start()
            self._id = self._bar.add_task(task, total=total, completed=start, note="")

    def __enter__(self) -> "Progress":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Takes the bar off the screen, after an error too."""
        self.close()

    def update(self, done: int, **notes: str) -> None:
        """Work finished so far, and values worth seeing."""
        note = "  ".join(f"{name} {value}" for name, value in notes.items())
        now = time.perf_counter()
        if self._bar is not None:
            self._bar.update(self._id, completed=done, note=note)
        elif now - self._last_line >= self._interval or done >= self._total:
            rate = (done - self._start) / max(now - self._began, 1e-9)
            left = (self._total - done) / rate if rate > 0 else float("inf")
            line = f"{self._task}: {done}/{self._total}  {_rate(rate)}  {left / 60:.1f} min left  {note}"
            print(line.rstrip(), file=sys.stderr, flush=True)
            self._last_line = now

    def close(self) -> None:
        """Takes the bar off the screen."""
        if self._bar is not None:
            self._bar.stop()
