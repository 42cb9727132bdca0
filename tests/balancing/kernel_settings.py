"""Kernels as in a new process."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dlrm_mtl.balancing.exchange.shared_sums import shared_sums
from dlrm_mtl.balancing.kernels import choice, compiled, compiled_methods, cpu_kernels


@contextmanager
def fresh_kernels(setting: str | None = None) -> Iterator[pytest.MonkeyPatch]:
    """Within, the setting is read and the C library loaded as in a new process.

    Args:
        setting: of ``DLRM_MTL_KERNELS``.
    """
    with pytest.MonkeyPatch.context() as patch:
        if setting is not None:
            patch.setenv(choice.VARIABLE, setting)
        _forget()
        yield patch
    _forget()


def _forget() -> None:
    for cached in (choice.plain_only, compiled.c_library, cpu_kernels._library, compiled_methods._library, shared_sums):
        cached.cache_clear()
