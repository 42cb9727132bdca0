"""Parsed rows, collected by split into chunks."""

from collections.abc import Sequence

import pyarrow as pa

from data_prep.columns.rows import Rows
from data_prep.engine.preparation import Preparation
from data_prep.output.time_spans import SeenTimes

CHUNK_ROWS = 65_536
"""Rows counted or encoded at a time, at least: enough to outweigh the overhead of calls."""


class SplitRows:
    """Collects the rows of one segment by split, until there are enough for a chunk.

    Args:
        splits: whose rows are collected; by default all.
    """

    def __init__(
        self,
        preparation: Preparation,
        file: int,
        start: int,
        splits: Sequence[str] = (),
        seen: SeenTimes | None = None,
    ) -> None:
        self.split = preparation.split
        self._times = preparation.times
        self._seen = seen
        self.file = file
        self._next = start
        self._pending: dict[str, list[pa.Table]] = {split: [] for split in splits or preparation.split.names}
        self.outside = 0
        """Rows of no split."""

    def add(self, rows: Rows) -> None:
        used = 0
        times = self._times.of(rows.table) if self._times is not None and len(rows.table) else None
        for split, mask in self.split.masks(self.file, self._next + rows.positions, times).items():
            if mask is not False:
                if times is not None and self._seen is not None:
                    self._seen.add(split, times if mask is True else times[mask])
                table = rows.table if mask is True else rows.table.filter(pa.array(mask))
                used += len(table)
                if split in self._pending:
                    self._pending[split].append(table)
        self.outside += len(rows.table) - used
        self._next += rows.lines

    def ready(self, split: str, at_least: int = CHUNK_ROWS) -> pa.Table | None:
        """Takes the collected rows of a split; None: they are not enough yet."""
        if sum(map(len, self._pending[split])) < at_least:
            return None
        table = pa.concat_tables(self._pending[split])
        self._pending[split] = []
        return table
