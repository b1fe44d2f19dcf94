"""Work done ahead: order, limits, exceptions."""

import threading

import pytest

from polymicros_jax.training.prefetch import prefetched


@pytest.mark.parametrize("ahead", [0, 1, 2, 50])
def test_order(ahead):
    assert list(prefetched(lambda step: step**2, range(3, 20), ahead)) == [(n, n**2) for n in range(3, 20)]


def test_nothing_to_do():
    assert list(prefetched(lambda step: step, range(5, 5))) == []


def test_work_is_done_on_another_thread():
    threads = {thread for _, thread in prefetched(lambda step: threading.get_ident(), range(4))}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_no_more_is_asked_for_than_the_limit():
    asked = []

    def steps():
        for step in range(20):
            asked.append(step)
            yield step

    for step, _ in prefetched(lambda step: step, steps(), ahead=3):
        # The one handed over, and three in the making.
        assert len(asked) <= step + 1 + 3
    assert asked == list(range(20))


def test_an_exception_comes_at_its_step_after_the_good_ones():
    def make(step):
        if step == 6:
            raise OSError("unreadable shard 6")
        return step

    results = prefetched(make, range(10))
    assert [next(results) for _ in range(6)] == [(n, n) for n in range(6)]
    with pytest.raises(OSError, match="unreadable shard 6"):
        next(results)


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    results = prefetched(lambda step: step, range(1000))
    assert next(results) == (0, 0)
    results.close()
    assert threading.active_count() == before
