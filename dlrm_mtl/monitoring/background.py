"""Calls of a thread of its own, whose waiting and failing costs the training nothing."""

import sys
import time
from collections.abc import Callable
from queue import Full, Queue
from threading import Thread

from dlrm_mtl.quoting import shorten


class Background:
    """Makes calls in order. The first that fails is reported on stderr, and how many failed when it is closed.

    Args:
        name: of what the calls do, for messages.
        limit: of calls that wait; further ones count as failed.
    """

    def __init__(self, name: str, limit: int = 1000) -> None:
        self._name = name
        self._calls: Queue[Callable[[], object] | None] = Queue(limit)
        self._number = 0
        self.failures = 0
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waits(self) -> bool:
        """Whether a call has not begun yet."""
        return not self._calls.empty()

    def submit(self, call: Callable[[], object]) -> None:
        """Makes a call when those before it are over."""
        self._number += 1
        try:
            self._calls.put_nowait(call)
        except Full:
            self._fail(f"{self._calls.maxsize:,} calls wait")

    def close(self, wait_s: float) -> None:
        """Ends the thread after the calls so far, or leaves those that are not made in time."""
        deadline = time.monotonic() + wait_s
        try:
            self._calls.put(None, timeout=wait_s)
        except Full:
            pass
        else:
            self._thread.join(deadline - time.monotonic())
        if self._thread.is_alive():
            self._say(f"does not end; what it has not done in {wait_s:.0f} s is lost")
        if self.failures:
            self._say(f"{self.failures:,} of {self._number:,} calls failed")

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception as error:
                self._fail(f"{type(error).__name__}: {shorten(str(error))}")

    def _fail(self, reason: str) -> None:
        self.failures += 1
        if self.failures == 1:
            self._say(f"failed, training goes on: {reason}")

    def _say(self, text: str) -> None:
        print(f"{self._name}: {text}", file=sys.stderr, flush=True)
