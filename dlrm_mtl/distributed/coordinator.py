"""Rank 0's part of the watch: receives the failures of all ranks, decides which came first, shows it and ends the
job."""

import selectors
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from dlrm_mtl.distributed.failure import (
    Failure,
    Kind,
    Position,
    announce,
    format_positions,
    format_ranks,
)
from dlrm_mtl.distributed.links import Link
from dlrm_mtl.distributed.messages import End, Signal
from dlrm_mtl.ending import end_process

SETTLE_S = 1.0
"""Seconds after the first failure in which further ones are taken for its consequences, as collectives that break. A
rank that does not send its position within them is reported as not answering."""
LEAVE_S = 3.0
"""Seconds that rank 0, which may hold the job's store, waits for the other ranks to end."""


class FailureCoordinator:
    """A thread of rank 0's process.

    Each rank sends its position at intervals, a failure if it fails, and ``LEFT`` when it has finished. After a failure
    the coordinator asks all ranks for their positions, shows the failure, and sends every rank the job's exit code.
    Rank 0's process ends last.

    Args:
        links: connection to each rank, rank 0 included, by rank.
    """

    def __init__(self, links: Mapping[int, Link]) -> None:
        self._positions = dict.fromkeys(links, Position())
        self._failures: list[Failure] = []
        self._silent: set[int] = set()
        self.before_end: Callable[[str], object] = lambda text: None
        """Called with the failure's text before the job ends."""
        self._selector = selectors.DefaultSelector()
        for link in links.values():
            self._selector.register(link, selectors.EVENT_READ, link)
        self._thread = threading.Thread(target=self._run, name="coordinator", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Waits until every rank has left."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._failures and self._selector.get_map():
            self._receive(None)
        if self._failures:
            self._ask_positions()
            deadline = time.monotonic() + SETTLE_S
            while (left := deadline - time.monotonic()) > 0:
                self._receive(left)
            self._end_job()
        self._selector.close()

    @property
    def _links(self) -> list[Link]:
        """Of the ranks that are still connected."""
        return [key.data for key in self._selector.get_map().values()]

    def _receive(self, timeout_s: float | None) -> None:
        """Processes the next messages.

        Args:
            timeout_s: seconds to wait for one; None: until there is one.
        """
        for key, _ in self._selector.select(timeout_s):
            if not self._process(key.data):
                self._selector.unregister(key.data)
                key.data.close()

    def _process(self, link: Link) -> bool:
        """Processes the messages of a rank; False if it has left or is lost."""
        messages = link.receive()
        if messages is None:
            self._failures.append(Failure(Kind.LOST, link.rank, 1, ""))
            return False
        for message in messages:
            match message:
                case Position():
                    self._positions[link.rank] = message
                    self._silent.discard(link.rank)
                case Failure():
                    self._failures.append(message)
                case Signal.LEFT:
                    return False
        return True

    def _ask_positions(self) -> None:
        for link in self._links:
            self._silent.add(link.rank)
            link.send(Signal.ASK)

    def _end_job(self) -> None:
        first = min(self._failures, key=lambda failure: failure.kind)
        if first.kind is Kind.LOST:
            lost = [failure.rank for failure in self._failures if failure.kind is Kind.LOST]
            reports = {rank: position._replace(line="") for rank, position in self._positions.items()}
            text = f"{format_ranks(lost)} ended unexpectedly; last reports: {format_positions(reports)}"
            first = replace(first, rank=0, text=text)
        elif first.kind is Kind.TIMEOUT:
            text = f"{first.text}; last reports: {format_positions(self._positions)}"
            if silent := self._silent & {link.rank for link in self._links}:
                text += f"; no answer from {format_ranks(list(silent))}"
            first = replace(first, rank=0, text=text)
        announce(first, of_all=any(failure.rank == 0 and failure.text == first.text for failure in self._failures))
        for link in self._links:
            if link.rank != 0:
                link.send(End(first.code))
        self.before_end(first.text)
        deadline = time.monotonic() + LEAVE_S
        while any(link.rank != 0 for link in self._links) and (left := deadline - time.monotonic()) > 0:
            self._receive(left)
        end_process(first.code)
