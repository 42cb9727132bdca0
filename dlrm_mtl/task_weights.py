"""Weights of the average gain over tasks, as text: ``click=1 like=2``. They are unrelated to the task weights of
balancing methods in training."""

import math
from collections.abc import Sequence

from dlrm_mtl.quoting import quote


def parse_task_weights(texts: Sequence[str]) -> dict[str, float]:
    """Parses ``TASK=WEIGHT`` of each task.

    Raises:
        ValueError: a text has another form, a weight is not a positive number, or a task occurs twice.
    """
    weights: dict[str, float] = {}
    for text in texts:
        task, _, number = text.rpartition("=")
        if not task:
            raise ValueError(f"task_weights: {quote(text)} is not of the form TASK=WEIGHT")
        if task in weights:
            raise ValueError(f"task_weights: task {quote(task)} occurs twice")
        weights[task] = _parse_weight(text, number)
    return weights


def share_weights(texts: Sequence[str], tasks: Sequence[str]) -> dict[str, float]:
    """Each task's share of the average, in the order of the tasks; they sum to 1.

    Args:
        texts: ``TASK=WEIGHT`` for every task; empty for equal shares.

    Raises:
        ValueError: see :func:`parse_task_weights`; a task has no weight, or a weight names no task.
    """
    weights = parse_task_weights(texts) or dict.fromkeys(tasks, 1.0)
    if weights.keys() != set(tasks):
        expected = ", ".join(map(quote, tasks))
        raise ValueError(f"task_weights names {quote(list(weights))}, expected each task of the data set: {expected}")
    largest = max(weights.values())  # divided by the largest first, since large numbers may sum to infinity
    total = sum(weight / largest for weight in weights.values())
    return {task: weights[task] / largest / total for task in tasks}


def _parse_weight(text: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise ValueError(f"task_weights: {quote(text)}, expected a positive number after the equals sign")
    return weight
