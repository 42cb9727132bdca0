"""The batch type."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable

LOST = -1
"""Position of a padding row in place of a row that cannot be read, or of a batch that a rank has too few."""

FILL = -2
"""Position of a padding row that fills up the batches of an epoch."""


@dataclass
class MultiTaskBatch(Pipelineable):
    """One rank's part of a global batch.

    Notation: B local rows, F categorical features, N dense features, M tasks.
    """

    sparse: KeyedJaggedTensor
    """F features of B bags each, in the schema's order; keys are the features' names in the model."""
    dense: Tensor
    """(B, N) float32."""
    labels: Tensor
    """(B, M) float32, 0 or 1 or the number that a regression task predicts; 0 where the weight is 0."""
    weights: Tensor
    """(B, M) float32, the row's weight where the task is defined, else 0."""
    rows: Tensor
    """(B,) int64, the row's position in its split; negative for a padding row, whose weights are all 0."""
    context: Tensor
    """(B, 1 + S) int64 in an evaluation: keys of clusters, codes of S segments, see :class:`Context`; (B, 0) in
    training."""

    def to(self, device: torch.device, non_blocking: bool = False) -> "MultiTaskBatch":
        return self._map("to", device=device, non_blocking=non_blocking)

    def pin_memory(self) -> "MultiTaskBatch":
        return self._map("pin_memory")

    def record_stream(self, stream: torch.Stream) -> None:
        for field in fields(self):
            getattr(self, field.name).record_stream(stream)

    def __len__(self) -> int:
        return len(self.rows)

    def _map(self, method: str, **arguments: Any) -> "MultiTaskBatch":
        return MultiTaskBatch(**{f.name: getattr(getattr(self, f.name), method)(**arguments) for f in fields(self)})
