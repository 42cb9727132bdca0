"""Random orders as a function of (seed, step): the same on every rank, on the device, without a generator."""

from functools import cache

import torch
from torch import Tensor

from dlrm_mtl.balancing.algebra.arrays import Array, like, namespace


def random_orders(rows: int, columns: int, seed: int, step: Array) -> Array:
    """A random permutation of the columns for each row.

    Args:
        step: 0-d int64.

    Returns:
        (rows, columns) int64.
    """
    cells = like(step, _cells(rows, columns, seed, _device(step)))
    return _mix(cells + step * 0x2545F4914F6CDD1D).argsort(1)


def random_partners(num_tasks: int, seed: int, step: Array) -> Array:
    """For each task the other tasks, in a random order.

    Returns:
        (M, M - 1) int64.
    """
    orders = random_orders(num_tasks, num_tasks - 1, seed, step)
    return orders + (orders >= like(step, _tasks(num_tasks, _device(step))))


def _device(step: Array) -> torch.device:
    return step.device if namespace(step) is torch else torch.device("cpu")


@cache  # kept for good, since CUDA graphs read it
def _tasks(num_tasks: int, device: torch.device) -> Tensor:
    """(M, 1)"""
    return torch.arange(num_tasks, device=device)[:, None]


@cache  # kept for good, since CUDA graphs read it
def _cells(rows: int, columns: int, seed: int, device: torch.device) -> Tensor:
    """(rows, columns) random numbers."""
    counter = torch.arange(rows * columns, device=device).view(rows, columns)
    return _mix(counter + seed * 0x9E3779B9)


def _mix(values: Array) -> Array:
    """A hash of int64: xor-shifts and odd multipliers, with wrap-around."""
    values = (values ^ (values >> 30)) * -4658895280553007687
    values = (values ^ (values >> 27)) * -7723592293110705685
    return values ^ (values >> 31)
