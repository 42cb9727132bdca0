"""Reading one step ahead."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made while the one before is used: by a thread that leaves the CPU to whoever else wants it.

    What ``items`` raises is raised where its item would have come.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="reading", initializer=_stand_back) as reading:
        following = reading.submit(next, items, end)
        while (item := following.result()) is not end:
            following = reading.submit(next, items, end)
            yield item  # type: ignore[misc]


def _stand_back() -> None:
    if hasattr(os, "SCHED_IDLE"):
        # Linux knows threads by numbers like those of processes.
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_IDLE, os.sched_param(0))
