"""Weights of the average over tasks, as text: ``click=1 like=2``. What they average is what an arm gains; how tasks are
weighted in training is for the balancing methods."""

import math
from collections.abc import Sequence

from dlrm_mtl.quoting import quote


def parse_task_weights(texts: Sequence[str]) -> dict[str, float]:
    """Parses ``TASK=WEIGHT`` of each task.

    Raises:
        ValueError: not of this form, a weight that is no positive number, or a task that stands twice.
    """
    weights: dict[str, float] = {}
    for text in texts:
        task, _, number = text.rpartition("=")
        if not task:
            raise ValueError(f"task_weights: {quote(text)} is not of the form TASK=WEIGHT")
        if task in weights:
            raise ValueError(f"task_weights: task {quote(task)} stands twice")
        weights[task] = _parse_weight(text, number)
    return weights


def share_weights(texts: Sequence[str], tasks: Sequence[str]) -> dict[str, float]:
    """Each task's share of the average, in the order of the tasks; together 1.

    Args:
        texts: ``TASK=WEIGHT`` of every task; none: equal shares.

    Raises:
        ValueError: as of :func:`parse_task_weights`; a task without a weight, or a weight of what is no task.
    """
    weights = parse_task_weights(texts) or dict.fromkeys(tasks, 1.0)
    if weights.keys() != set(tasks):
        expected = ", ".join(map(quote, tasks))
        raise ValueError(f"task_weights names {quote(list(weights))}, expected each task of the data set: {expected}")
    largest = max(weights.values())  # by which they are divided first: large numbers may add up to infinity
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
