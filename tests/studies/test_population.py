"""The gradients of a frozen ranker against plain autograd through tables of nn.functional.embedding_bag."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from torchrec.sparse.jagged_tensor import KeyedTensor

from dlrm_mtl.balancing import BalancingLayer, create_balancer
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.data.assembly import Rows
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.models.losses import TaskLosses
from dlrm_mtl.models.ranker import DensePart
from dlrm_mtl.schema import Schema
from dlrm_mtl.studies import population as module
from dlrm_mtl.studies.decomposition import Decomposition, try_weights
from dlrm_mtl.studies.population import BatchGradients, Population

ROWS = 40


@dataclass(frozen=True)
class Reference:
    """The ranker with its tables as plain parameters, all rows as one batch at a time."""

    schema: Schema
    dense_part: DensePart
    tables: dict[str, Tensor]
    rows: Rows

    def represent(self, batch: MultiTaskBatch) -> tuple[KeyedTensor, Tensor]:
        """Pooled embeddings and the representation (B, D)."""
        bags = batch.sparse.to_dict()
        names = [feature.name for feature in self.schema.categorical]
        pooled = [
            embedding_bag(bags[f.name].values(), self.tables[f.table_name], bags[f.name].offsets()[:-1], mode="mean")
            for f in self.schema.categorical
        ]
        embeddings = KeyedTensor(names, [part.shape[1] for part in pooled], torch.cat(pooled, dim=1))
        return embeddings, self.dense_part.shared(embeddings.to_dict(), batch.dense)

    def pull_back(self, output: Tensor, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The gradient by the dense part and by the tables, each flattened."""
        dense = list(self.dense_part.shared.parameters())
        tables = [self.tables[name] for name in self.schema.tables]
        found = torch.autograd.grad(output, [*dense, *tables], cotangent, retain_graph=True)
        flat = [part.flatten().double() for part in found]
        return torch.cat(flat[: len(dense)]), torch.cat(flat[len(dense) :])

    def gradients(self, batch: MultiTaskBatch) -> BatchGradients:
        representation = self.represent(batch)[1]
        representation.retain_grad()
        logits = self.dense_part.heads((representation,) * len(self.schema.tasks), self.dense_part.relation.inputs)
        losses = self.dense_part.losses(logits, batch.labels, batch.weights)
        rows = torch.stack([torch.autograd.grad(loss, representation, retain_graph=True)[0] for loss in losses])
        dense, tables = (torch.stack(part) for part in zip(*map(self.pull_back, losses), strict=True))
        flat = rows.double().flatten(1)
        return BatchGradients(flat @ flat.T, rows.double().sum(dim=1), dense, tables)


@pytest.fixture(scope="module", params=["dot", "dcn"])
def reference(request: pytest.FixtureRequest, small_dataset: Path) -> Reference:
    dataset = open_dataset(small_dataset)
    schema, config = dataset.schema, ModelConfig(request.param, embedding_dim=4, bottom_mlp=(6,), head_mlp=(5,))
    torch.manual_seed(3)
    layer = BalancingLayer(create_balancer("mean", len(schema.tasks)))
    part = DensePart(schema, config, layer, TaskLosses(schema.tasks, "batch"), bf16=False)
    tables = {name: torch.randn(of[0].cardinality, 4).requires_grad_() for name, of in schema.tables.items()}
    table = pa.concat_tables([dataset.read(group, dataset.columns) for group in dataset.row_groups["train"]])
    return Reference(schema, part, tables, Rows(schema, table, np.arange(len(table))))


@pytest.fixture
def population(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> Population:
    monkeypatch.setattr(module, "CHUNK_ROWS", 16)  # several chunks, the last one shorter
    batch = reference.rows.batch(0, ROWS)
    return Population(reference.schema, reference.dense_part, batch, reference.represent(batch)[0])


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize(("start", "stop"), [(0, ROWS), (5, 30), (7, 8)])
def test_gradients_are_autograds(reference: Reference, population: Population, start: int, stop: int) -> None:
    found = population.gradients(torch.arange(start, stop))
    expected = reference.gradients(reference.rows.batch(start, stop))
    for part in fields(BatchGradients):
        assert_close(getattr(found, part.name), getattr(expected, part.name))


def test_the_mean_jacobian_product_is_the_mean_of_every_rows(reference: Reference, population: Population) -> None:
    vector = torch.randn(reference.dense_part.shared.out_features)
    rows = [reference.represent(reference.rows.batch(row, row + 1))[1][0] for row in range(ROWS)]
    products = [reference.pull_back(row, vector) for row in rows]
    found = population.mean_jacobian_product(vector.double())
    for part, of_rows in zip(found, zip(*products, strict=True), strict=True):
        assert_close(part, torch.stack(of_rows).mean(dim=0))


def test_the_residual_is_that_of_equation_9(reference: Reference, population: Population) -> None:
    """From each row's own products, without the parameter gradient of the batch."""
    rows = torch.arange(10, 14)
    gradients = population.gradients(rows)
    found = Decomposition.of(population, gradients)
    expected = torch.zeros_like(found.parameter["all"])
    for row in rows.tolist():
        own = population.gradients(torch.tensor([row])).pooled.mean(dim=0)  # of one row: g(x) lambda
        representation = reference.represent(reference.rows.batch(row, row + 1))[1]
        here = reference.pull_back(representation[0], own.float())
        everywhere = population.mean_jacobian_product(own)
        expected += (torch.cat(here) - torch.cat(everywhere)) / len(rows)
    assert_close(found.residual("all"), expected)
    measured = found.measure(found)
    assert measured["all"]["relative_norm"] == pytest.approx(
        float(expected.norm() / gradients.dense.mean(0).norm().hypot(gradients.tables.mean(0).norm())), rel=1e-4
    )
    assert measured["all"]["distance_from_mean"] == 0


def two_tasks(flattened: list[list[float]], dense: list[list[float]], tables: list[list[float]]) -> BatchGradients:
    make: Callable[[list[list[float]]], Tensor] = lambda rows: torch.tensor(rows, dtype=torch.float64)  # noqa: E731
    rows = make(flattened)
    return BatchGradients(rows @ rows.T, rows, make(dense), make(tables))


def test_weights_are_tried_on_the_gradients_that_they_stand_for() -> None:
    """Orthogonal gradients: lambda* is inverse to the squared norms."""
    tried = try_weights(two_tasks([[1, 0], [0, 1]], [[2, 0], [0, 1]], [[3, 0], [0, 3]]))
    of_dense = tried["dense", "flattened"]  # (1/2, 1/2) against (1/5, 4/5)
    assert of_dense["cosine"] == pytest.approx(1 / np.sqrt(2 * (0.2**2 + 0.8**2)))
    assert of_dense["total_variation"] == pytest.approx(0.3)
    assert of_dense["excess"] == pytest.approx(np.sqrt(1.25 / 0.8))
    assert tried["dense", "uniform"] == pytest.approx(of_dense)
    assert tried["tables", "flattened"] == pytest.approx({"cosine": 1, "total_variation": 0, "excess": 1})
    assert ("dense", "dense") not in tried


def test_a_task_without_a_gradient_has_no_weight() -> None:
    tried = try_weights(two_tasks([[1, 0], [0, 0]], [[2, 0], [0, 0]], [[3, 0], [0, 0]]))
    for values in tried.values():
        assert values == pytest.approx({"cosine": 1, "total_variation": 0, "excess": 1})
