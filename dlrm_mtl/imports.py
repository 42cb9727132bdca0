"""Imports of large libraries in less time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Around imports of torch and torchrec: collections meanwhile would take a fifth of the time, since each visits all
    modules so far. Later collections leave out what has been imported."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
