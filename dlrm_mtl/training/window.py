"""What training some steps gives."""

from dataclasses import dataclass
from typing import Any

from dlrm_mtl.metrics.task_metrics import TaskMetrics


@dataclass(frozen=True)
class Window:
    """Results of consecutive training steps."""

    first_step: int
    last_step: int
    """Exclusive: the number of steps trained after this window."""
    qps: float | None
    """Global samples per second of the timed steps; None if there were none."""
    metrics: list[TaskMetrics]
    """Metrics over the window's rows, by task."""
    lifetime: list[TaskMetrics]
    """Metrics over all rows so far, by task, as predicted when they were trained on."""
    balancing: dict[str, Any]
    """See :func:`balancing_diagnostics`; of the window's last step."""
    skipped_steps: int
    """Steps without effect, on weights or metrics, because a loss or gradient was not finite."""
    nonfinite_tasks: dict[str, int]
    """By task, how often its loss or gradient was not finite, over all ranks."""
    rows_lost: int
    """Rows of lost shards, replaced by padding."""
    rows: int
    """Global rows of all steps, lost ones too, without what fills up an epoch's batches."""
