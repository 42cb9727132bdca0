"""Computes the next items in threads while the present one is used."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Input = TypeVar("Input")
Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each computed in a thread while the previous one is used.

    An error of ``items`` is raised in place of its item.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as reading:
        following = reading.submit(next, items, end)
        while (item := following.result()) is not end:
            following = reading.submit(next, items, end)
            yield item  # type: ignore[misc]


def map_ahead(function: Callable[[Input], Item], inputs: Iterable[Input], threads: int) -> Iterator[Item]:
    """``function`` of each input, in order, computed in threads for that many inputs at once.

    An error of ``function`` is raised in place of its item.

    Args:
        threads: 0: each item is computed when it is asked for.
    """
    if not threads:
        yield from map(function, inputs)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="reading") as reading:
        pending: deque[Future[Item]] = deque()
        try:
            for each in inputs:
                pending.append(reading.submit(function, each))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            reading.shutdown(cancel_futures=True)
