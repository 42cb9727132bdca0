"""Writes one rank's files of predictions."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dlrm_mtl.data.dataset import Dataset
from dlrm_mtl.data.order import Order
from dlrm_mtl.files import write_whole
from dlrm_mtl.inference.predictions.columns import Columns, Predicted


def write_parts(
    parts: Mapping[Path, range], dataset: Dataset, split: str, columns: Columns, batches: Iterable[Predicted]
) -> None:
    """Writes the predictions of some parts, one row group for each of the data set: memory holds one of them.

    A file appears when it is whole.

    Args:
        parts: places of rows in the split, by file.
        batches: (B, M + P) of consecutive rows of the parts; the end of a part is one of a batch. All are taken, also
            empty ones after the last part.

    Raises:
        ValueError: a row group cannot be read.
    """
    order = Order(dataset.row_groups[split])
    rows = _Rows(iter(batches))
    for file, part in parts.items():
        with _named(file), write_whole(file) as temporary, pq.ParquetWriter(temporary, columns.schema) as writer:
            for piece in order.parts(part.start, part.stop):
                writer.write_table(columns.table(dataset, piece, rows.take(piece.rows)))
    rows.exhaust()


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Adds the file to an error of the file system, such as a full disk, which pyarrow leaves out."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(file)
        raise


class _Rows:
    """Rows of consecutive batches, in other numbers."""

    def __init__(self, batches: Iterator[Predicted]) -> None:
        self._batches = batches
        self._waiting: list[Predicted] = []
        self._rows = 0

    def take(self, rows: int) -> Predicted:
        while self._rows < rows:
            batch = next(self._batches)
            self._waiting.append(batch)
            self._rows += len(batch)
        waiting = np.concatenate(self._waiting)
        self._waiting, self._rows = [waiting[rows:]], self._rows - rows
        return waiting[:rows]

    def exhaust(self) -> None:
        for _ in self._batches:
            pass
