"""Readers: a split of a data set to the batches of one rank."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dlrm_mtl.config import ReaderConfig
from dlrm_mtl.data.assembly import Array, Rows, concatenate
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.dataset import Dataset
from dlrm_mtl.data.order import (
    Segment,
    dropped_rows,
    evaluation_share,
    segments,
    shuffled_row_groups,
    training_share,
    windows,
)


class TrainingReader(IterableDataset[MultiTaskBatch]):
    """One rank's batches of an epoch: every row of the split at most once, shuffled by seed and epoch, the same
    number of equally large batches on every rank. ``rows_dropped`` rows of the split fill no batch.

    Args:
        batch_size: local batch size B.

    Raises:
        ValueError: the split is smaller than one global batch.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, seed: int, rank: int, world_size: int, shuffle_rows: int
    ) -> None:
        rows = dataset.schema.rows("train")
        if rows < batch_size * world_size:
            raise ValueError(
                f"{dataset.directory}: {rows} training rows, fewer than one global batch of {batch_size * world_size}"
            )
        self._dataset = dataset
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._shuffle_rows = shuffle_rows
        self._epoch = 0
        self.steps = rows // (batch_size * world_size)
        self.rows_dropped = dropped_rows(rows, batch_size, world_size)

    def __len__(self) -> int:
        return self.steps

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration reads."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[MultiTaskBatch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        rows = self._dataset.schema.rows("train")
        share = training_share(rows, self._batch_size, self._rank, self._world_size, worker, workers)
        groups = shuffled_row_groups(self._dataset.row_groups["train"], self._seed, self._epoch)
        parts = windows(segments(groups, share.start, share.stop), self._shuffle_rows)
        shuffled = (
            self._shuffle(window, [self._seed, self._epoch, self._rank, worker, number])
            for number, window in enumerate(parts)
        )
        yield from _batches(self._dataset, shuffled, self._batch_size)

    def _shuffle(self, window: list[Segment], seed: list[int]) -> tuple[pa.Table, Array]:
        table, positions = _read(self._dataset, window)
        order = np.random.default_rng(seed).permutation(len(positions))
        return table.take(order), positions[order]


class EvaluationReader(IterableDataset[MultiTaskBatch]):
    """One rank's batches of the eval split: every row once over all ranks, in order, the same number of batches on
    every rank. Where a rank runs out of rows, a padding row (``rows == -1``, masks 0) keeps the collectives aligned.

    Args:
        batch_size: local batch size B; the last batch may be smaller.
    """

    def __init__(self, dataset: Dataset, batch_size: int, rank: int, world_size: int) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self._share = evaluation_share(dataset.schema.rows("eval"), batch_size, rank, world_size)

    def __len__(self) -> int:
        return self._share.batches

    def __iter__(self) -> Iterator[MultiTaskBatch]:
        groups = self._dataset.row_groups["eval"]
        parts = segments(groups, self._share.start, self._share.stop)
        pieces = (_read(self._dataset, [part]) for part in parts)
        produced = 0
        for batch in _batches(self._dataset, pieces, self._batch_size):
            produced += 1
            yield batch
        for _ in range(produced, self._share.batches):
            table, _ = _read(self._dataset, [Segment(groups[0], 0, 1)])
            yield Rows(self._dataset.schema, table, np.array([-1])).batch(0, 1)


def batches(
    reader: TrainingReader | EvaluationReader, config: ReaderConfig, pin_memory: bool
) -> Iterable[MultiTaskBatch]:
    """Runs a reader, in this process or in worker processes that read ahead; into pinned memory for GPUs."""
    workers = config.workers if config.workers is not None else 2 * pin_memory
    if isinstance(reader, EvaluationReader):
        workers = 0  # the evaluation pipeline reads ahead in a thread of its own
    return DataLoader(
        reader,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=config.prefetch if workers else None,
        pin_memory=pin_memory,
        # Forked workers would inherit the threads and locks of the process group.
        multiprocessing_context="spawn" if workers else None,
    )


def _read(dataset: Dataset, parts: list[Segment]) -> tuple[pa.Table, Array]:
    """Rows of some segments, and their positions in the split."""
    tables, positions = [], []
    for part in parts:
        tables.append(dataset.read(part.row_group, dataset.columns).slice(part.start, part.rows))
        first = part.row_group.first_row
        positions.append(np.arange(first + part.start, first + part.stop, dtype=np.int64))
    return pa.concat_tables(tables), np.concatenate(positions)


def _batches(dataset: Dataset, pieces: Iterable[tuple[pa.Table, Array]], batch_size: int) -> Iterator[MultiTaskBatch]:
    """Cuts pieces into batches; what a piece leaves over opens the next one's first batch."""
    rest: list[tuple[pa.Table, Array]] = []
    for piece in pieces:
        rows = concatenate(dataset.schema, [*rest, piece])
        whole = len(rows) - len(rows) % batch_size
        for start in range(0, whole, batch_size):
            yield rows.batch(start, start + batch_size)
        table, positions = piece
        left = len(rows) - whole
        if left > len(positions):
            rest.append(piece)
        else:
            rest = [(table.slice(len(positions) - left), positions[len(positions) - left :])] if left else []
    if rest:
        rows = concatenate(dataset.schema, rest)
        yield rows.batch(0, len(rows))
