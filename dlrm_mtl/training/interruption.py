"""Preemption: schedulers send SIGTERM some time before SIGKILL."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def termination_requested() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether SIGTERM has come, for use between steps; within the context the signal does
    not end the process. Ranks receive it at different steps, so they must agree before they act. For the main thread
    only."""
    note = _Note()
    previous = signal.signal(signal.SIGTERM, note)
    note.outer = previous if isinstance(previous, _Note) else None
    try:
        yield lambda: note.received
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Note:
    """A handler that records the signal, also for an outer context."""

    def __init__(self) -> None:
        self.received = False
        self.outer: _Note | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        if self.outer is not None:
            self.outer(number, frame)
