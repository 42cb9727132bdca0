"""Keeps single predictions of an evaluation in bounded memory, for metrics that are not sums over rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.ranker import Predictions

LIMIT = 1 << 24
"""Maximum number of predictions (rows times tasks) kept over all ranks: 130 MB with three binary tasks, up to 230 MB
with regressions and weights."""
CELLS = 1 << 16
"""Number of cells that clusters are hashed into; whole cells are kept or left out."""
_BUFFER = 1 << 20
"""Predictions buffered on the model's device, to avoid a synchronisation after every batch."""
_PIECE = 1 << 18
"""Rows sent in one message."""


@dataclass(frozen=True)
class Sample:
    """Predictions for all rows of some clusters, in the order of the rows in their split.

    Notation: N rows, M tasks.
    """

    logits: npt.NDArray[np.float32]
    """(N, M)."""
    labels: npt.NDArray[np.float32 | np.uint8]
    """(N, M)."""
    weights: npt.NDArray[np.float32 | np.uint8]
    """(N, M); 0 where a task is not defined."""
    keys: npt.NDArray[np.int64]
    """(N,) of each row's cluster."""
    clusters_share: float
    """Share of the clusters that are kept."""


class KeptPredictions:
    """The predictions of one rank's rows. Beyond the limit whole clusters are left out: those whose cell is at or above
    a threshold, which falls until the rest fits. The rest is a random sample of clusters with all their rows, the same
    for any number of ranks and any order of batches.

    Args:
        tasks: M.
        limit: maximum number of predictions over all ranks; may be exceeded by a quarter temporarily.
        batch_size: maximum number of rows of a batch, over all ranks.
    """

    def __init__(self, tasks: Sequence[Task], batch_size: int, limit: int = LIMIT) -> None:
        num_tasks = len(tasks)
        self._most_rows = limit // num_tasks
        self._buffered_batches = max(1, _BUFFER // (num_tasks * batch_size))
        self._shrink_every = max(1, limit // 4 // (num_tasks * batch_size))
        self._batches = 0
        self._threshold = CELLS
        self._buffer: list[Predictions] = []
        label_type = torch.float32 if any(task.kind == "regression" for task in tasks) else torch.uint8
        weight_type = torch.float32 if any(task.weight for task in tasks) else torch.uint8
        self._types = torch.float32, label_type, weight_type
        self._kept = [_Columns.none(num_tasks, self._types)]

    def add(self, predictions: Predictions, ranks: Ranks | None) -> None:
        """Adds a batch. Collective, since the ranks lower the threshold together.

        Args:
            ranks: the ranks that share the rows; None if this process has all of them.
        """
        self._buffer.append(predictions)
        self._batches += 1
        if self._batches % self._buffered_batches == 0:
            self._unload()
        if self._batches % self._shrink_every == 0:
            self._shrink(ranks)

    @property
    def rows(self) -> int:
        """Number of rows that are kept or buffered."""
        return sum(len(part.rows) for part in self._kept) + sum(len(batch.rows) for batch in self._buffer)

    def gather(self, ranks: Ranks | None) -> Sample | None:
        """The sample of all ranks, on rank 0; None elsewhere. Collective."""
        self._unload()
        self._shrink(ranks)
        columns = _joined(self._kept)
        if ranks is not None:
            columns = columns.gather(ranks)
            if not ranks.is_first:
                return None
        columns = columns.select(torch.argsort(columns.rows))
        logits, labels, weights, keys, _ = (column.numpy() for column in columns._all)
        return Sample(logits, labels, weights, keys, self._threshold / CELLS)

    def _unload(self) -> None:
        """Moves the buffer off the device. Synchronises."""
        if self._buffer:
            self._kept.append(_Columns.of(self._buffer, self._types).below(self._threshold))
            self._buffer.clear()

    def _shrink(self, ranks: Ranks | None) -> None:
        self._unload()
        columns = _joined(self._kept)
        counts = torch.bincount(_cells(columns.keys), minlength=CELLS)
        if ranks is not None:
            dist.all_reduce(counts, group=ranks.group)
        fitting = int((counts.cumsum(0) <= self._most_rows).sum())
        if fitting < self._threshold:
            self._threshold = fitting
            columns = columns.below(fitting)
        self._kept = [columns]


@dataclass(frozen=True)
class _Columns:
    """Columns of the kept rows, on the CPU."""

    logits: Tensor
    """(N, M)."""
    labels: Tensor
    """(N, M)."""
    weights: Tensor
    """(N, M)."""
    keys: Tensor
    """(N,) int64."""
    rows: Tensor
    """(N,) int64."""

    @classmethod
    def none(cls, num_tasks: int, types: Sequence[torch.dtype]) -> "_Columns":
        numbers = torch.empty(0, dtype=torch.int64)
        logits, labels, weights = (torch.empty(0, num_tasks, dtype=dtype) for dtype in types)
        return cls(logits, labels, weights, numbers, numbers)

    @classmethod
    def of(cls, batches: Sequence[Predictions], types: Sequence[torch.dtype]) -> "_Columns":
        """Without padding.

        Args:
            types: of logits, labels and weights.
        """
        columns = (
            torch.cat([batch.logits for batch in batches]).to(types[0]),
            torch.cat([batch.labels * (batch.weights > 0) for batch in batches]).to(types[1]),
            torch.cat([batch.weights for batch in batches]).to(types[2]),
            torch.cat([batch.context[:, 0] for batch in batches]),
            torch.cat([batch.rows for batch in batches]),
        )
        of_rows = cls(*(column.cpu() for column in columns))
        return of_rows.select(of_rows.rows >= 0)

    def select(self, which: Tensor) -> "_Columns":
        return _Columns(*(column[which] for column in self._all))

    def below(self, threshold: int) -> "_Columns":
        return self if threshold == CELLS else self.select(_cells(self.keys) < threshold)

    def gather(self, ranks: Ranks) -> "_Columns":
        """The columns of all ranks on rank 0; on others, this rank's. Collective."""
        counts = ranks.gather(len(self.rows))
        if not ranks.is_first:
            for piece in self._pieces(0, len(self.rows)):
                for column in piece:
                    dist.send(column, group=ranks.group, group_dst=0)
            return self
        gathered = _Columns(*(column.new_empty(sum(counts), *column.shape[1:]) for column in self._all))
        for mine, all_ranks in zip(self._all, gathered._all, strict=True):
            all_ranks[: counts[0]] = mine
        start = counts[0]
        for rank, count in enumerate(counts[1:], 1):
            for piece in gathered._pieces(start, start + count):
                for column in piece:
                    dist.recv(column, group=ranks.group, group_src=rank)
            start += count
        return gathered

    @property
    def _all(self) -> tuple[Tensor, ...]:
        return self.logits, self.labels, self.weights, self.keys, self.rows

    def _pieces(self, start: int, stop: int) -> list[tuple[Tensor, ...]]:
        return [
            tuple(column[first : min(first + _PIECE, stop)] for column in self._all)
            for first in range(start, stop, _PIECE)
        ]


def _joined(parts: Sequence[_Columns]) -> _Columns:
    return _Columns(*(torch.cat(columns) for columns in zip(*(part._all for part in parts), strict=True)))


def _cells(keys: Tensor) -> Tensor:
    """(N,) cell of each cluster, from other bits of the key than its bucket and half."""
    return (keys >> 1) & (CELLS - 1)
