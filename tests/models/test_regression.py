"""Regression tasks and row weights: losses and gradients of the ranker, and units, against float64."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import expit

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.reader import EvaluationReader
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.funnels import products
from dlrm_mtl.model_parts import SHARING
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.label_units import LabelUnits
from dlrm_mtl.models.losses import TaskLosses
from dlrm_mtl.models.relations.relation import build_relation
from dlrm_mtl.schema import Schema
from tests.messages import naming
from tests.models.batches import materialized
from tests.regression_data import TASKS

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def rows(regression_dataset: Path) -> tuple[Schema, MultiTaskBatch]:
    dataset = open_dataset(regression_dataset)
    [batch] = EvaluationReader(RowSource(dataset), 200, 0, 1)
    return dataset.schema, batch


def losses_and_slopes(task: Task, predictions: Array, labels: Array) -> tuple[Array, Array]:
    """(B,) losses, and their derivatives by the output of the head."""
    if task.kind == "binary":
        return np.logaddexp(0, predictions) - labels * predictions, expit(predictions) - labels
    errors = (predictions - labels) / task.deviation
    limit = math.inf if task.huber is None else task.huber
    quadratic = np.abs(errors) <= limit
    losses = np.array(
        [e * e / 2 if near else limit * (abs(e) - limit / 2) for e, near in zip(errors, quadratic, strict=True)]
    )
    return losses, np.clip(errors, -limit, limit)


@pytest.mark.parametrize("reduction", ["batch", "defined"])
@pytest.mark.parametrize("sharing", ["bottom", "mmoe"])
def test_losses_and_gradients_are_those_written_out(
    rows: tuple[Schema, MultiTaskBatch], reduction: Any, sharing: str
) -> None:
    schema, batch = rows
    torch.manual_seed(1)
    model = materialized(schema, ModelConfig(sharing=sharing, shared_experts=2, head_mlp=(8,)))
    model.dense_part.losses = TaskLosses(schema.tasks, reduction)
    losses, predictions = model.train()(batch)
    losses.sum().backward()
    weights = batch.weights.double().numpy()
    outputs = predictions.logits.double().numpy()
    far = 0
    for m, task in enumerate(schema.tasks):
        of_rows, slopes = losses_and_slopes(task, outputs[:, m], batch.labels[:, m].double().numpy())
        divisor = len(batch) if reduction == "batch" else weights[:, m].sum()
        assert losses[m].item() == pytest.approx((weights[:, m] * of_rows).sum() / divisor, rel=1e-5)
        head: Any = model.dense_part.heads.heads[f"task_{task.name}"]
        assert head[-1].bias.grad.item() == pytest.approx((weights[:, m] * slopes).sum() / divisor, abs=1e-6)
        far += int((np.abs(slopes) == (task.huber or 0)).sum())
    assert far > 5  # rows where Huber's loss is linear


def test_weights_scale_losses_and_rows_of_weight_0_do_not_count(rows: tuple[Schema, MultiTaskBatch]) -> None:
    schema, batch = rows
    model = materialized(schema, ModelConfig()).train()
    losses = model(batch)[0].detach()
    twice = model(replace(batch, weights=2 * batch.weights))[0].detach()
    torch.testing.assert_close(twice, 2 * losses)
    of_zero = batch.weights == 0
    assert of_zero[:, :2].any(dim=0).all()
    other = torch.where(of_zero, 1 - batch.labels, batch.labels)
    assert torch.equal(model(replace(batch, labels=other))[0], losses)


def test_the_first_prediction_is_about_the_mean(rows: tuple[Schema, MultiTaskBatch]) -> None:
    schema, batch = rows
    predictions = materialized(schema, ModelConfig()).eval()(batch)[1].logits
    for m, task in enumerate(schema.tasks):
        if task.kind == "regression":
            assert predictions[:, m].mean().item() == pytest.approx(task.mean, abs=0.3 * task.deviation)


def test_units_are_those_of_the_labels_and_leave_binary_tasks_alone() -> None:
    tasks = (Task("click", "click", base_rate=0.5), replace(TASKS[1], mean=1e4, deviation=250.0))
    units = LabelUnits(tasks)
    values = torch.tensor([[0.3, 10_500.0], [1.0, 9_000.0]])
    standardised = units.standardise(values)
    assert torch.equal(standardised, torch.tensor([[0.3, 2.0], [1.0, -4.0]]))
    assert torch.equal(units.restore(standardised), values)
    assert LabelUnits(tasks[:1]).restore(values) is values


def test_far_errors_have_finite_losses_and_bounded_gradients() -> None:
    tasks = (replace(TASKS[1], huber=2.0), replace(TASKS[1], huber=None))
    outputs = torch.tensor([[1e18, 1e18], [-1e18, -1e18], [0.0, 0.0]], requires_grad=True)
    losses = TaskLosses(tasks, "batch")(outputs, torch.zeros(3, 2), torch.ones(3, 2))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert outputs.grad is not None
    assert torch.equal(outputs.grad[:, 0], torch.tensor([2.0, -2.0, 0.0]) / 3)


def test_the_sum_of_small_weights_divides() -> None:
    """ "defined" has no least divisor but where no row has a weight."""
    outputs, labels = torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)
    losses = TaskLosses([replace(TASKS[1], huber=None)], "defined")
    assert losses(outputs, labels, torch.full((2, 1), 1e-4)).item() == pytest.approx(2.5)
    assert losses(outputs, labels, torch.zeros(2, 1)).item() == 0


@pytest.mark.parametrize("sharing", SHARING)
def test_every_architecture_takes_them(rows: tuple[Schema, MultiTaskBatch], sharing: str) -> None:
    schema, batch = rows
    config = ModelConfig(
        sharing=sharing, shared_experts=1, own_experts=1, expert_mlp=(8,), head_mlp=(), embedding_dim=4
    )
    losses, predictions = materialized(schema, config, bf16=True).train()(batch)
    losses.sum().backward()
    assert losses.isfinite().all()
    assert predictions.logits.shape == batch.labels.shape


@pytest.mark.parametrize("method", ["dwa", "famo", "stch"])
def test_methods_that_follow_losses_weigh_every_task(rows: tuple[Schema, MultiTaskBatch], method: str) -> None:
    schema, batch = rows
    model = materialized(schema, ModelConfig(embedding_dim=4, head_mlp=()), recipe=method).train()
    layer: Any = model.dense_part.balancing
    for _ in range(2):
        losses, _ = model(batch)
        assert (losses > 0).all()
        losses.sum().backward()
        assert (layer.record.coefficients > 0).all()


def test_a_funnel_leaves_regression_tasks_as_they_are() -> None:
    tasks = tuple(replace(task, weight="") for task in TASKS)
    relation = build_relation(ModelConfig(relation="esmm"), tasks)
    assert [tuple(each) for each in relation.inputs] == [(0, 0), (1, 1), (2, 0), (2, 2), (3, 3)]
    outputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([[1, 0.5, 1, -2], [1, 0, 0, 3], [0, 7, 0, 0]] * 2)
    weights = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0]] * 2).float()
    terms = relation.loss_terms(outputs, labels, weights)
    for m, output in ((1, 1), (3, 4)):
        assert torch.equal(terms.logits[:, m], outputs[:, output])
        assert torch.equal(terms.labels[:, m], labels[:, m])
        assert torch.equal(terms.weights[:, m], weights[:, m])
    assert products(tasks).keys() == {"buy"}


@pytest.mark.parametrize(
    ("tasks", "named"),
    [(TASKS[:1] + TASKS[3:], ["click", "spend"]), (TASKS, ["buy", "importance"])],
    ids=["only a regression is conditional", "other row weights"],
)
def test_a_funnel_that_is_none(tasks: tuple[Task, ...], named: list[str]) -> None:
    with pytest.raises(ValueError, match=naming("model.relation", *named)):
        build_relation(ModelConfig(relation="esmm"), tasks)
    assert not products(tasks)
