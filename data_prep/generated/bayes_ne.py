"""What the true probabilities and means reach: normalized entropy, and NMSE of the regression."""

from collections.abc import Sequence

import numpy as np

from data_prep.generated.ground_truth import WATCH, Rows
from data_prep.ids.scaling import Moments
from dlrm_mtl.model_schema import Task


class BayesNE:
    """Normalized entropy of the true probabilities, accumulated over rows where a task is defined: mean log loss
    against the realised labels over the entropy of their base rate."""

    def __init__(self) -> None:
        self._rows = 0
        self._positives = 0
        self._log_loss = 0.0

    def update(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds defined rows: ``labels`` 0 or 1, (B,); ``probabilities`` (B,)."""
        self._rows += len(labels)
        self._positives += int(labels.sum())
        likelihood = np.where(labels == 1, probabilities, 1.0 - probabilities)
        self._log_loss -= float(np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).sum())

    def value(self) -> float | None:
        """None where the rows hold one class only: their entropy is 0."""
        if not 0 < self._positives < self._rows:
            return None
        rate = self._positives / self._rows
        return self._log_loss / self._rows / -(rate * np.log(rate) + (1.0 - rate) * np.log(1.0 - rate))


class BayesNEs:
    """The Bayes NE of each binary task, and the NMSE of the regression's true means.

    Args:
        tasks: all tasks of the generator.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._of_task = {task.name: BayesNE() for task in tasks if task.kind == "binary"}
        self._watch, self._noise = Moments(), Moments()

    def update(self, rows: Rows, size: int) -> None:
        """Adds the first ``size`` rows."""
        if rows.watch is not None and rows.expected_watch is not None:
            self._watch.add(rows.watch[:size])
            self._noise.add((rows.watch - rows.expected_watch)[:size] ** 2)
        for index, task in enumerate(self._tasks):
            if task.kind == "regression":
                continue
            defined = rows.labels[:size, 0] == 1 if task.given else slice(None)
            self._of_task[task.name].update(
                rows.labels[:size, index][defined], rows.probabilities[:size, index][defined]
            )

    def nmse(self) -> dict[str, dict[str, float]]:
        """The entry ``bayes_nmse`` of the schema's source: mean squared error of the true means over the variance of
        the labels. Empty: there is no regression."""
        return {"bayes_nmse": {WATCH: self._noise.mean / self._watch.deviation**2}} if self._watch.count else {}

    def values(self) -> dict[str, float]:
        """By task; without the tasks whose rows hold one class only."""
        return {name: value for name, ne in self._of_task.items() if (value := ne.value()) is not None}
