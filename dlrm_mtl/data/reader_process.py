"""A process that reads batches for another. Before it imports torch, which takes seconds, it makes sure to end with its
parent.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from dlrm_mtl.ending import REFUSED, describe, end_with_parent, exit_code
from dlrm_mtl.imports import without_garbage_collection


@dataclass(frozen=True)
class Task:
    """The task of a reader process."""

    stream: Callable[[], Iterator[Any]]
    """Reads the batches."""
    prefetch: int
    """Batches that are read ahead."""


@dataclass(frozen=True)
class Failure:
    """The last message of a reader process: the error that ended it."""

    text: str
    """One line, or a traceback."""
    of_user: bool
    """Whether it is a ValueError or an OSError: an error of the user or the file system."""


@dataclass(frozen=True)
class End:
    """The last message of a reader process: all batches were sent."""


def main() -> None:
    """Reads batches as the task from the connection says.

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
    with suppress(ConnectionError):  # the parent has gone, and this process is about to be killed
        connection.send(last_word)


def _read(connection: Connection) -> None:
    with without_garbage_collection():
        task: Task = connection.recv()  # imports the readers
        import torch

        from dlrm_mtl.data import handover

    torch.set_num_threads(1)
    for number, batch in enumerate(task.stream()):
        if number >= task.prefetch:
            connection.recv_bytes()  # one was taken
        handover.send(connection, batch)
