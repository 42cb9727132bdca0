"""The C functions by which ranks that share memory add up a few numbers: see ``kernels/c/shared_sums.c``."""

import ctypes
from functools import lru_cache

from dlrm_mtl.balancing.kernels.c_structures import Exchange
from dlrm_mtl.balancing.kernels.compiled import c_library

COMPLETE, MISSING, OVERWRITTEN, OTHER_COUNT = range(4)
"""Outcomes of ``add_up``, as in the C source."""


class SharedSums:
    """The C functions, with the arguments of the source."""

    def __init__(self, library: ctypes.CDLL) -> None:
        exchange, numbers, number = ctypes.POINTER(Exchange), ctypes.c_void_p, ctypes.c_uint32
        count, duration, culprit = ctypes.c_long, ctypes.c_long, ctypes.POINTER(ctypes.c_int)
        self.shared_bytes = library.shared_bytes
        self.shared_bytes.argtypes = [ctypes.c_int, ctypes.c_long]
        self.shared_bytes.restype = ctypes.c_long
        self.put = library.put
        self.put.argtypes = [exchange, number, numbers, count]
        self.put.restype = None
        self.add_up = library.add_up
        self.add_up.argtypes = [exchange, number, numbers, count, duration, culprit]
        self.add_up.restype = ctypes.c_int


@lru_cache
def shared_sums() -> SharedSums | None:
    """None without the C extension."""
    library = c_library()
    return None if library is None else SharedSums(library)
