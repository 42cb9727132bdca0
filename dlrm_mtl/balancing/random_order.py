"""Random orders that are a function of (seed, step): the same on every rank, on device, without a generator's state."""

import torch
from torch import Tensor


def random_orders(rows: int, columns: int, seed: int, step: Tensor) -> Tensor:
    """A random permutation of the columns for each row.

    Args:
        step: 0-d int64.

    Returns:
        (rows, columns) int64.
    """
    counter = torch.arange(rows * columns, device=step.device).view(rows, columns)
    return _mix(_mix(counter + seed * 0x9E3779B9) + step * 0x2545F4914F6CDD1D).argsort(dim=1)


def _mix(values: Tensor) -> Tensor:
    """An integer hash: xor-shifts and odd multipliers, on int64 with wrap-around."""
    values = (values ^ (values >> 30)) * -4658895280553007687
    values = (values ^ (values >> 27)) * -7723592293110705685
    return values ^ (values >> 31)
