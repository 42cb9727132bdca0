"""The order of a split's rows in an epoch, and how it is divided among ranks and their reader streams."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from dlrm_mtl.data.dataset import RowGroup


@dataclass(frozen=True)
class Part:
    """Rows ``[start, stop)`` of a row group."""

    row_group: RowGroup
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


class Order:
    """Row groups, one after the other. A row's place is its index in this order."""

    def __init__(self, row_groups: Sequence[RowGroup]) -> None:
        self._row_groups = row_groups
        self._stops = list(accumulate(group.rows for group in row_groups))

    def parts(self, start: int, stop: int) -> list[Part]:
        """The rows at places ``[start, stop)``."""
        found = []
        index = bisect_right(self._stops, start)
        while start < stop:
            group = self._row_groups[index]
            first_place = self._stops[index] - group.rows
            end = min(stop, self._stops[index])
            if start < end:
                found.append(Part(group, start - first_place, end - first_place))
            start, index = end, index + 1
        return found

    def windows(self, start: int, stop: int, min_rows: int) -> list[tuple[int, int]]:
        """The places ``[start, stop)``, cut at ends of row groups into parts of at least ``min_rows`` rows, which are
        shuffled in memory."""
        found = []
        while start < stop:
            index = bisect_left(self._stops, start + min_rows)
            end = min(stop, self._stops[index]) if index < len(self._stops) else stop
            found.append((start, end))
            start = end
        return found


def shuffled(row_groups: Sequence[RowGroup], seed: int, epoch: int) -> Order:
    """The row groups in the order of an epoch: the same on every rank."""
    order = np.random.default_rng([seed, epoch]).permutation(len(row_groups))
    return Order([row_groups[index] for index in order])


@dataclass(frozen=True)
class Share:
    """The rows of the eval split that one rank reads, and the number of batches."""

    start: int
    stop: int
    batches: int
    """Number of batches, equal on all ranks; a rank that needs fewer ends with a batch of padding."""


def evaluation_share(rows: int, batch_size: int, rank: int, world_size: int) -> Share:
    """The share of one rank; all shares together hold every row once. Ranks differ by at most one row, so a rank has at
    most one batch of padding."""
    start, stop = (index * rows // world_size for index in (rank, rank + 1))
    largest = -(-rows // world_size)
    return Share(start, stop, -(-largest // batch_size))
