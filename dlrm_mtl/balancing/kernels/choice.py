"""The environment variable that switches the special kernels off."""

import os
from functools import lru_cache

VARIABLE = "DLRM_MTL_KERNELS"
VALUES = ("fast", "plain")


@lru_cache
def plain_only() -> bool:
    """Whether ``DLRM_MTL_KERNELS`` is ``plain``: every operation is then plain PyTorch, without C, memory shared by
    ranks, Triton and CUDA graphs. The default is ``fast``. A process reads the variable once.

    Raises:
        ValueError: another value.
    """
    value = os.environ.get(VARIABLE, "fast")
    if value not in VALUES:
        raise ValueError(f"{VARIABLE} is {value!r}, expected {' or '.join(VALUES)}")
    return value == "plain"
