"""ESMM (Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click Conversion Rate",
SIGIR 2018)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dlrm_mtl.funnels import chain_to
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.relations.relation import LossTerms, Relation, joint_terms
from dlrm_mtl.models.sharing.architecture import HeadInput


class ESMM(Relation):
    """The loss of a task given another one is that of the product of both, over all rows::

        loss(click) = BCE(click, p_click)
        loss(conversion given click) = BCE(click and conversion, p_click p_conversion)

    A task given a task given a third one has the product of all three. There is no loss on p_conversion alone, so that
    the head learns from all impressions and not from clicked ones. The loss of a regression task is over the rows where
    it is defined.

    Raises:
        ValueError: no task is given another one, or one has no :func:`dlrm_mtl.funnels.chain_to`.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks)
        if not any(task.given and task.kind == "binary" for task in tasks):
            names = ", ".join(task.name for task in tasks)
            raise ValueError(
                f"model.relation: a funnel needs a binary task that is given another one, and of {names} none is"
            )
        try:
            self._chains = [chain_to(tasks, task) for task in range(len(tasks))]
        except ValueError as error:
            raise ValueError(f"model.relation: {error}") from None
        self.inputs = [HeadInput(m, head) for m, chain in enumerate(self._chains) for head in self._heads_of(chain)]

    def task_logits(self, logits: Tensor) -> Tensor:
        return torch.stack([of_loss[-1] for of_loss in self._by_loss(logits)], dim=1)

    def loss_terms(self, logits: Tensor, labels: Tensor, weights: Tensor) -> LossTerms:
        return joint_terms(self._by_loss(logits), self._chains, labels, weights)

    def _heads_of(self, chain: Sequence[int]) -> Iterator[int]:
        """The heads that a loss reads."""
        yield from chain

    def _by_loss(self, logits: Tensor) -> list[list[Tensor]]:
        """For each loss, the log-odds (B,) of each task of its chain where it is defined."""
        outputs = iter(logits.unbind(dim=1))
        return [[self._log_odds(task, outputs) for task in chain] for chain in self._chains]

    def _log_odds(self, task: int, outputs: Iterator[Tensor]) -> Tensor:
        """Of one task, from the outputs of its heads, the next ones."""
        return next(outputs)
