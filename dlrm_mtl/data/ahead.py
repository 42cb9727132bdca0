"""Reading one step ahead."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

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
