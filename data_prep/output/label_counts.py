"""What the training rows say about a task: the base rate, or mean and deviation of a regression label."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.ids.scaling import Moments, Scale
from dlrm_mtl.model_schema import Task


class LabelCounts:
    """Counts of a task's labels over any number of tables of a data set's columns."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.rows = 0
        """Rows where the task is defined."""
        self.positives = 0
        """Of a binary task."""
        self.moments = Moments()
        """Of a regression task, by the row weights."""

    def add(self, table: pa.Table) -> None:
        task, table = self.task, defined_rows(table, self.task)
        self.rows += len(table)
        if task.kind == "binary":
            self.positives += pc.sum(table[task.label]).as_py() or 0
        else:
            labels = table[task.label].to_numpy().astype(np.float64)
            self.moments.add(labels, table[task.weight].to_numpy().astype(np.float64) if task.weight else None)

    def as_record(self) -> dict[str, Any]:
        """The counts, for JSON."""
        return {"rows": self.rows, "positives": self.positives, "moments": self.moments.as_record()}

    @staticmethod
    def merged(task: Task, records: Iterable[Mapping[str, Any]]) -> "LabelCounts":
        """The sum of counts, as :meth:`as_record` gives them."""
        counts = LabelCounts(task)
        for record in records:
            counts.rows += record["rows"]
            counts.positives += record["positives"]
            counts.moments.merge(Moments.from_record(record["moments"]))
        return counts

    def learnt(self, scale: Scale | None = None) -> Task:
        """The task with its base rate, or with mean and deviation.

        Args:
            scale: mean and deviation of the regression label; by default those that were counted.

        Raises:
            ValueError: the labels of a regression task have no deviation.
        """
        task = self.task
        if task.kind == "binary":
            return replace(task, base_rate=self.positives / max(self.rows, 1))
        mean, deviation = scale or (self.moments.mean, self.moments.deviation)
        # The deviation of equal values is a rounding error.
        if deviation <= 1e-9 * abs(mean):
            raise ValueError(
                f"task {task.name!r} has the deviation {deviation} over {self.rows} training rows, expected labels that"
                " differ"
            )
        return replace(task, mean=mean, deviation=deviation)


def defined_rows(table: pa.Table, task: Task) -> pa.Table:
    """The rows where a task is defined."""
    return table.filter(pc.equal(table[task.given], 1)) if task.given else table


def label_source(labels: Mapping[str, Mapping[str, LabelCounts]]) -> dict[str, dict[str, dict[str, int]]]:
    """The entries ``defined`` and ``positives`` (of binary tasks) of the schema's source.

    Args:
        labels: by split and task.
    """
    return {
        "defined": {split: {name: counts.rows for name, counts in tasks.items()} for split, tasks in labels.items()},
        "positives": {
            split: {name: counts.positives for name, counts in tasks.items() if counts.task.kind == "binary"}
            for split, tasks in labels.items()
        },
    }
