"""Products of the tasks of a funnel beside the tasks, such as click and conversion, over all rows.

Notation: B batch, M tasks, P products.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.models.relations.relation import LossTerms, joint_logits, joint_terms

Chains = Sequence[Sequence[int]]
"""P chains of positions of tasks, see :func:`dlrm_mtl.funnels.products`."""


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


def append_logits(logits: Tensor, chains: Chains) -> Tensor:
    """(B, M) to (B, M + P), where there are no labels."""
    if not chains:
        return logits
    columns = logits.unbind(dim=1)
    return torch.cat([logits, joint_logits([[columns[task] for task in chain] for chain in chains])], dim=1)
