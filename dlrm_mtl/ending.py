"""How processes end: with which exit code and message, at once, and with the process that started them."""

import ctypes
import errno
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from typing import NoReturn, TextIO

from dlrm_mtl.quoting import printable

FAILED = 1
REFUSED = 2
"""Exit code after an error that the user must mend: of an option, of data, of the file system."""
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
"""Exit code of a run that ended itself on SIGTERM: no failure, but not finished either, so that schedulers requeue."""

_PR_SET_PDEATHSIG = 1


class Terminated(SystemExit):
    """Told to end by SIGTERM, and ready to: on every rank.

    Args:
        where: how far the process has come; what it has done until there is kept.
    """

    def __init__(self, where: str) -> None:
        super().__init__(TERMINATED)
        self.where = where

    def __str__(self) -> str:
        return f"told to end (SIGTERM) {self.where}; the same command goes on from there"


def exit_code(error: BaseException) -> int:
    """Exit code of a process that an exception ends."""
    if isinstance(error, (ValueError, OSError)):
        return REFUSED
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED


def describe(error: BaseException) -> str:
    """What a process says of the exception that ends it: a line, or the traceback where that is of use."""
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted"
    if not isinstance(error, (ValueError, OSError)):
        return "".join(traceback.format_exception(error)).rstrip()
    line = printable(" ".join(str(error).split())) or type(error).__name__
    if is_out_of_files(error):
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        line += f"; a process may open {limit} files here (ulimit -n), which is not enough"
    return line


def is_out_of_files(error: BaseException) -> bool:
    """Whether an error says that this process, or the machine, has too many open files: nothing about a file itself."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS)


def complain(message: str) -> None:
    """Writes to stderr why this process ends."""
    _flush(sys.stdout)
    with suppress(OSError, ValueError):  # a terminal that has gone keeps no process alive
        print(message, file=sys.stderr, flush=True)


def end_process(code: int) -> NoReturn:
    """Ends this process from any thread, whatever its threads wait for."""
    _flush(sys.stdout)
    _flush(sys.stderr)
    os._exit(code)


def end_with_parent(parent: int) -> None:
    """Has the kernel kill this process as soon as the thread that started it has ended; if its parent is gone already,
    ends it at once.

    Args:
        parent: process id of the process that started this one.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(FAILED)


def _flush(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        stream.flush()
