"""Tasks of one kind, and metrics that must be of one kind."""

from collections.abc import Sequence

from dlrm_mtl.metrics.task_metrics import BinaryEvaluation, BinaryMetrics, TaskEvaluation, TaskMetrics
from dlrm_mtl.model_schema import Task


def binary_tasks(count: int) -> list[Task]:
    return [Task(f"task-{number}", f"label-{number}", base_rate=0.5) for number in range(count)]


def binary(metrics: Sequence[TaskMetrics]) -> list[BinaryMetrics]:
    assert all(isinstance(each, BinaryMetrics) for each in metrics)
    return [each for each in metrics if isinstance(each, BinaryMetrics)]


def evaluated(metrics: Sequence[TaskEvaluation]) -> list[BinaryEvaluation]:
    assert all(isinstance(each, BinaryEvaluation) for each in metrics)
    return [each for each in metrics if isinstance(each, BinaryEvaluation)]
