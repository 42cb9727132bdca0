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
    """Row groups, one after the other, and padding spread evenly among their rows. The place of a row, or of padding,
    is its index in this order.

    Args:
        padding: number of places without a row.
    """

    def __init__(self, row_groups: Sequence[RowGroup], padding: int = 0) -> None:
        self._row_groups = row_groups
        self._stops = list(accumulate(group.rows for group in row_groups))
        self._padding = padding
        self._places = self._stops[-1] + padding if row_groups else 0

    def padding(self, start: int, stop: int) -> int:
        """Number of places in ``[start, stop)`` without a row."""
        return stop - start - (self._row(stop) - self._row(start))

    def parts(self, start: int, stop: int) -> list[Part]:
        """The rows at places ``[start, stop)``."""
        found = []
        start, stop = self._row(start), self._row(stop)
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
            index = bisect_left(self._stops, self._row(start + min_rows))
            last = max(start + min_rows, self._place(self._stops[index])) if index < len(self._stops) else stop
            end = min(stop, last)
            found.append((start, end))
            start = end
        return found

    def _row(self, place: int) -> int:
        """Number of rows before a place."""
        return place - place * self._padding // self._places if self._padding else place

    def _place(self, row: int) -> int:
        """The first place with so many rows before it."""
        return bisect_left(range(self._places), row, key=self._row) if self._padding else row


def shuffled(row_groups: Sequence[RowGroup], seed: int, epoch: int, padding: int = 0) -> Order:
    """The row groups in the order of an epoch: the same on every rank."""
    order = np.random.default_rng([seed, epoch]).permutation(len(row_groups))
    return Order([row_groups[index] for index in order], padding)


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
