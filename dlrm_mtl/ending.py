"""How processes end: exit codes, messages, ending at once, and ending with the parent process."""

import ctypes
import errno
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from typing import NoReturn, TextIO

from dlrm_mtl.location import store_may_recover
from dlrm_mtl.quoting import printable

FAILED = 1
REFUSED = 2
"""Exit code after an error that the user must fix: in an option, the data or the file system."""
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
"""Exit code of a run that ended on SIGTERM: not a failure but unfinished, so that schedulers requeue it."""

SAVE_TIME = "DLRM_MTL_SAVE_TIME"
"""Variable in which a launcher says how many seconds its processes have between SIGTERM and SIGKILL."""

_PR_SET_PDEATHSIG = 1
_OF_THE_NETWORK = frozenset(
    {errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH}
)
"""Errors of connections and network file systems that have no exception class of their own."""


class Terminated(SystemExit):
    """Raised on every rank when the run ends because of SIGTERM.

    Args:
        where: how far the run has come; its work up to there is saved.
    """

    def __init__(self, where: str) -> None:
        super().__init__(TERMINATED)
        self.where = where

    def __str__(self) -> str:
        return f"told to end (SIGTERM) {self.where}; the same command goes on from there"


def exit_code(error: BaseException) -> int:
    """Exit code of a process that an exception ends; :data:`REFUSED` if it would happen again in a second try."""
    if isinstance(error, (ValueError, OSError)):
        return FAILED if _may_pass(error) else REFUSED
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED


def describe(error: BaseException) -> str:
    """The message of an exception that ends a process: one line, or the traceback if the error is not the user's."""
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted"
    if not isinstance(error, (ValueError, OSError)):
        return "".join(traceback.format_exception(error)).rstrip()
    line = printable(" ".join(str(error).split())) or type(error).__name__
    if is_out_of_files(error):
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        line += f"; a process may open {limit} files here (ulimit -n), which is not enough"
    return line


def _may_pass(error: BaseException) -> bool:
    """Whether a second try may not have the error."""
    of_network = isinstance(error, OSError) and error.errno in _OF_THE_NETWORK
    return of_network or isinstance(error, (ConnectionError, TimeoutError)) or store_may_recover(error)


def is_out_of_files(error: BaseException) -> bool:
    """Whether the error is that this process or the machine has too many open files."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS)


def complain(message: str) -> None:
    """Writes the reason why this process ends to stderr."""
    _flush(sys.stdout)
    with suppress(OSError, ValueError):  # a closed terminal must not keep the process alive
        print(message, file=sys.stderr, flush=True)


def end_process(code: int) -> NoReturn:
    """Ends this process from any thread, even if others block."""
    _flush(sys.stdout)
    _flush(sys.stderr)
    os._exit(code)


def end_with_parent(parent: int) -> None:
    """Makes the kernel kill this process when the thread that started it ends; if the parent has already ended, ends it
    at once.

    Args:
        parent: process id of the process that started this one.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(FAILED)


def _flush(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        stream.flush()
