"""Streams of batches that reader processes read ahead."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from typing import Any

from dlrm_mtl.data import handover, reader_process
from dlrm_mtl.data.reader_process import End, Failure, Task

PROGRAM = f"from {reader_process.__name__} import main; main()"

END_S = 5.0
"""Seconds to wait for a killed process; one that hangs in a lost file system may take longer."""


class ReaderProcesses:
    """Takes batches from each stream in turn, until all have ended.

    The processes end with the ``with`` block, and with this process, however it ends. They ignore SIGTERM and SIGINT,
    which launchers and terminals send to all processes of a job: a rank needs batches until it has written its
    checkpoint.

    Args:
        streams: one for each process, which receives it pickled.
        prefetch: batches that each process reads ahead.
    """

    def __init__(self, streams: Sequence[Callable[[], Iterator[Any]]], prefetch: int) -> None:
        self._processes: list[_Process] = []
        try:
            for number, stream in enumerate(streams, 1):
                self._processes.append(_Process(f"reader process {number} of {len(streams)}", Task(stream, prefetch)))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "ReaderProcesses":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        """The batches.

        Raises:
            ValueError: a stream raised a ValueError or an OSError; has its message.
            OSError: this process has no file descriptor left.
            RuntimeError: a stream raised another error, or a process was killed.
        """
        running = deque(self._processes)
        while running:
            process = running.popleft()
            batch = process.take()
            if batch is not None:
                running.append(process)
                yield batch

    def close(self) -> None:
        """Ends the processes. A thread that waits for a batch gets an error."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()


class _Process:
    def __init__(self, name: str, task: Task) -> None:
        self._connection, theirs = Pipe()
        with theirs, _signals_blocked():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, str(theirs.fileno()), str(os.getpid())],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._name = f"{name} (process id {self._process.pid})"
        with suppress(BrokenPipeError):  # whoever waits for its first batch gets the error
            self._connection.send(task)

    def take(self) -> Any:
        """The next batch, or None after the last."""
        try:
            message = self._connection.recv()
            batch = handover.receive(self._connection, message) if isinstance(message, handover.Parcel) else None
        except (EOFError, ConnectionError):
            raise RuntimeError(f"{self._name} {self._fate()}") from None
        match message:
            case Failure(text, of_user=True):
                raise ValueError(text)
            case Failure(text):
                raise RuntimeError(f"{self._name} failed\n{text}")
            case End():
                return None
        with suppress(BrokenPipeError):  # it has sent its last batch
            self._connection.send_bytes(b"")
        return batch

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)

    def _fate(self) -> str:
        self.wait()
        code = self._process.returncode
        if code is None:
            return "does not answer any more"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}; is there enough memory?"
        return f"ended with exit code {code}"


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes that are started meanwhile inherit it from their first instruction on."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
