"""MultiBalance's step in C, for a CPU: see ``multibalance_step.c``."""

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from dlrm_mtl.balancing.c_library import build_library

MAX_TASKS = 16
"""More tasks step in tensors: the numbers that Python hands over grow with M^2."""


class MultiBalanceStep:
    """The compiled function."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, whole, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_double
        # With Python's lock, which another thread might keep for long.
        prototype = ctypes.PYFUNCTYPE(
            None, *(pointer, whole, pointer, pointer, pointer), *(real, real, real, whole, real, real, pointer)
        )
        self._step = prototype(("multibalance_step", library))

    def __call__(
        self,
        gramian: Sequence[Sequence[float]],
        weights: Tensor,
        averages: Tensor,
        prior: Tensor,
        *,
        beta: float,
        rho: float,
        gamma: float,
        cosine: bool,
        prior_in_direction: float,
        max_rescale: float | None,
    ) -> list[float]:
        """One step of M tasks.

        Args:
            gramian: (M, M) finite.
            weights: (M,) lambda, which is advanced.
            averages: (M,) u, which is advanced; 0 where there was no gradient yet.
            prior: (M,) lambda_0.
            cosine: whether lambda follows cosines, or inner products.
            others: options of :class:`MultiBalance`.

        Returns:
            M coefficients on the raw gradients.

        Raises:
            ValueError: a tensor that is not M float64 numbers in a CPU's memory, one after the other.
        """
        num_tasks = len(gramian)
        coefficients = (ctypes.c_double * num_tasks)()
        self._step(
            (ctypes.c_double * (num_tasks * num_tasks))(*chain.from_iterable(gramian)),
            num_tasks,
            _address(weights, num_tasks),
            _address(averages, num_tasks),
            _address(prior, num_tasks),
            beta,
            rho,
            gamma,
            cosine,
            prior_in_direction,
            float("inf") if max_rescale is None else max_rescale,
            coefficients,
        )
        return list(coefficients)


@lru_cache
def multibalance_step() -> MultiBalanceStep | None:
    """None where it cannot be compiled."""
    library = build_library(Path(__file__).with_suffix(".c"), ("-O2", "-ffp-contract=off"))
    return None if library is None else MultiBalanceStep(library)


def _address(values: Tensor, count: int) -> int:
    if not (values.is_cpu and values.dtype == torch.float64 and values.shape == (count,) and values.is_contiguous()):
        raise ValueError(
            f"state is {tuple(values.shape)} {values.dtype} on {values.device}, expected ({count},) contiguous"
            " torch.float64 on the CPU, where the gradients are"
        )
    return values.data_ptr()
