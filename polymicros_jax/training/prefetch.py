"""Work done ahead on a thread, so that the device never waits for the next batch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(make: Callable[[int], T], steps: Iterable[int], ahead: int = 2) -> Iterator[tuple[int, T]]:
    """Yields ``(step, make(step))`` in order, with up to ``ahead`` results in the making.

    >>> list(prefetched(lambda step: step**2, range(3)))
    [(0, 0), (1, 1), (2, 4)]
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: deque[tuple[int, Future[T]]] = deque()
        for step in steps:
            waiting.append((step, pool.submit(make, step)))
            if len(waiting) > ahead:
                ready, future = waiting.popleft()
                yield ready, future.result()
        while waiting:
            ready, future = waiting.popleft()
            yield ready, future.result()
