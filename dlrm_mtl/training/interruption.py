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
    received = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = True
        if callable(previous):
            previous(number, frame)

    previous = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: received
    finally:
        signal.signal(signal.SIGTERM, previous)
