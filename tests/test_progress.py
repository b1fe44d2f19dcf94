"""Plain lines of progress: what they say, and how often."""

import sys

import pytest

from polymicros_jax import progress as module
from polymicros_jax.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_rate_and_time_left_count_from_the_start_of_this_run(clock, capsys):
    progress = Progress("training", total=400, start=100, seconds_between_lines=30.0)
    clock[0] += 50.0
    progress.update(200, loss="0.5000", error="0.1")
    progress.close()
    # 100 steps in 50 s are 2 a second; 200 more take 100 s, 1.7 minutes. The 100 of an earlier run do not count.
    expected = "training: 200/400  2/s  1.7 min left  loss 0.5000  error 0.1\n"
    assert capsys.readouterr().err == expected


def test_lines_keep_their_distance_and_the_last_one_always_comes(clock, capsys):
    progress = Progress("sampling", total=100, seconds_between_lines=30.0)
    for done in range(1, 101):
        clock[0] += 1.0
        progress.update(done)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"sampling: {n}/100" for n in (30, 60, 90, 100)]
    assert lines[-1] == "sampling: 100/100  1/s  0.0 min left"


def test_no_rate_yet(clock, capsys):
    progress = Progress("sampling", total=10, seconds_between_lines=0.0)
    progress.update(0)
    assert capsys.readouterr().err == "sampling: 0/10  0/s  inf min left\n"


def test_a_terminal_gets_a_bar_and_no_lines(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress("training", total=10, start=2, seconds_between_lines=0.0)
    progress.update(7, loss="0.25")
    task = progress._bar.tasks[0]
    progress.close()
    assert (task.completed, task.total, task.fields["note"]) == (7, 10, "loss 0.25")
    assert progress._bar.finished is False
    assert not progress._bar.live.is_started
    assert "min left" not in capsys.readouterr().err


def test_slow_work_says_how_long_each_piece_takes(clock, capsys):
    with Progress("cases", total=4, seconds_between_lines=0.0) as progress:
        clock[0] += 90.0
        progress.update(2)
    # Two in 90 s: 45 s each, two more take 1.5 minutes.
    assert capsys.readouterr().err == "cases: 2/4  45 s each  1.5 min left\n"


def test_the_bar_shows_the_rate_and_leaves_the_screen_after_an_error(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(RuntimeError), Progress("draws", total=10) as progress:
        raise RuntimeError
    assert not progress._bar.live.is_started
    column = next(each for each in progress._bar.columns if isinstance(each, module._RateColumn))
    task = progress._bar.tasks[0]
    assert column.render(task).plain == ""
    monkeypatch.setattr(type(task), "speed", property(lambda _: 0.25))
    assert column.render(task).plain == "4 s each"
