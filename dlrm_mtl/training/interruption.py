"""Preemption: schedulers send SIGTERM some time before they kill."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def termination_requested() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come, as a function to be asked between steps; inside, the signal ends nothing by itself,
    however often it comes. Ranks hear of it at different steps, so that they must agree before they act. For the main
    thread only.
    """
    note = _Note()
    previous = signal.signal(signal.SIGTERM, note)
    note.outer = previous if isinstance(previous, _Note) else None
    try:
        yield lambda: note.received
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Note:
    """A handler that notes the signal, for those outside who would have noted it, too."""

    def __init__(self) -> None:
        self.received = False
        self.outer: _Note | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        if self.outer is not None:
            self.outer(number, frame)
