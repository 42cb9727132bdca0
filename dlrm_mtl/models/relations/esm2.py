"""ESM2 (Wen et al., "Entire Space Multi-Task Modeling via Post-Click Behavior Decomposition for Conversion Rate
Prediction", SIGIR 2020)."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from dlrm_mtl.funnels import with_label
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.relations.esmm import ESMM
from dlrm_mtl.models.relations.relation import Head, mixture
from dlrm_mtl.module_names import second_head_name
from dlrm_mtl.quoting import quote


class ESM2(ESMM):
    """ESMM, where a task may be reached in two ways, through another task or without it.

    With purchase given click, ``through`` action, which is given click as well::

        loss(click)    = BCE(click, y1)
        loss(action)   = BCE(click and action, y1 y2)
        loss(purchase) = BCE(click and purchase, y1 (y2 y3 + (1 - y2) y4))

    Purchase has two heads: y3 after an action, y4 without one. Both start at its base rate.

    Raises:
        ValueError: as :class:`ESMM`; no task goes through another one, or through one that is given something else.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        if not any(task.through for task in tasks):
            raise ValueError("model.relation=esm2 needs a task with 'through' in schema.json, and no task has it")
        ways: dict[int, tuple[int, int]] = {}
        second_heads: list[Head] = []
        for m, task in enumerate(tasks):
            if not task.through:
                continue
            between = with_label(tasks, task.through)
            if len(between) != 1 or tasks[between[0]].given != task.given or tasks[between[0]].through:
                given = quote(task.given) if task.given else "nothing"
                raise ValueError(
                    f"model.relation=esm2: task {quote(task.name)} goes through {quote(task.through)}, expected the"
                    f" label of one task that is given {given} as well, and goes through none itself"
                )
            ways[m] = (between[0], len(tasks) + len(second_heads))
            second_heads.append(Head(second_head_name(task.name), task.first_output))
        self._ways = ways
        """Of a task with two ways: the task in between, and the head without it."""
        super().__init__(tasks)
        self.heads += second_heads

    def _heads_of(self, chain: Sequence[int]) -> Iterator[int]:
        for task in chain:
            if task in self._ways:
                between, without = self._ways[task]
                yield from (between, task, without)
            else:
                yield task

    def _log_odds(self, task: int, outputs: Iterator[Tensor]) -> Tensor:
        if task not in self._ways:
            return next(outputs)
        return mixture(next(outputs), next(outputs), next(outputs))
