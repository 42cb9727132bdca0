"""Readers: a split of a data set to the batches of one rank."""

import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dlrm_mtl.config import ReaderConfig
from dlrm_mtl.data.ahead import ahead
from dlrm_mtl.data.assembly import Array, Rows, concatenate
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.order import Order, evaluation_share, shuffled
from dlrm_mtl.data.position import Position
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.data.streams import Division, Piece
from dlrm_mtl.schema import Schema


class TrainingReader(IterableDataset[MultiTaskBatch]):
    """One rank's batches of the rest of an epoch: every row of the split at most once, shuffled by seed and epoch, the
    same number of equally large batches on every rank. ``rows_dropped`` rows of the split fill no batch.

    Args:
        batch_size: local batch size B.
        workers: reader streams per rank, see :func:`reader_streams`.

    Raises:
        ValueError: the split is smaller than one global batch.
    """

    def __init__(
        self,
        source: RowSource,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        shuffle_rows: int,
        workers: int = 1,
    ) -> None:
        dataset, global_batch = source.dataset, batch_size * world_size
        rows = dataset.schema.rows("train")
        if rows < global_batch:
            raise ValueError(
                f"{dataset.directory}: {rows} training rows, fewer than one global batch of {global_batch}"
            )
        self._source = source
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._shuffle_rows = shuffle_rows
        self._workers = workers
        self._position = Position()
        self.steps, self.rows_dropped = divmod(rows, global_batch)
        """Steps of an epoch, and rows of the split that fill no batch."""

    def __len__(self) -> int:
        return self.steps - self._position.steps

    def set_position(self, position: Position) -> None:
        """Chooses where the next iteration begins; it ends with the epoch. With the ranks and workers of the last
        phase, reading goes on as if it had not stopped.

        Raises:
            ValueError: a position that another data set or another global batch size must have led to.
        """
        if position.steps >= self.steps:
            raise ValueError(f"data position: {position.steps} steps of an epoch of {self.steps}, expected fewer")
        global_batch = self._batch_size * self._world_size
        for phase in position.phases:
            if global_batch % phase.world_size:
                raise ValueError(
                    f"data position: a phase on {phase.world_size} ranks, which do not divide the global batch of"
                    f" {global_batch} rows"
                )
        self._position = position

    def advance(self, position: Position, steps: int) -> Position:
        """The position after further steps on this reader's ranks and workers."""
        return position.advance(steps, self._world_size, self._workers, self.steps)

    def __iter__(self) -> Iterator[MultiTaskBatch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        if workers != self._workers:
            raise RuntimeError(f"{workers} reader processes read a position of {self._workers} reader streams")
        order = shuffled(self._source.dataset.row_groups["train"], self._seed, self._position.epoch)
        division = Division(order, self.steps, self._batch_size * self._world_size, self._shuffle_rows)
        streams = division.streams(self._position.phases, self._world_size, self._workers)
        shuffles = (self._shuffle(order, piece) for piece in streams[self._rank][worker])
        yield from _batches(self._source.dataset.schema, ahead(shuffles), self._batch_size)

    def _shuffle(self, order: Order, piece: Piece) -> tuple[pa.Table, Array]:
        window = piece.window
        table, positions = self._source.read(order.segments(window.start, window.stop))
        seed = [self._seed, self._position.epoch, *window.key]
        chosen = np.random.default_rng(seed).permutation(len(positions))[piece.first : piece.last]
        return table.take(chosen), positions[chosen]


class EvaluationReader(IterableDataset[MultiTaskBatch]):
    """One rank's batches of the eval split: every row once over all ranks, in order, the same number of batches on
    every rank. Where a rank runs out of rows, a padding row (``rows == -1``, masks 0) keeps the collectives aligned.

    Args:
        batch_size: local batch size B; the last batch may be smaller.
    """

    def __init__(self, source: RowSource, batch_size: int, rank: int, world_size: int) -> None:
        self._source = source
        self._batch_size = batch_size
        self._share = evaluation_share(source.dataset.schema.rows("eval"), batch_size, rank, world_size)

    def __len__(self) -> int:
        return self._share.batches

    def __iter__(self) -> Iterator[MultiTaskBatch]:
        dataset = self._source.dataset
        parts = Order(dataset.row_groups["eval"]).segments(self._share.start, self._share.stop)
        pieces = (self._source.read([part]) for part in parts)
        produced = 0
        for batch in _batches(dataset.schema, pieces, self._batch_size):
            produced += 1
            yield batch
        for _ in range(produced, self._share.batches):
            yield Rows(dataset.schema, *self._source.padding(1)).batch(0, 1)


def reader_streams(config: ReaderConfig, on_gpu: bool) -> int:
    """Reader streams per rank of a training reader: one for each reader process, one without any."""
    return max(1, _processes(config, on_gpu))


def batches(
    reader: TrainingReader | EvaluationReader, config: ReaderConfig, pin_memory: bool
) -> Iterator[MultiTaskBatch]:
    """Runs a reader, in this process or in worker processes that read ahead; into pinned memory for GPUs.

    Raises:
        ValueError: what the reader raises, also where it runs in another process.
    """
    # The evaluation pipeline reads ahead in a thread of its own.
    processes = 0 if isinstance(reader, EvaluationReader) else _processes(config, on_gpu=pin_memory)
    loader = DataLoader(
        _Messenger(reader) if processes else reader,
        batch_size=None,
        num_workers=processes,
        prefetch_factor=config.prefetch if processes else None,
        pin_memory=pin_memory,
        # Forked workers would inherit the threads and locks of the process group.
        multiprocessing_context="spawn" if processes else None,
        worker_init_fn=_outlive_preemption if processes else None,
        # torch's own, from which the loader would draw, is part of a checkpoint: a restart must not draw once more.
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, _Failure):
            raise ValueError(batch.message)
        yield batch


@dataclass(frozen=True)
class _Failure:
    """A reader's ValueError. torch would put the worker's traceback into the message."""

    message: str


class _Messenger(IterableDataset["MultiTaskBatch | _Failure"]):
    """A reader in another process: its last item may be an error."""

    def __init__(self, reader: TrainingReader | EvaluationReader) -> None:
        self._reader = reader

    def __iter__(self) -> Iterator[MultiTaskBatch | _Failure]:
        try:
            yield from self._reader
        except ValueError as error:
            yield _Failure(str(error))


def _outlive_preemption(worker: int) -> None:
    """Launchers send SIGTERM to whole process groups: the reader goes on, until its rank has written a checkpoint."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _processes(config: ReaderConfig, on_gpu: bool) -> int:
    return config.workers if config.workers is not None else 2 * on_gpu


def _batches(schema: Schema, pieces: Iterable[tuple[pa.Table, Array]], batch_size: int) -> Iterator[MultiTaskBatch]:
    """Cuts pieces into batches; what a piece leaves over opens the next one's first batch."""
    rest: list[tuple[pa.Table, Array]] = []
    for piece in pieces:
        rows = concatenate(schema, [*rest, piece])
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
        rows = concatenate(schema, rest)
        yield rows.batch(0, len(rows))
