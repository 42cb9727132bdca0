"""Which rows a reader takes, in which order: a pure function of (data set, seed, epoch, rank, worker)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dlrm_mtl.data.dataset import RowGroup


@dataclass(frozen=True)
class Segment:
    """Rows ``[start, stop)`` of a row group."""

    row_group: RowGroup
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Share:
    """A range of positions in a split's row order, cut into batches."""

    start: int
    stop: int
    batches: int
    """Number of batches, equal on all ranks together with the padding of :func:`evaluation_share`."""


def training_share(rows: int, batch_size: int, rank: int, world_size: int, worker: int, workers: int) -> Share:
    """The share of one reader worker of one rank: whole batches only, as many on each rank.

    Args:
        rows: rows of the split.
        batch_size: local batch size B.
    """
    steps = rows // (batch_size * world_size)
    first, last = _part(steps, worker, workers)
    start = rank * steps * batch_size
    return Share(start + first * batch_size, start + last * batch_size, last - first)


def dropped_rows(rows: int, batch_size: int, world_size: int) -> int:
    """Rows of an epoch that fill no batch on every rank."""
    return int(rows % (batch_size * world_size))


def evaluation_share(rows: int, batch_size: int, rank: int, world_size: int) -> Share:
    """The share of one rank: every row once. Ranks differ by one row at most, so that the number of batches (equal on
    all ranks) exceeds what a rank needs by one at most: that rank then ends on a batch of padding."""
    start, stop = _part(rows, rank, world_size)
    largest = -(-rows // world_size)
    return Share(start, stop, -(-largest // batch_size))


def shuffled_row_groups(row_groups: Sequence[RowGroup], seed: int, epoch: int) -> list[RowGroup]:
    """The row groups in the order of an epoch: the same on every rank."""
    order = np.random.default_rng([seed, epoch]).permutation(len(row_groups))
    return [row_groups[index] for index in order]


def segments(row_groups: Sequence[RowGroup], start: int, stop: int) -> Iterator[Segment]:
    """The rows at positions ``[start, stop)`` of the concatenated row groups."""
    position = 0
    for group in row_groups:
        first, last = max(start - position, 0), min(stop - position, group.rows)
        if first < last:
            yield Segment(group, first, last)
        position += group.rows


def windows(parts: Iterator[Segment], min_rows: int) -> Iterator[list[Segment]]:
    """Consecutive segments, gathered until they hold at least ``min_rows`` rows: what is shuffled in memory."""
    window: list[Segment] = []
    for part in parts:
        window.append(part)
        if sum(segment.rows for segment in window) >= min_rows:
            yield window
            window = []
    if window:
        yield window


def _part(total: int, index: int, parts: int) -> tuple[int, int]:
    return index * total // parts, (index + 1) * total // parts
