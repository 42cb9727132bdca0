"""The model for serving: the same as in training, and its graph."""

from dataclasses import replace
from itertools import chain, cycle, repeat
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dlrm_mtl.funnels import products
from dlrm_mtl.model_parts import INTERACTIONS, RELATIONS, SHARING
from dlrm_mtl.models.interaction import Interaction
from dlrm_mtl.schema import Schema
from dlrm_mtl.serving.exporting import trace
from dlrm_mtl.serving.quantization import quantize
from dlrm_mtl.serving.served_model import ServedModel, model_inputs
from tests.messages import naming
from tests.models.batches import SCHEMA, WITHOUT_DENSE
from tests.serving.models import FUNNEL, SMALL, real_batches, trained

OWN = "docs.examples.own_architecture"
CHAINS = tuple(products(FUNNEL.tasks).values())


@pytest.mark.parametrize("sharing", [*SHARING, f"{OWN}:SharedAndOwn"])
def test_probabilities_are_those_of_training(sharing: str, small_dataset: Path) -> None:
    """Of every interaction and relation, on rows with empty bags."""
    [batch] = real_batches(small_dataset, 200)
    torch.manual_seed(1)
    for interaction in (*INTERACTIONS, f"{OWN}:BiInteraction"):
        for relation in RELATIONS:
            config = replace(SMALL, interaction=interaction, sharing=sharing, relation=relation, numeric_frequencies=3)
            model, plain = trained(FUNNEL, config)
            with torch.no_grad():
                expected = model(batch)[1].logits.sigmoid()
            torch.testing.assert_close(plain(*model_inputs(batch)).sigmoid(), expected, rtol=0, atol=1e-6)


def test_the_graph_takes_any_rows_and_bags(small_dataset: Path) -> None:
    """One graph with every architecture, interaction and relation."""
    torch.manual_seed(2)
    small = replace(SMALL, shared_experts=1, own_experts=1, head_mlp=(), numeric_frequencies=3)
    sharing = [*SHARING, f"{OWN}:SharedAndOwn"]
    interactions = cycle([*INTERACTIONS, f"{OWN}:BiInteraction"])
    relations = chain(RELATIONS, repeat("independent"))
    configs = [
        replace(small, sharing=one, interaction=two, relation=three)
        for one, two, three in zip(sharing, interactions, relations, strict=False)
    ]
    model = ServedModel([trained(FUNNEL, config)[1] for config in configs], FUNNEL.tasks, CHAINS)
    graph = trace(model, FUNNEL).module()
    for batch_size in (200, 1):
        batch = real_batches(small_dataset, batch_size)[0]
        dense, values, lengths = model_inputs(batch)
        expected = model(dense, values, lengths)
        assert expected.shape == (batch_size, 3 * len(configs) + len(CHAINS))
        assert torch.equal(graph(dense, values, lengths), expected)
        without_ids = dense, values[:0], torch.zeros_like(lengths)
        assert torch.equal(graph(*without_ids), model(*without_ids))


def test_products_are_those_of_the_probabilities(small_dataset: Path) -> None:
    [batch] = real_batches(small_dataset, 200)
    ranker = trained(FUNNEL, SMALL)[1]
    click, like, buy, *products_ = ServedModel([ranker], FUNNEL.tasks, CHAINS)(*model_inputs(batch)).unbind(dim=1)
    torch.testing.assert_close(torch.stack(products_), torch.stack([click * like, click * buy]))


@pytest.mark.parametrize(("schema", "sharing"), [(SCHEMA, "stem"), (WITHOUT_DENSE, "bottom")])
def test_int8_tables_are_close(schema: Schema, sharing: str, small_dataset: Path) -> None:
    [batch] = real_batches(small_dataset, 200)
    config = replace(SMALL, sharing=sharing, embedding_dim=8)
    ranker = trained(schema, config)[1]
    model = ServedModel([ranker], SCHEMA.tasks, ())
    dense, values, lengths = model_inputs(batch)
    dense = dense[:, : len(schema.dense)]
    before = ranker.tables(values, lengths)
    expected = model(dense, values, lengths)
    quantize(model)
    after = ranker.tables(values, lengths)
    assert after.keys() == before.keys()
    for name, pooled in before.items():
        # A step of a row's scale is its range / 255; ranges are below 3 here.
        torch.testing.assert_close(after[name], pooled, rtol=0, atol=3 / 255)
        assert torch.equal(after[name] == 0, pooled == 0)
    assert not torch.equal(model(dense, values, lengths), expected)
    assert torch.equal(trace(model, schema).module()(dense, values, lengths), model(dense, values, lengths))


class CountsRows(Interaction):
    """Its graph is for one number of rows."""

    out_features = 4

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        return dense / len(dense)


class DependsOnValues(CountsRows):
    """Its graph is for some values."""

    def forward(self, dense: Tensor, sparse: list[Tensor]) -> Tensor:
        return dense if bool(dense.sum() > 0) else -dense


@pytest.mark.parametrize("kind", [CountsRows, DependsOnValues])
def test_a_class_that_cannot_be_traced_is_refused(kind: type[Interaction]) -> None:
    config = replace(SMALL, interaction=f"{__name__}:{kind.__name__}")
    with pytest.raises(ValueError, match=naming("cannot be exported", "shape[0]")) as refused:
        trace(ServedModel([trained(SCHEMA, config)[1]], SCHEMA.tasks, ()), SCHEMA)
    assert "\n" not in str(refused.value)
