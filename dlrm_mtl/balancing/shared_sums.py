"""The C functions by which ranks that share memory add up a few numbers: see ``shared_sums.c``."""

import ctypes
import sys
from functools import lru_cache
from pathlib import Path

from dlrm_mtl.balancing.c_library import build_library

COMPLETE, AWAITED, OVERTAKEN, OF_ANOTHER_COUNT = range(4)
"""What adding up comes to, as in the source."""


class SharedSums:
    """The compiled functions; their arguments are those of the source."""

    def __init__(self, library: ctypes.CDLL) -> None:
        memory, numbers, rank = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int
        capacity, count, duration, number = ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_uint32
        self.shared_bytes = ctypes.PYFUNCTYPE(ctypes.c_long, rank, capacity)(("shared_bytes", library))
        # With Python's lock, which another thread might keep for long, what takes less than a microsecond.
        self.put = ctypes.PYFUNCTYPE(None, memory, capacity, rank, number, numbers, count)(("put", library))
        adding = (ctypes.c_int, memory, capacity, rank, number, numbers, count, duration, ctypes.c_void_p)
        self.look = ctypes.PYFUNCTYPE(*adding)(("add_up", library))
        self.wait = ctypes.CFUNCTYPE(*adding)(("add_up", library))


@lru_cache
def shared_sums() -> SharedSums | None:
    """None where they cannot be compiled, or there are no futexes."""
    if sys.platform != "linux":
        return None
    library = build_library(Path(__file__).with_suffix(".c"), ("-O2",))
    return None if library is None else SharedSums(library)
