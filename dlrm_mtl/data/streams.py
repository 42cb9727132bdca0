"""The rows that each reader stream still has to read, in order: a pure function of the data position.

An epoch's order is divided into one stream for each reader worker of each rank. Streams are cut into windows, whose
rows are shuffled in memory. A run that resumes with other ranks or workers divides the rest of all streams anew; the
windows stay the same, so every row is read exactly once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dlrm_mtl.data.order import Order
from dlrm_mtl.data.position import Phase


@dataclass(frozen=True)
class ShuffleWindow:
    """Rows that are shuffled together."""

    start: int
    """Place of its first row in the epoch's order."""
    stop: int
    key: tuple[int, int, int]
    """Rank, worker and number of the window in its stream; they seed the shuffle."""


@dataclass(frozen=True)
class Piece:
    """Rows ``[first, last)`` of a shuffled window."""

    window: ShuffleWindow
    first: int
    last: int

    @property
    def rows(self) -> int:
        return self.last - self.first


Stream = tuple[Piece, ...]
"""The rows that one reader worker reads."""


@dataclass(frozen=True)
class Division:
    """Divides epochs into streams.

    Args:
        global_batch: rows of the batch over all ranks; every world size must divide it.
        shuffle_rows: rows of a window, at least.
    """

    order: Order
    steps: int
    """Steps of the epoch."""
    global_batch: int
    shuffle_rows: int

    def streams(self, phases: Sequence[Phase], world_size: int, workers: int) -> list[list[Stream]]:
        """The streams that are left after some phases, by rank and worker. Workers take turns, beginning with the
        first: after k batches of a rank, the first k mod K of its K workers have delivered one more than the others.
        """
        present = Layout(world_size, workers)
        layouts = [Layout(phase.world_size, phase.workers) for phase in phases]
        layout, left = (layouts or [present])[0], self.steps
        streams = self._fresh(layout)
        for phase, needed in zip(phases, layouts, strict=True):
            if needed != layout:
                streams, layout = self._divide(streams, left, needed), needed
            streams = [self._advance(rank, phase) for rank in streams]
            left -= phase.steps
        return streams if present == layout else self._divide(streams, left, present)

    def _fresh(self, layout: "Layout") -> list[list[Stream]]:
        sizes = layout.rows(self.steps, self.global_batch)
        streams, start = [], 0
        for index, rows in enumerate(sizes):
            rank, worker = divmod(index, layout.workers)
            windows = self.order.windows(start, start + rows, self.shuffle_rows)
            streams.append(
                tuple(
                    Piece(ShuffleWindow(first, last, (rank, worker, number)), 0, last - first)
                    for number, (first, last) in enumerate(windows)
                )
            )
            start += rows
        return layout.by_rank(streams)

    def _divide(self, streams: list[list[Stream]], steps: int, layout: "Layout") -> list[list[Stream]]:
        pieces = (piece for rank in streams for stream in rank for piece in stream)
        return layout.by_rank(_cut(pieces, layout.rows(steps, self.global_batch)))

    def _advance(self, streams: list[Stream], phase: Phase) -> list[Stream]:
        """A rank's streams after the steps of a phase, beginning with the one whose turn is next."""
        batch = self.global_batch // phase.world_size
        left = []
        for stream, taken in zip(streams, _turns(phase.steps, phase.workers), strict=True):
            rows = sum(piece.rows for piece in stream)
            left.append(_cut(stream, [taken * batch, rows - taken * batch])[1])
        turn = phase.steps % phase.workers
        return [*left[turn:], *left[:turn]]


@dataclass(frozen=True)
class Layout:
    """Ranks, and the reader streams of each."""

    world_size: int
    workers: int

    def rows(self, steps: int, global_batch: int) -> list[int]:
        """Rows of each stream, rank by rank: equally many steps on every rank, whole batches in every stream."""
        batch = global_batch // self.world_size
        return [count * batch for count in _turns(steps, self.workers)] * self.world_size

    def by_rank(self, streams: Sequence[Stream]) -> list[list[Stream]]:
        return [list(streams[rank * self.workers :][: self.workers]) for rank in range(self.world_size)]


def _turns(batches: int, workers: int) -> list[int]:
    """Number of a rank's batches that each worker delivers, in turns."""
    return [batches // workers + (worker < batches % workers) for worker in range(workers)]


def _cut(pieces: Iterable[Piece], sizes: Sequence[int]) -> list[Stream]:
    """Cuts a sequence of pieces into streams of the given numbers of rows, which add up to all rows."""
    remaining = iter(pieces)
    piece: Piece | None = None
    streams = []
    for size in sizes:
        stream = []
        while size:
            piece = piece or next(remaining)
            rows = min(size, piece.rows)
            cut = piece.first + rows
            stream.append(Piece(piece.window, piece.first, cut))
            piece = Piece(piece.window, cut, piece.last) if cut < piece.last else None
            size -= rows
        streams.append(tuple(stream))
    return streams
