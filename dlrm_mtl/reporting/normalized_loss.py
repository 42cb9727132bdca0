"""The normalized loss in records of tasks: ``ne`` of a binary task, ``nmse`` of one whose ``kind`` is regression.

Metrics have one name for both kinds inside: ``ne``, and ``relative_ne`` for its relative gain.
"""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

OF_REGRESSIONS = {"ne": "nmse", "relative_ne": "relative_nmse"}


def is_regression(task: Record) -> bool:
    return task.get("kind") == "regression"


def kind_of(task: Record) -> dict[str, str]:
    """What says in a record that it is of a regression; empty for a binary task."""
    return {"kind": "regression"} if is_regression(task) else {}


def key_of(metric: str, task: Record) -> str:
    """A metric's name in a task's record."""
    return OF_REGRESSIONS.get(metric, metric) if is_regression(task) else metric


def gain_key(metric: str, task: Record) -> str:
    """The key of a gain in a task's record."""
    return f"{key_of(metric, task)}_gain_percent"


def loss_of(task: Record) -> float | None:
    """NE or NMSE."""
    loss: float | None = task[key_of("ne", task)]
    return loss


def gain_of(task: Record) -> Any:
    """The gain in NE or NMSE."""
    return task[gain_key("ne", task)]


def loss_name(results: Record) -> str:
    """What gains and losses of a comparison's, stream's or evaluation's tasks are in."""
    regressions = [is_regression(task) for task in _of_control(results).values()]
    return "NE" if not any(regressions) else "NMSE" if all(regressions) else "NE or NMSE"


def titles_of_tasks(results: Record) -> dict[str, str]:
    """The tasks with their titles; where there are both kinds, a regression's says that its loss is NMSE."""
    tasks, both = _of_control(results), loss_name(results) == "NE or NMSE"
    return {name: f"{name} (NMSE)" if both and is_regression(tasks[name]) else name for name in results["tasks"]}


def _of_control(results: Record) -> Record:
    tasks: Record = results["arms"][results["control"]]["tasks"]
    return tasks
