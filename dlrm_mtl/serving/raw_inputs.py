"""Raw rows as the inputs of an exported model."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from data_prep.encoding.encoder import Encoder
from data_prep.encoding.files import read_assignments, read_encoding
from data_prep.encoding.raw_rows import RawRows
from dlrm_mtl.meaning import Meaning

CHUNK_ROWS = 8192
"""Rows that are encoded at a time, which bounds memory."""


class RawInputs:
    """Encodes raw rows as the preparation of the training data did.

    Args:
        directory: of ``encoding.json`` and its vocabularies.
        meaning: of the model's inputs.

    Raises:
        ValueError: the files are missing or damaged, or encode other tables or dense features than the model's.
    """

    def __init__(self, directory: Path, meaning: Meaning) -> None:
        encoding = read_encoding(directory, meaning)
        self._rows = RawRows(encoding)
        self._encoder = Encoder(encoding, read_assignments(encoding, directory))

    @property
    def columns(self) -> list[str]:
        """The columns that a raw row must have."""
        return self._rows.columns

    @property
    def unseen(self) -> Counter[str]:
        """Values outside the vocabulary so far, by feature."""
        return self._encoder.unseen

    def encode(self, rows: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """``dense``, ``values`` and ``lengths`` of raw rows, as :class:`Export` takes them, for at most ``CHUNK_ROWS``
        at a time; at least once.

        Args:
            rows: a list of dicts, an Arrow table or record batch, or a pandas data frame. None and NaN are
                missing values; further columns are ignored.

        Raises:
            ValueError: a column is missing, or a value is of a wrong type or, where rows hold ids, outside of its
                table; names column, row (from 0) and value.
        """
        table = self._rows.read(rows)
        for first in range(0, max(len(table), 1), CHUNK_ROWS):
            yield self._encode(table.slice(first, CHUNK_ROWS))

    def _encode(self, table: pa.Table) -> tuple[Tensor, Tensor, Tensor]:
        size = len(table)
        ids, lengths = [], []
        for _, of_feature, per_row in self._encoder.ids(table):
            ids.append(of_feature)
            lengths.append(np.ones(size, np.int64) if per_row is None else per_row)
        dense = list(self._encoder.dense(table).values())
        return (
            torch.from_numpy(np.stack(dense, axis=1) if dense else np.empty((size, 0), np.float32)),
            torch.from_numpy(np.concatenate(ids, dtype=np.int64)),
            torch.from_numpy(np.stack(lengths).astype(np.int64, copy=False)),
        )
