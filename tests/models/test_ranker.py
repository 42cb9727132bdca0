"""The ranker: initial weights, heads, pooling."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torchrec.modules.embedding_configs import PoolingType
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.model_parts import INTERACTIONS
from dlrm_mtl.models.embeddings import build_embedding_bags, embedding_dims
from dlrm_mtl.models.ranker import MultiTaskRanker, TaskHeads
from dlrm_mtl.models.relations.relation import Relation
from dlrm_mtl.module_names import belongs_to, table_of
from dlrm_mtl.schema import Schema
from tests.messages import naming
from tests.models.batches import RATES, SCHEMA, WITHOUT_DENSE, build, keyed, materialized, one_task, pooled


def dense_weights(model: MultiTaskRanker) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.dense_part.named_parameters()}


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def batch_of(schema: Schema, rows: int) -> MultiTaskBatch:
    """Random inputs; every feature has one id per row."""
    generator = torch.Generator().manual_seed(2)
    ids = [torch.randint(feature.cardinality, (rows,), generator=generator) for feature in schema.categorical]
    sparse = KeyedJaggedTensor(
        [feature.name for feature in schema.categorical],
        torch.cat(ids),
        lengths=torch.ones(rows * len(ids), dtype=torch.int32),
    )
    labels = torch.randint(2, (rows, len(schema.tasks)), generator=generator).float()
    dense = torch.randn(rows, len(schema.dense), generator=generator)
    context = torch.empty(rows, 0, dtype=torch.int64)
    return MultiTaskBatch(sparse, dense, labels, torch.ones_like(labels), torch.arange(rows), context)


def test_dense_weights_are_a_function_of_the_seed() -> None:
    torch.manual_seed(1)
    first = dense_weights(build(SCHEMA, ModelConfig("low_rank_dcn"), seed=5))
    torch.manual_seed(2)
    torch.randn(7)
    again = dense_weights(build(SCHEMA, ModelConfig("low_rank_dcn"), seed=5))
    assert equal(first, again)
    other = dense_weights(build(SCHEMA, ModelConfig("low_rank_dcn"), seed=6))
    # Biases of crossnets start at 0 and those of heads at log-odds, whatever the seed.
    drawn = [name for name in first if name.endswith("weight") or "kernels" in name]
    assert len(drawn) > 6
    assert all(not torch.equal(first[name], other[name]) for name in drawn)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    build(SCHEMA, ModelConfig("dcn"), seed=9)
    assert torch.equal(torch.randn(4), expected)


def test_tables_wait_on_the_meta_device() -> None:
    model = build(SCHEMA, ModelConfig())
    assert all(weight.is_meta for weight in model.embedding_bags.parameters())
    assert not any(weight.is_meta for weight in model.dense_part.parameters())


@pytest.mark.parametrize("head_mlp", [(), (8,), (256, 128)])
def test_head_biases_start_at_the_log_odds(head_mlp: tuple[int, ...]) -> None:
    heads = TaskHeads(Relation(SCHEMA.tasks).heads, ModelConfig(head_mlp=head_mlp), 24)
    modules = [list(head.modules()) for head in heads.heads.values()]
    logits = [[module for module in head if isinstance(module, nn.Linear)][-1] for head in modules]
    assert [layer.out_features for layer in logits] == [1, 1, 1]
    for layer, rate in zip(logits, RATES, strict=True):
        assert layer.bias.item() == pytest.approx(math.log(rate / (1 - rate)), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.7])
def test_the_first_predictions_are_near_the_base_rate(rate: float) -> None:
    schema = one_task(rate)
    model = build(schema, ModelConfig())
    embeddings = pooled(embedding_dims(schema, ModelConfig()), 500, scale=0.1)
    losses, predictions = model.dense_part(keyed(embeddings, list(embeddings)), batch_of(schema, 500))
    assert torch.sigmoid(predictions.logits).mean().item() == pytest.approx(rate, rel=0.25)
    assert not predictions.logits.requires_grad
    assert losses.shape == (1,)


def test_heads_are_stored_by_task_name() -> None:
    """Under names that nothing in a module is called by: "keys" and "type" are names of tasks as good as any."""
    names = ("type", "keys", "buy it")
    schema = replace(SCHEMA, tasks=tuple(replace(t, name=name) for t, name in zip(SCHEMA.tasks, names, strict=True)))
    heads = TaskHeads(Relation(schema.tasks).heads, ModelConfig(head_mlp=(8,)), 24)
    owners = {key.split(".")[1] for key in heads.state_dict()}
    assert owners == {"task_type", "task_keys", "task_buy it"}
    fewer = TaskHeads(Relation(schema.tasks[:0:-1]).heads, ModelConfig(head_mlp=(8,)), 24)
    result = fewer.load_state_dict(heads.state_dict(), strict=False)
    assert result.missing_keys == []
    assert {key.split(".")[1] for key in result.unexpected_keys} == {"task_type"}
    inputs = Relation(schema.tasks).inputs
    views = tuple(torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(fewer(views[:0:-1], inputs[:2]), heads(views, inputs)[:, [2, 1]], rtol=0, atol=0)


def test_initial_heads_do_not_depend_on_their_names() -> None:
    """Weights are drawn in the order of the tasks."""
    renamed = replace(SCHEMA, tasks=tuple(replace(task, name=f"{task.name}!") for task in SCHEMA.tasks))
    found, expected = (dense_weights(build(schema, ModelConfig(head_mlp=(8,)))) for schema in (renamed, SCHEMA))
    assert all(torch.equal(*pair) for pair in zip(found.values(), expected.values(), strict=True))


def test_heads_do_not_share_weights() -> None:
    heads = TaskHeads(Relation(SCHEMA.tasks).heads, ModelConfig(head_mlp=(8,)), 24)
    view = torch.randn(5, 24, generator=torch.Generator().manual_seed(1))
    logits = heads((view, view, view), Relation(SCHEMA.tasks).inputs)
    assert logits.shape == (5, 3)
    with pytest.raises(ValueError, match=naming("model.sharing", 23, 24)):
        heads((view[:, :23], view, view), Relation(SCHEMA.tasks).inputs)
    logits[:, 1].sum().backward()
    touched = [
        sum(float(weight.grad.abs().sum()) for weight in head.parameters() if weight.grad is not None) > 0
        for head in heads.heads.values()
    ]
    assert touched == [False, True, False]


@pytest.mark.parametrize("schema", [SCHEMA, WITHOUT_DENSE], ids=["dense", "no dense"])
def test_a_step_reaches_every_weight(schema: Schema) -> None:
    model = materialized(schema, ModelConfig())
    losses, predictions = model(batch_of(schema, 6))
    assert losses.shape == (3,)
    assert predictions.logits.shape == (6, 3)
    losses.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_tables_of_a_task_get_its_own_gradient(interaction: str) -> None:
    """Against a backward pass per loss: with stem only what is shared gets the balanced one."""
    model = materialized(SCHEMA, ModelConfig(interaction, sharing="stem", expert_mlp=(8,)), recipe="multibalance")
    model.double()
    batch = batch_of(SCHEMA, 12)
    batch = replace(batch, dense=batch.dense.double(), labels=batch.labels.double(), weights=batch.weights.double())
    weights = dict(model.named_parameters())
    layer = model.dense_part.balancing
    model(batch)[0].sum().backward()
    assert layer.record is not None
    coefficients = layer.record.coefficients
    layer.eval()
    by_loss = [
        torch.autograd.grad(loss, list(weights.values()), retain_graph=True, materialize_grads=True)
        for loss in model(batch)[0]
    ]
    for number, (name, weight) in enumerate(weights.items()):
        is_own = belongs_to(name, SCHEMA.task_names)
        gradients = torch.stack([gradients[number] for gradients in by_loss])
        expected = torch.einsum("m,m...->...", torch.ones(3).double() if is_own else coefficients, gradients)
        # torchrec gives pooled embeddings, and so takes their gradients, as float32.
        error = 1e-6 if name.startswith("embedding_bags") else 1e-12
        torch.testing.assert_close(weight.grad, expected, rtol=0, atol=error * float(expected.abs().max()))
        assert gradients.flatten(1).any(dim=1).sum() == (1 if is_own else 3), name
    tables = [name for name in weights if name.startswith("embedding_bags")]
    assert len(tables) == 3 * (1 + 3)
    assert {table_of(name.split(".")[2]) for name in tables} == SCHEMA.meaning.tables.keys()


def test_evaluation_computes_no_loss() -> None:
    model = materialized(SCHEMA, ModelConfig()).eval()
    batch = batch_of(SCHEMA, 6)
    losses, predictions = model(batch)
    assert losses.tolist() == [0, 0, 0]
    trained, trained_predictions = model.train()(batch)
    assert (trained > 0).all()
    assert torch.equal(predictions.logits, trained_predictions.logits)
    assert torch.equal(predictions.rows, batch.rows)


def test_bf16_leaves_float32_logits_close_to_those_without() -> None:
    batch = batch_of(SCHEMA, 64)
    single, mixed = (materialized(SCHEMA, ModelConfig(), bf16) for bf16 in (False, True))
    mixed.load_state_dict(single.state_dict())
    (_, exact), (_, rounded) = single(batch), mixed(batch)
    assert rounded.logits.dtype == torch.float32
    assert not torch.equal(rounded.logits, exact.logits)
    torch.testing.assert_close(rounded.logits, exact.logits, atol=0.05, rtol=0.05)


def test_bags_are_averaged_and_empty_ones_are_zero() -> None:
    model = materialized(SCHEMA, ModelConfig(embedding_dim=4))
    bags = model.embedding_bags
    weights = bags.embedding_bags["item"].weight
    # Two rows: history has three ids, then none; every other feature has one id.
    sparse = KeyedJaggedTensor(
        ["user", "item", "history", "tags"],
        torch.tensor([0, 1, 2, 3, 5, 7, 11, 4, 4]),
        lengths=torch.tensor([1, 1, 1, 1, 3, 0, 1, 1]),
    )
    found = bags(sparse).to_dict()
    torch.testing.assert_close(found["history"][0], weights[[5, 7, 11]].mean(dim=0))
    assert found["history"][1].tolist() == [0] * 4
    torch.testing.assert_close(found["item"], weights[[2, 3]])
    pooling: list[Any] = [table.pooling for table in bags.embedding_bag_configs()]
    assert pooling == [PoolingType.MEAN] * 3


def test_features_of_one_table_share_its_rows() -> None:
    tables = build_embedding_bags(SCHEMA, ModelConfig()).embedding_bag_configs()
    assert {table.name: table.feature_names for table in tables} == {
        "user": ["user"],
        "item": ["item", "history"],
        "tags": ["tags"],
    }
    assert [table.num_embeddings for table in tables] == [50, 30, 7]
