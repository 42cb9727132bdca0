"""SIGTERM, by which schedulers announce that a job is to end, as a question that the training loop can ask."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 128 + signal.SIGTERM
"""Exit code of a run that ended itself on SIGTERM: no failure, but not finished either, so that schedulers requeue."""


@contextmanager
def termination_requested() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether SIGTERM has arrived since, instead of its ending the process."""
    arrived = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal arrived
        arrived = True

    previous = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: arrived
    finally:
        signal.signal(signal.SIGTERM, previous)
