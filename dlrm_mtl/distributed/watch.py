"""A rank's end of the watch over all ranks: none waits for long for one that has failed, ended or stopped."""

import sys
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

from dlrm_mtl.distributed.failure import (
    Failure,
    Kind,
    Position,
    announce,
    describe_error,
    format_positions,
)
from dlrm_mtl.distributed.hub import LEAVE_S, Hub
from dlrm_mtl.distributed.links import Link
from dlrm_mtl.distributed.messages import End, Word
from dlrm_mtl.ending import end_process

TICK_S = 1.0
REPORT_TICKS = 10
"""So many ticks after its last report a rank that goes on says how far it has come; rank 0 asks where it must know."""
ANSWER_S = 5
"""Seconds after which rank 0 is taken to be stopped, if it does not answer to a failure."""


class Watch:
    """Ends this process with the job's first failure, even while the main thread waits for a collective or a device.

    A thread of its own reports to rank 0 how far this rank has come, and hears from it which failure came first. The
    first failure is shown once, by rank 0; every rank ends with the same exit code. A job of one rank is watched by the
    same two threads.

    Args:
        link: connection to rank 0; None before the ranks have met, when nothing is watched.
        hub: rank 0's, None elsewhere.
        timeout_s: seconds without progress that end the job.
        deputy: whether this rank speaks where rank 0 no longer can.
    """

    def __init__(
        self,
        rank: int = 0,
        link: Link | None = None,
        hub: Hub | None = None,
        timeout_s: int = 0,
        deputy: bool = False,
    ) -> None:
        self._rank = rank
        self._hub = hub
        self._timeout_s = timeout_s
        self._deputy = deputy
        self._position = Position()
        self._watching = False
        self._failure: Failure | None = None
        self._leaving = False
        self._thread: threading.Thread | None = None
        if link is not None:
            self._wakeup, wakeup = Pipe(duplex=False)[::-1]
            self._thread = threading.Thread(target=self._run, args=(link, wakeup), name="watch", daemon=True)
            self._thread.start()

    def progress(self, where: str, step: int) -> None:
        """Begins a step that all ranks take: from here to the next call, or to ``pause``, ``timeout_s`` runs.

        Args:
            where: what the step is part of, such as ``training``.
        """
        self._position = Position(self._position.begun + 1, where, step)
        self._watching = True

    def pause(self) -> None:
        """Ends a row of steps: what comes may take as long as it takes."""
        self._watching = False

    def fail(self, error: BaseException) -> None:
        """Ends the job with this error, or with the one that came first."""
        if self._thread is not None:
            self._failure = describe_error(error, self._rank)
            self._wakeup.send_bytes(b"")
            self._thread.join()

    def leave(self) -> None:
        """Ends the watch, on every rank, once no rank needs another any more."""
        if self._thread is not None:
            self._leaving = True
            self._wakeup.send_bytes(b"")
            self._thread.join()
        if self._hub is not None:
            self._hub.join(LEAVE_S)

    def _run(self, link: Link, wakeup: Connection) -> None:
        reported: Failure | None = None
        unanswered = waited = 0.0
        last = told = self._position
        quiet_ticks = REPORT_TICKS
        ends: list[Any] = [link, wakeup]
        while True:
            ready: list[Any] = wait(ends, TICK_S)
            if wakeup in ready:
                wakeup.recv_bytes()
            if link in ready:
                self._listen(link, reported)
            if self._leaving:
                link.send(Word.LEFT)
                link.close()
                return
            position = self._position
            quiet_ticks += 1
            if position != told and quiet_ticks >= REPORT_TICKS:
                link.send(position._replace(line=_current_line()))
                told, quiet_ticks = position, 0
            # Counted in ticks: a process that was stopped itself has not waited.
            waited = waited + TICK_S if position == last and self._watching and not ready else 0.0
            last = position
            if reported is not None:
                unanswered += 0.0 if ready else TICK_S
                if unanswered >= ANSWER_S:
                    self._end_alone(reported, "rank 0 does not answer")
                continue
            reported = self._failure
            if reported is None and waited >= self._timeout_s:
                reported = Failure(Kind.TIMEOUT, self._rank, 1, f"no progress for {waited:.0f} s (timeout_s)")
            if reported is not None:
                link.send(reported)

    def _listen(self, link: Link, reported: Failure | None) -> None:
        """Answers rank 0, and ends when it says so."""
        messages = link.receive()
        if messages is None:
            self._end_alone(reported, "rank 0 ended without a word")
        for message in messages:
            match message:
                case End():
                    end_process(message.code)
                case Word.ASK:
                    link.send(self._position._replace(line=_current_line()))

    def _end_alone(self, failure: Failure | None, what: str) -> NoReturn:
        """Without rank 0: an error of this rank is its own to show; for the rest one rank speaks."""
        failure = self._failure or failure
        if failure is not None and failure.kind is Kind.ERROR:
            announce(failure)
            end_process(failure.code)
        if self._deputy:
            begin = f"{failure.text}; " if failure is not None and failure.kind is Kind.TIMEOUT else ""
            text = f"{begin}{what}; last report: {format_positions({self._rank: self._position})}"
            announce(Failure(Kind.LOST, self._rank, 1, text), of_all=True)
        end_process(1)


def _current_line() -> str:
    """Where in the code the main thread is."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return ""
    return f"{frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
