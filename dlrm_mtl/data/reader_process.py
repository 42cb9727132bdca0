"""A process that reads batches for another. It makes sure that it ends with its parent before it imports torch, which
takes seconds.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from dlrm_mtl.ending import REFUSED, describe, end_with_parent, exit_code


@dataclass(frozen=True)
class Task:
    """What a reader process is to do."""

    stream: Callable[[], Iterator[Any]]
    """Reads the batches."""
    prefetch: int
    """Batches that are read before the first one is taken; with each that is taken, one more."""


@dataclass(frozen=True)
class Failure:
    """An error that ended a reader process; its last word."""

    text: str
    """One line, or a traceback."""
    of_user: bool
    """Whether the user or the file system is to blame: a ValueError or an OSError."""


@dataclass(frozen=True)
class End:
    """All batches were sent: likewise."""


def main() -> None:
    """Reads as the connection says.

    Args (of the command line):
        DESCRIPTOR: of the connection to the parent, over which a :class:`Task` comes; batches, and at last a
            :class:`Failure` or an :class:`End`, go back.
        PARENT: process id.
    """
    descriptor, parent = map(int, sys.argv[1:])
    end_with_parent(parent)
    connection = Connection(descriptor)
    last_word: Failure | End = End()
    try:
        _read(connection)
    except Exception as error:
        last_word = Failure(describe(error), of_user=exit_code(error) == REFUSED)
    connection.send(last_word)


def _read(connection: Connection) -> None:
    task: Task = connection.recv()
    import torch

    from dlrm_mtl.data import handover

    torch.set_num_threads(1)
    for number, batch in enumerate(task.stream()):
        if number >= task.prefetch:
            connection.recv_bytes()  # one was taken
        handover.send(connection, batch)
