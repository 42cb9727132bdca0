"""Readers: a split of a data set to the batches of one rank."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from torch.profiler import record_function

from dlrm_mtl.config import ReaderConfig
from dlrm_mtl.data.ahead import ahead
from dlrm_mtl.data.assembly import Array, Rows, concatenate
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.context import Context
from dlrm_mtl.data.order import Order, evaluation_share, shuffled
from dlrm_mtl.data.position import Position
from dlrm_mtl.data.reader_processes import ReaderProcesses
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.data.streams import Division, Piece
from dlrm_mtl.schema import STREAM, Schema

READING = "## reading ##"
"""The profiler's name for the time that training waits for a batch."""


class TrainingReader:
    """One rank's batches of the rest of an epoch: every row of the split at most once, shuffled by seed and epoch, in
    the same number of equally large batches on every rank. ``rows_dropped`` rows of the split train do not fill a
    batch. Of the split stream every row is read: padding fills up the batches, shuffled among the rows.

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
        self._split = dataset.schema.trained_split
        rows = dataset.schema.rows(self._split)
        self._padding = -rows % global_batch if self._split == STREAM else 0
        if rows + self._padding < global_batch:
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
        self.steps, self.rows_dropped = divmod(rows + self._padding, global_batch)
        """Steps of an epoch, and rows of the split that do not fill a batch."""

    def __len__(self) -> int:
        return self.steps - self._position.steps

    def set_position(self, position: Position) -> None:
        """Sets where the next iteration begins; it ends with the epoch. With the ranks and workers of the last phase,
        reading continues as if it had not stopped.

        Raises:
            ValueError: the position is impossible with this data set and global batch size.
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
        return self.stream(0, 1)

    def stream(self, worker: int, workers: int) -> Iterator[MultiTaskBatch]:
        """The batches of one reader stream; streams take turns.

        Raises:
            RuntimeError: the number of streams is not that of the position.
        """
        if workers != self._workers:
            raise RuntimeError(f"{workers} reader processes read a position of {self._workers} reader streams")
        groups = self._source.dataset.row_groups[self._split]
        order = shuffled(groups, self._seed, self._position.epoch, self._padding)
        division = Division(order, self.steps, self._batch_size * self._world_size, self._shuffle_rows)
        streams = division.streams(self._position.phases, self._world_size, self._workers)
        shuffles = (self._shuffle(order, piece) for piece in streams[self._rank][worker])
        yield from _batches(self._source.dataset.schema, ahead(shuffles), self._batch_size)

    def _shuffle(self, order: Order, piece: Piece) -> tuple[pa.Table, Array]:
        window = piece.window
        parts = order.parts(window.start, window.stop)
        table, positions = self._source.read(parts, padding=order.padding(window.start, window.stop))
        seed = [self._seed, self._position.epoch, *window.key]
        chosen = np.random.default_rng(seed).permutation(len(positions))[piece.first : piece.last]
        return table.take(chosen), positions[chosen]


class PartsReader:
    """One rank's batches of some parts of a split, in order. No batch reaches from one part into the next. The last
    ones are a padding row (position LOST, weights 0) where the rank has fewer batches than others, whose collectives
    need it.

    Args:
        parts: places of rows in the split.
        batch_size: local batch size B; the last batch of a part may be smaller.
        batches: number of batches, the same on every rank, at least that of the parts.
        context: clusters and segments of the batches; None: neither.
    """

    def __init__(
        self,
        source: RowSource,
        split: str,
        parts: Sequence[range],
        batch_size: int,
        batches: int,
        context: Context | None = None,
    ) -> None:
        self._context = context
        self._source = source
        self._split = split
        self._parts = parts
        self._batch_size = batch_size
        self._batches = batches

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[MultiTaskBatch]:
        dataset = self._source.dataset
        order = Order(dataset.row_groups[self._split])
        produced = 0
        for part in self._parts:
            pieces = self._source.pieces(order.parts(part.start, part.stop), self._context)
            for batch in _batches(dataset.schema, pieces, self._batch_size, self._context):
                produced += 1
                yield batch
        for _ in range(produced, self._batches):
            yield Rows(dataset.schema, *self._source.padding(1, self._context), self._context).batch(0, 1)


class EvaluationReader(PartsReader):
    """One rank's batches of a split for an evaluation: every row once over all ranks, in order, the same number of
    batches on every rank.

    Args:
        batch_size: local batch size B; the last batch may be smaller.
        segments: segments in the batches' context, see :meth:`Context.of`; by default all that the data set keeps.
        split: by default that on which models are evaluated; for train the data set is a :meth:`Schema.of_split`.

    Raises:
        ValueError: there is no such segment.
    """

    def __init__(
        self,
        source: RowSource,
        batch_size: int,
        rank: int,
        world_size: int,
        segments: Sequence[str] = (),
        split: str | None = None,
    ) -> None:
        schema = source.dataset.schema
        split = split or schema.evaluated_split
        share = evaluation_share(schema.rows(split), batch_size, rank, world_size)
        self.context = Context.of(schema, segments)
        """The meaning of the batches' context."""
        super().__init__(source, split, [range(share.start, share.stop)], batch_size, share.batches, self.context)


def reader_streams(config: ReaderConfig, on_gpu: bool) -> int:
    """Reader streams per rank of a training reader: one for each reader process; without processes, one."""
    return max(1, _processes(config, on_gpu))


def batches(reader: TrainingReader | PartsReader, config: ReaderConfig, pin_memory: bool) -> Iterator[MultiTaskBatch]:
    """Runs a reader, in this process or in reader processes that read ahead; into pinned memory for GPUs. Close it if
    it is not exhausted, to end the processes.

    Raises:
        ValueError: raised by the reader, in whichever process.
        RuntimeError: a reader process was killed or failed in another way.
    """
    with ExitStack() as stack:
        items = iter(reader)
        # The evaluation pipeline has its own thread that reads ahead.
        processes = 0 if isinstance(reader, PartsReader) else _processes(config, on_gpu=pin_memory)
        if isinstance(reader, TrainingReader) and processes:
            streams = [partial(reader.stream, worker, processes) for worker in range(processes)]
            items = iter(stack.enter_context(ReaderProcesses(streams, config.prefetch)))
        if pin_memory:
            pinned = _pinned(items, torch.cuda.current_device())
            items = ahead(pinned) if processes else pinned
        # No ``yield from``: closing would first wait for the thread that waits for the processes.
        while (batch := _next(items)) is not None:
            yield batch


def _processes(config: ReaderConfig, on_gpu: bool) -> int:
    return config.workers if config.workers is not None else 2 * on_gpu


def _pinned(items: Iterator[MultiTaskBatch], device: int) -> Iterator[MultiTaskBatch]:
    torch.cuda.set_device(device)  # a new thread starts on the first device and would allocate memory there
    for batch in items:
        yield batch.pin_memory()


def _next(items: Iterator[MultiTaskBatch]) -> MultiTaskBatch | None:
    """The next item, or None after the last; the profiler records the wait."""
    with record_function(READING):
        return next(items, None)


def _batches(
    schema: Schema, pieces: Iterable[tuple[pa.Table, Array]], batch_size: int, context: Context | None = None
) -> Iterator[MultiTaskBatch]:
    """Cuts pieces into batches; the rest of a piece begins the next piece's first batch."""
    rest: list[tuple[pa.Table, Array]] = []
    for piece in pieces:
        rows = concatenate(schema, [*rest, piece], context)
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
        rows = concatenate(schema, rest, context)
        yield rows.batch(0, len(rows))
