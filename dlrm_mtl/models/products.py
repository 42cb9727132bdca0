"""What is predicted: of each task, and of products of the tasks of a funnel, such as click and conversion, over all
rows.

Notation: B batch, M tasks, P products.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dlrm_mtl.model_schema import Task, TaskKind
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.models.relations.relation import LossTerms, joint_logits, joint_terms

Chains = Sequence[Sequence[int]]
"""P chains of positions of tasks, see :func:`dlrm_mtl.funnels.products`."""


def append_kinds(kinds: Sequence[TaskKind], chains: Chains) -> tuple[TaskKind, ...]:
    """(M,) kinds of tasks to (M + P,)."""
    products: Sequence[TaskKind] = ["binary"] * len(chains)
    return (*kinds, *products)


def append_products(predictions: Predictions, chains: Chains) -> Predictions:
    """(B, M) predictions to (B, M + P)."""
    if not chains:
        return predictions
    terms = append_terms(predictions.logits, predictions.labels, predictions.weights, chains)
    return replace(predictions, logits=terms.logits, labels=terms.labels, weights=terms.weights)


def append_terms(logits: Tensor, labels: Tensor, weights: Tensor, chains: Chains) -> LossTerms:
    """(B, M) to (B, M + P), P at least 1."""
    columns = logits.unbind(dim=1)
    terms = joint_terms([[columns[task] for task in chain] for chain in chains], chains, labels, weights)
    pairs = ((logits, terms.logits), (labels, terms.labels), (weights, terms.weights))
    return LossTerms(*(torch.cat(pair, dim=1) for pair in pairs))


def predictions_of(logits: Tensor, tasks: Sequence[Task], chains: Chains) -> Tensor:
    """(B, M), see :attr:`Predictions.logits`, to (B, M + P) probabilities, and predicted labels of regression tasks."""
    columns = logits.unbind(dim=1)
    if chains:
        logits = torch.cat([logits, joint_logits([[columns[task] for task in chain] for chain in chains])], dim=1)
    probabilities = logits.sigmoid()
    if all(task.kind == "binary" for task in tasks):
        return probabilities
    of_tasks = [
        column if task.kind == "regression" else probability
        for task, column, probability in zip(tasks, columns, probabilities.unbind(dim=1), strict=False)
    ]
    return torch.cat([torch.stack(of_tasks, dim=1), probabilities[:, len(tasks) :]], dim=1)
