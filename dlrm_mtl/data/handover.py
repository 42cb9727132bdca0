"""Sends batches to another process on this machine through shared memory.

A batch is one anonymous file (memfd), whose descriptor is sent over the connection. It needs one open file, no space in
/dev/shm and no socket in TMPDIR, and disappears with the two processes.
"""

import errno
import io
import mmap
import os
import pickle
import socket
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 64
"""Alignment of each tensor in bytes."""


@dataclass(frozen=True)
class Parcel:
    """The message that accompanies the memory.

    Attributes:
        spans: first byte and size of each tensor in the memory.
        content: the rest of the value, pickled.
    """

    spans: tuple[tuple[int, int], ...]
    content: bytes


def send(connection: Connection, value: Any) -> None:
    """Sends a value that holds tensors on the CPU.

    Args:
        connection: of a Unix socket.

    Raises:
        OSError: there is no memory or no file descriptor left, or the other process is gone.
    """
    buffers: list[pickle.PickleBuffer] = []
    content = io.BytesIO()
    _Pickler(content, protocol=5, buffer_callback=buffers.append).dump(value)
    spans, end = [], 0
    descriptor = os.memfd_create("dlrm-mtl-batch")
    try:
        for buffer in buffers:
            with buffer.raw() as view:
                spans.append((end, len(view)))
                _write(descriptor, view, end)
                end += -(-len(view) // ALIGNMENT) * ALIGNMENT
        os.ftruncate(descriptor, max(end, 1))  # an empty file cannot be mapped
        with _socket(connection) as channel:
            connection.send(Parcel(tuple(spans), content.getvalue()))
            socket.send_fds(channel, [b"."], [descriptor])
    finally:
        os.close(descriptor)


def receive(connection: Connection, parcel: Parcel) -> Any:
    """The value of a received parcel. Its tensors are in the shared memory and keep it alive.

    Raises:
        OSError: there is no file descriptor left.
        EOFError: the other process is gone.
    """
    with _socket(connection) as channel:
        sent, descriptors, _, _ = socket.recv_fds(channel, 1, 1, socket.MSG_CMSG_CLOEXEC)
    if not sent:
        raise EOFError
    if not descriptors:  # Linux omits descriptors that cannot be opened
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    [descriptor] = descriptors
    try:
        memory = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    finally:
        os.close(descriptor)
    view = memoryview(memory)
    return pickle.loads(parcel.content, buffers=[view[start : start + size] for start, size in parcel.spans])


class _Pickler(pickle.Pickler):
    """Leaves out the values of tensors; the callback receives them."""

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented


def _socket(connection: Connection) -> socket.socket:
    return socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)


def _write(descriptor: int, view: memoryview, start: int) -> None:
    written = 0
    while written < len(view):
        written += os.pwrite(descriptor, view[written:], start + written)
