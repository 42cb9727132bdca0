"""Rank 0's end of the watch: it hears all ranks, decides which failure came first, shows it and ends the job."""

import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from dlrm_mtl.distributed.failure import (
    Failure,
    Kind,
    Position,
    announce,
    format_positions,
    format_ranks,
)
from dlrm_mtl.distributed.links import receive, send
from dlrm_mtl.ending import end_process

SETTLE_S = 1.0
"""Seconds in which failures count as one: an error and the collectives that break with it, or an error of all ranks."""
SILENT_S = 3.0
"""Seconds without a report after which a rank is said not to answer; one comes every second."""
LEAVE_S = 3.0
"""Seconds that rank 0, which may hold the job's store, waits for the others to end."""


class Hub:
    """A thread of rank 0's process.

    A rank sends its position (``{"position": [...]}``) every second, ``{"failure": [...]}`` when it fails, and
    ``{"left": true}`` before it leaves properly. It receives the job's exit code, once the failure has been shown. Rank
    0's process ends last.

    Args:
        links: a connection from each rank, by rank; rank 0 too.
    """

    def __init__(self, links: dict[int, Connection]) -> None:
        self._links = links
        self._positions = dict.fromkeys(links, Position())
        self._heard = dict.fromkeys(links, time.monotonic())
        self._failures: list[Failure] = []
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Waits until every rank has left."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        ranks = {link: rank for rank, link in self._links.items()}
        deadline: float | None = None
        while ranks:
            patience = None if deadline is None else max(0.0, deadline - time.monotonic())
            for link in wait(list(ranks), patience):
                assert isinstance(link, Connection)
                if self._hear(link, ranks[link]):
                    del ranks[link]
            if self._failures and deadline is None:
                deadline = time.monotonic() + SETTLE_S
            if deadline is not None and time.monotonic() >= deadline:
                self._end_job(ranks)
        for link in self._links.values():
            link.close()

    def _hear(self, link: Connection, rank: int) -> bool:
        """Takes in a message; True after a rank's last one."""
        self._heard[rank] = time.monotonic()
        match receive(link):
            case {"position": [int(begun), str(where), int(step), str(line)]}:
                self._positions[rank] = Position(begun, where, step, line)
            case {"failure": [int(kind), int(code), str(text)]}:
                self._failures.append(Failure(Kind(kind), rank, code, text))
            case {"left": True}:
                return True
            case None:
                self._failures.append(Failure(Kind.LOST, rank, 1, ""))
                return True
        return False

    def _end_job(self, ranks: dict[Connection, int]) -> None:
        first = min(self._failures, key=lambda failure: failure.kind)
        if first.kind is Kind.LOST:
            lost = [failure.rank for failure in self._failures if failure.kind is Kind.LOST]
            reports = {rank: position._replace(line="") for rank, position in self._positions.items()}
            text = f"{format_ranks(lost)} ended without a word; last reports: {format_positions(reports)}"
            first = replace(first, rank=0, text=text)
        elif first.kind is Kind.TIMEOUT:
            text = f"{first.text}; last reports: {format_positions(self._positions)}"
            if silent := [rank for rank, heard in self._heard.items() if time.monotonic() - heard > SILENT_S]:
                text += f"; no answer from {format_ranks(silent)}"
            first = replace(first, rank=0, text=text)
        announce(first, of_all=any(failure.rank == 0 and failure.text == first.text for failure in self._failures))
        others = [link for link, rank in ranks.items() if rank != 0]
        for link in others:
            send(link, first.code)
        deadline = time.monotonic() + LEAVE_S
        while others and (left := deadline - time.monotonic()) > 0:
            ready = wait(others, left)
            others = [link for link in others if link not in ready or not self._hear(link, ranks[link])]
        end_process(first.code)
