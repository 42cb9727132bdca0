"""Each rank's part of the watch, which ends all ranks soon after one has failed, ended or stopped."""

import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

from dlrm_mtl.distributed.coordinator import LEAVE_S, FailureCoordinator
from dlrm_mtl.distributed.failure import (
    Failure,
    Kind,
    Position,
    announce,
    describe_error,
    format_positions,
)
from dlrm_mtl.distributed.links import Link
from dlrm_mtl.distributed.messages import End, Signal
from dlrm_mtl.ending import end_process

TICK_S = 1.0
REPORT_TICKS = 10
"""Ticks between two reports of a rank's position; after a failure rank 0 asks for it at once."""
ANSWER_S = 5
"""Seconds without an answer to a failure after which rank 0 is taken to be stopped."""


class Watch:
    """Ends this process after the job's first failure, even while the main thread waits for a collective or a device.

    A thread reports this rank's position and failure to rank 0 and receives the job's exit code. Rank 0 shows the first
    failure, once; every rank ends with the same exit code. A job of one rank uses the same two threads.

    Args:
        link: connection to rank 0; None before the ranks are connected, when nothing is watched.
        coordinator: on rank 0; None elsewhere.
        timeout_s: seconds without progress that end the job.
        deputy: whether this rank shows the failure if rank 0 cannot.
    """

    def __init__(
        self,
        rank: int = 0,
        link: Link | None = None,
        coordinator: FailureCoordinator | None = None,
        timeout_s: int = 0,
        deputy: bool = False,
    ) -> None:
        self._rank = rank
        self._coordinator = coordinator
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
        """Begins a step that all ranks take. The next call of this or of ``pause`` must follow within ``timeout_s``.

        Args:
            where: what the step is part of, such as ``training``.
        """
        self._position = Position(self._position.begun + 1, where, step)
        self._watching = True

    def pause(self) -> None:
        """Stops the time limit until the next step."""
        self._watching = False

    def before_end(self, call: Callable[[str], object]) -> None:
        """Makes rank 0 call this with the text of a failure that ends the job; it must return within seconds."""
        if self._coordinator is not None:
            self._coordinator.before_end = call

    def fail(self, error: BaseException) -> None:
        """Ends the job with this error, or with an earlier one of another rank."""
        if self._thread is not None:
            self._failure = describe_error(error, self._rank)
            self._wakeup.send_bytes(b"")
            self._thread.join()

    def leave(self) -> None:
        """Ends the watch. To be called on every rank once no rank needs another any more."""
        if self._thread is not None:
            self._leaving = True
            self._wakeup.send_bytes(b"")
            self._thread.join()
        if self._coordinator is not None:
            self._coordinator.join(LEAVE_S)

    def _run(self, link: Link, wakeup: Connection) -> None:
        reported: Failure | None = None
        unanswered = waited = 0.0
        last = last_reported = self._position
        quiet_ticks = REPORT_TICKS
        ends: list[Any] = [link, wakeup]
        while True:
            ready: list[Any] = wait(ends, TICK_S)
            if wakeup in ready:
                wakeup.recv_bytes()
            if link in ready:
                self._listen(link, reported)
            if self._leaving:
                link.send(Signal.LEFT)
                link.close()
                return
            position = self._position
            quiet_ticks += 1
            if position != last_reported and quiet_ticks >= REPORT_TICKS:
                link.send(position._replace(line=_current_line()))
                last_reported, quiet_ticks = position, 0
            # Counted in ticks, so that the time in which this process was itself stopped does not count.
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
        """Answers rank 0's questions, and ends this process when rank 0 ends the job."""
        messages = link.receive()
        if messages is None:
            self._end_alone(reported, "rank 0 ended unexpectedly")
        for message in messages:
            match message:
                case End():
                    end_process(message.code)
                case Signal.ASK:
                    link.send(self._position._replace(line=_current_line()))

    def _end_alone(self, failure: Failure | None, what: str) -> NoReturn:
        """Ends this process without rank 0. This rank shows an error of its own; anything else is shown by the
        deputy."""
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
