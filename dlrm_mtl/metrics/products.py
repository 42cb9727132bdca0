"""Products of the tasks of a funnel beside the tasks, such as click and conversion, over all rows.

Notation: B batch, M tasks, P products.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dlrm_mtl.metrics.kept import NEGATIVE, POSITIVE, UNDEFINED, Sample
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.models.relations.relation import LossTerms, joint_terms

Chains = Sequence[Sequence[int]]
"""P chains of positions of tasks, see :func:`dlrm_mtl.funnels.products`."""


def append_products(predictions: Predictions, chains: Chains) -> Predictions:
    """(B, M) predictions to (B, M + P)."""
    if not chains:
        return predictions
    terms = _appended(predictions.logits, chains, predictions.labels, predictions.masks)
    return replace(predictions, logits=terms.logits, labels=terms.labels, masks=terms.masks)


def append_to_sample(sample: Sample, chains: Chains) -> Sample:
    """A sample of M tasks to one of M + P."""
    if not chains:
        return sample
    outcomes = torch.from_numpy(sample.outcomes)
    positive, defined = (outcomes == POSITIVE).float(), (outcomes != UNDEFINED).float()
    terms = _appended(torch.from_numpy(sample.logits), chains, positive, defined)
    of_all = torch.where(terms.labels > 0, POSITIVE, torch.where(terms.masks > 0, NEGATIVE, UNDEFINED))
    return replace(sample, logits=terms.logits.numpy(), outcomes=of_all.to(torch.uint8).numpy())


def _appended(logits: Tensor, chains: Chains, labels: Tensor, masks: Tensor) -> LossTerms:
    columns = logits.unbind(dim=1)
    terms = joint_terms([[columns[task] for task in chain] for chain in chains], chains, labels, masks)
    pairs = ((logits, terms.logits), (labels, terms.labels), (masks, terms.masks))
    return LossTerms(*(torch.cat(pair, dim=1) for pair in pairs))
