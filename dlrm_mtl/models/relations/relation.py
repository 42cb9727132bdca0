"""What a relation is: how the tasks' probabilities come from the heads' outputs. This one: they are independent.

Notation: B batch, M tasks, H heads, R head inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from dlrm_mtl.balancing.methods.class_reference import import_class
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.model_parts import RELATIONS
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.sharing.architecture import HeadInput
from dlrm_mtl.module_names import head_name


@dataclass(frozen=True)
class Head:
    """An MLP with one output."""

    name: str
    """Of its modules."""
    first_output: float
    """Its last bias starts at this value."""


@dataclass(frozen=True)
class LossTerms:
    """What the loss of each task is taken of."""

    logits: Tensor
    """(B, M) log-odds; of a regression task, the standardised prediction."""
    labels: Tensor
    """(B, M) 0 or 1; of a regression task, standardised."""
    weights: Tensor
    """(B, M) the row's weight where the loss is defined, else 0."""


class Relation(nn.Module):
    """The heads that each loss reads, and what it is computed from. Here each loss reads its own task's head alone.

    Balancing takes one view of the shared tensors per loss. So a head that several losses read is evaluated once for
    each of them, on the views of that loss: no view mixes the gradients of two losses.

    Args:
        tasks: M tasks of a data set.

    Raises:
        ValueError: the tasks' labels do not support the relation.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.heads = [Head(head_name(task.name), task.first_output) for task in tasks]
        self.inputs: Sequence[HeadInput] = [HeadInput(m, m) for m in range(len(tasks))]
        """R inputs of heads, in the order in which their outputs come."""

    def task_logits(self, logits: Tensor) -> Tensor:
        """(B, R) outputs of the heads to (B, M) log-odds, or standardised predictions, of each task where it is
        defined."""
        return logits

    def loss_terms(self, logits: Tensor, labels: Tensor, weights: Tensor) -> LossTerms:
        """
        Args:
            logits: (B, R) outputs of the heads.
            labels: (B, M) standardised ones.
            weights: (B, M) those of a batch.
        """
        return LossTerms(logits, labels, weights)


def product(first: Tensor, second: Tensor) -> Tensor:
    """Log-odds of a b from those of the probabilities a and b, stable for all values::

    log(a b / (1 - a b)) = -log(exp(-x) + exp(-y) + exp(-x - y)),   x, y the log-odds of a and b
    """
    return -torch.logsumexp(torch.stack([-first, -second, -first - second]), dim=0)


def joint_logits(logits: Sequence[Sequence[Tensor]]) -> Tensor:
    """Log-odds (B, C) of each of C chains of tasks, from those (B,) of each of its tasks."""
    return torch.stack([reduce(product, of_chain) for of_chain in logits], dim=1)


def joint_terms(
    logits: Sequence[Sequence[Tensor]], chains: Sequence[Sequence[int]], labels: Tensor, weights: Tensor
) -> LossTerms:
    """Of each of C chains of tasks, that all their labels are 1: defined wherever the first task is.

    Args:
        logits: for each chain, the log-odds (B,) of each of its tasks.
        chains: positions of the tasks, see :func:`dlrm_mtl.funnels.chain_to`.
        labels: (B, M) those of a batch.
        weights: (B, M) those of a batch.

    Returns:
        terms (B, C).
    """
    events = (labels * (weights > 0)).unbind(dim=1)  # lists of indices would be copied to a GPU
    weights_of = weights.unbind(dim=1)
    return LossTerms(
        joint_logits(logits),
        torch.stack([torch.stack([events[task] for task in chain]).prod(dim=0) for chain in chains], dim=1),
        torch.stack([weights_of[chain[0]] for chain in chains], dim=1),
    )


def mixture(gate: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Log-odds of g a + (1 - g) b from those of g, a and b, stable for all values."""
    positive = torch.logaddexp(logsigmoid(gate) + logsigmoid(first), logsigmoid(-gate) + logsigmoid(second))
    negative = torch.logaddexp(logsigmoid(gate) + logsigmoid(-first), logsigmoid(-gate) + logsigmoid(-second))
    return positive - negative


def build_relation(config: ModelConfig, tasks: Sequence[Task]) -> Relation:
    """The relation that a configuration names.

    Raises:
        ValueError: its class cannot be imported, or the tasks do not support it.
    """
    relation: Relation = import_class(RELATIONS.get(config.relation, config.relation), Relation)(tasks)
    return relation
