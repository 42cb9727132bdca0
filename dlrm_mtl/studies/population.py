"""Gradients of a frozen ranker over a fixed set of rows, with respect to representation, dense part and tables.

Notation: N rows of the population, B of a batch, D width of the representation, M tasks, n shared parameters: n_d of
the dense part, n_t table elements. Tables are reached through the chain rule, without their fused optimizers: pooling
is linear, so a table's gradient is the transposed pooling matrix times the gradient of the pooled embeddings.
"""

import copy
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torchrec.sparse.jagged_tensor import JaggedTensor, KeyedTensor

from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.model_schema import CategoricalFeature
from dlrm_mtl.models.ranker import DensePart
from dlrm_mtl.module_names import escape
from dlrm_mtl.schema import Schema

CHUNK_ROWS = 2048
"""Number of rows differentiated at a time."""


@dataclass(frozen=True)
class BatchGradients:
    """Gradients of the M mean losses of a batch, float64."""

    flattened: Tensor
    """(M, M) Gramian of the gradients with respect to the batch's representation, flattened to B D entries, as in the
    balancing layer."""
    pooled: Tensor
    """(M, D) these gradients summed over rows, which equation 8 multiplies by the mean Jacobian."""
    dense: Tensor
    """(M, n_d) gradients with respect to the shared dense parameters: bottom MLP, interaction, over-arch."""
    tables: Tensor
    """(M, n_t) gradients with respect to the embedding tables."""


class Population:
    """Rows, their pooled embeddings, and everything above the tables, in float64.

    Args:
        schema: of the data set.
        dense_part: is copied; its losses must be means over the batch.
        batch: the N rows.
        embeddings: their pooled embeddings, by feature.
    """

    def __init__(self, schema: Schema, dense_part: DensePart, batch: MultiTaskBatch, embeddings: KeyedTensor) -> None:
        self._shared = copy.deepcopy(dense_part.shared).double()
        self._heads = copy.deepcopy(dense_part.heads).double()
        self._inputs = dense_part.relation.inputs
        self._loss_terms, self._losses = dense_part.loss_terms, dense_part.losses
        self._parameters = list(self._shared.parameters())
        self._dense, self._labels, self._weights = batch.dense.double(), batch.labels, batch.weights
        self._keys, self._widths = embeddings.keys(), embeddings.length_per_key()
        self._embeddings = embeddings.values().detach().double()
        bags = batch.sparse.to_dict()
        keys = {feature.name: escape(feature.name) for feature in schema.categorical}
        self._pooling = {
            keys[feature.name]: _pooling_matrix(feature, bags[keys[feature.name]]) for feature in schema.categorical
        }
        self._tables = {name: [keys[feature.name] for feature in part] for name, part in schema.tables.items()}

    def __len__(self) -> int:
        return len(self._dense)

    def gradients(self, rows: Tensor) -> BatchGradients:
        """Gradients of the batch of these rows, (B,) int64."""
        terms = (self._gradient_terms(chunk, len(chunk) / len(rows)) for chunk in rows.split(CHUNK_ROWS))
        return BatchGradients(*_add_up(terms))

    def mean_jacobian_product(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """E[J]' u over the whole population, from one vector-Jacobian product; J itself, (D, n), is never formed.

        Args:
            vector: (D,) u.

        Returns:
            (n_d,) and (n_t,).
        """
        dense, tables = _add_up(self._mean_terms(chunk, vector) for chunk in torch.arange(len(self)).split(CHUNK_ROWS))
        return dense, tables

    def _gradient_terms(self, rows: Tensor, share: float) -> tuple[Tensor, ...]:
        """A chunk's terms of :class:`BatchGradients`, all of which are sums over the batch's rows."""
        embeddings, representation = self._represent(rows)
        leaf = representation.detach().requires_grad_()
        logits = self._heads((leaf,) * len(self._inputs), self._inputs)
        terms = self._loss_terms(logits, self._labels[rows], self._weights[rows])
        losses = share * self._losses(terms.logits, terms.labels, terms.weights)
        gradients = [torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in losses]
        pulled = [self._pull_back(rows, embeddings, representation, gradient) for gradient in gradients]
        dense, tables = (torch.stack(kind) for kind in zip(*pulled, strict=True))
        stacked = torch.stack(gradients)  # (M, B, D)
        flattened = stacked.flatten(1)
        return flattened @ flattened.T, stacked.sum(dim=1), dense, tables

    def _mean_terms(self, rows: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        embeddings, representation = self._represent(rows)
        return self._pull_back(rows, embeddings, representation, (vector / len(self)).expand_as(representation))

    def _represent(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled embeddings, as a leaf, and the representation (B, D) of these rows."""
        embeddings = self._embeddings[rows].requires_grad_()
        by_feature = KeyedTensor(self._keys, self._widths, embeddings)
        return embeddings, self._shared(by_feature.to_dict(), self._dense[rows])

    def _pull_back(
        self, rows: Tensor, embeddings: Tensor, representation: Tensor, cotangent: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pulls a cotangent (B, D) of the representation back to the shared parameters, (n_d,) and (n_t,)."""
        by_embeddings, *by_dense = torch.autograd.grad(
            representation, [embeddings, *self._parameters], cotangent, retain_graph=True, materialize_grads=True
        )
        pieces = by_embeddings.split(self._widths, dim=1)
        by_feature = {key: piece.numpy() for key, piece in zip(self._keys, pieces, strict=True)}
        tables = [
            np.sum([self._pooling[feature][rows.numpy()].T @ by_feature[feature] for feature in features], axis=0)
            for features in self._tables.values()
        ]
        flat_tables = torch.from_numpy(np.concatenate([table.ravel() for table in tables]))
        return torch.cat([part.flatten() for part in by_dense]), flat_tables


def _add_up(terms: Iterable[Sequence[Tensor]]) -> list[Tensor]:
    """Sums by position, with one term in memory at a time."""
    return functools.reduce(lambda total, term: [a.add_(b) for a, b in zip(total, term, strict=True)], map(list, terms))


def _pooling_matrix(feature: CategoricalFeature, bags: JaggedTensor) -> sparse.csr_matrix:
    """(N, cardinality): the weight of each id in each row's mean-pooled bag."""
    lengths, ids = bags.lengths().numpy(), bags.values().numpy()
    ends = np.concatenate([[0], np.cumsum(lengths)])
    weights = np.repeat(1.0 / np.maximum(lengths, 1), lengths)
    return sparse.csr_matrix((weights, ids, ends), shape=(len(lengths), feature.cardinality))
