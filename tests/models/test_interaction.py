"""Interactions: the widths they state, the dimensions they take, features found by name."""

from itertools import permutations
from typing import Any

import pytest
import torch

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.model_parts import INTERACTIONS
from dlrm_mtl.models.embeddings import build_embedding_bags, embedding_dims
from dlrm_mtl.models.interaction import Interaction, build_interaction
from dlrm_mtl.models.representation import Representation
from dlrm_mtl.schema import Schema
from tests.messages import naming
from tests.models.batches import SCHEMA, WITHOUT_DENSE, keyed, pooled

MIXED = {"item": 8, "tags": 12}
"""Dimensions of two tables; that of `item` holds for the features item and history."""
WIDTHS = {  # of others, see out_features
    # 16 of the bottom MLP, then one product for each pair of its output and 4 features.
    "dot": 16 + 10,
    "concat": 5 * 16,
    "dcn": 5 * 16,
    "low_rank_dcn": 5 * 16,
    "deepfm": 16 + 6 + 1,
    "projection": 16 + 2 * 3,
}


class WithoutWidth(Interaction):
    def forward(self, dense: torch.Tensor, sparse: list[torch.Tensor]) -> torch.Tensor:
        return dense


class WrongWidth(WithoutWidth):
    out_features = 7


class ReadsValues(WithoutWidth):
    out_features = 16

    def forward(self, dense: torch.Tensor, sparse: list[torch.Tensor]) -> torch.Tensor:
        return dense + sparse[0].sum().item()


def config(interaction: Any, **changes: Any) -> ModelConfig:
    return ModelConfig(interaction, deep_mlp=(10, 6), projection_sizes=(2, 3), **changes)


def takes_mixed_dimensions(interaction: str) -> bool:
    try:
        Representation(SCHEMA, config(interaction, embedding_dims=MIXED))
    except ValueError:
        return False
    return True


def test_which_interactions_take_mixed_dimensions() -> None:
    assert [takes_mixed_dimensions(name) for name in WIDTHS] == [False, True, True, True, True, False]


@pytest.mark.parametrize("interaction", INTERACTIONS)
@pytest.mark.parametrize("schema", [SCHEMA, WITHOUT_DENSE], ids=["dense", "no dense"])
def test_output_is_as_wide_as_stated(interaction: Any, schema: Schema) -> None:
    shared = Representation(schema, config(interaction))
    embeddings = pooled(embedding_dims(schema, config(interaction)), 7)
    output = shared(embeddings, torch.randn(7, len(schema.dense)))
    assert shared.out_features == WIDTHS.get(interaction, shared.out_features)
    assert output.shape == (7, shared.out_features)
    output.sum().backward()
    assert all(weight.grad is not None for weight in shared.parameters())


@pytest.mark.parametrize("interaction", ["concat", "dcn", "low_rank_dcn", "deepfm"])
def test_one_dimension_per_table(interaction: Any) -> None:
    mixed = config(interaction, embedding_dims=MIXED)
    dims = embedding_dims(SCHEMA, mixed)
    assert dims == {"user": 16, "item": 8, "history": 8, "tags": 12}
    shared = Representation(SCHEMA, mixed)
    embeddings = pooled(dims, 3)
    output = shared(embeddings, torch.randn(3, 2))
    expected = 16 + 6 + 1 if interaction == "deepfm" else 16 + 16 + 8 + 8 + 12
    assert output.shape == (3, expected)
    assert shared.out_features == expected
    tables = {table.name: table.embedding_dim for table in build_embedding_bags(SCHEMA, mixed).embedding_bag_configs()}
    assert tables == {"user": 16, "item": 8, "tags": 12}


@pytest.mark.parametrize("build", [embedding_dims, build_embedding_bags, Representation])
def test_an_unknown_table_is_refused(build: Any) -> None:
    # history is a feature, but its ids are in the table of item.
    wrong = config("dcn", embedding_dims={"user": 4, "history": 8})
    with pytest.raises(ValueError, match=naming("table 'history'", "user, item, tags")):
        build(SCHEMA, wrong)


@pytest.mark.parametrize(
    ("kind", "named"),
    [(Interaction, ["forward"]), (WithoutWidth, ["out_features"]), (WrongWidth, ["out_features", (2, 7), (2, 16)])],
)
def test_a_class_that_is_no_interaction_is_refused_when_it_is_built(kind: type, named: list[Any]) -> None:
    name = f"{kind.__module__}:{kind.__name__}"
    with pytest.raises(ValueError, match=naming("model.interaction", name, *named)):
        build_interaction(config(name), [16])


def test_an_interaction_that_reads_values_is_built_on_the_meta_device_too() -> None:
    with torch.device("meta"):
        assert build_interaction(config(f"{__name__}:ReadsValues"), [16]).training


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_features_are_taken_by_name(interaction: Any) -> None:
    """The order of a KeyedTensor depends on the sharding plan; with unequal dimensions, its offsets too."""
    mixed = MIXED if takes_mixed_dimensions(interaction) else {}
    shared = Representation(SCHEMA, config(interaction, embedding_dims=mixed))
    embeddings = pooled(embedding_dims(SCHEMA, config(interaction, embedding_dims=mixed)), 5)
    dense = torch.randn(5, 2)
    expected = shared(embeddings, dense)
    for order in permutations(embeddings):
        assert torch.equal(shared(keyed(embeddings, order).to_dict(), dense), expected)
    taken: list[Any] = []
    shared.interaction.register_forward_pre_hook(lambda module, inputs: taken.extend(inputs[1]))
    shared(keyed(embeddings, list(reversed(embeddings))).to_dict(), dense)
    assert all(torch.equal(rows, embeddings[name]) for rows, name in zip(taken, embeddings, strict=True))


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_every_input_counts(interaction: Any) -> None:
    build = build_interaction(config(interaction), [16] * 4)
    inputs = [torch.randn(4, 16, requires_grad=True) for _ in range(5)]
    build(inputs[0], inputs[1:]).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in inputs)


def test_dot_is_the_bottom_output_and_all_pairs() -> None:
    torch.manual_seed(0)
    dense, *sparse = (torch.randn(3, 8) for _ in range(4))
    output = build_interaction(ModelConfig("dot", embedding_dim=8), [8] * 3)(dense, sparse)
    vectors = [dense, *sparse]
    products = [(vectors[i] * vectors[j]).sum(1) for i in range(4) for j in range(i)]
    assert torch.equal(output[:, :8], dense)
    found = output[:, 8:].sort(dim=1).values
    torch.testing.assert_close(found, torch.stack(products, dim=1).sort(dim=1).values)


def test_concat_is_the_bottom_output_and_the_embeddings_in_order() -> None:
    interaction = build_interaction(ModelConfig("concat", embedding_dim=8), [4, 12])
    dense, *sparse = (torch.randn(3, dim) for dim in (8, 4, 12))
    output = interaction(dense, sparse)
    assert torch.equal(output, torch.cat([dense, *sparse], dim=1))
    assert not list(interaction.parameters())


def test_over_arch_sets_the_width() -> None:
    shared = Representation(SCHEMA, config("dot", over_mlp=(20, 9)))
    embeddings = pooled(embedding_dims(SCHEMA, config("dot")), 3)
    assert shared(embeddings, torch.randn(3, 2)).shape == (3, 9)
    assert shared.out_features == 9


def test_without_dense_features_the_bottom_output_is_the_same_for_every_row() -> None:
    shared = Representation(WITHOUT_DENSE, config("dot"))
    embeddings = pooled(embedding_dims(WITHOUT_DENSE, config("dot")), 4)
    output = shared(embeddings, torch.empty(4, 0))
    assert torch.equal(output[:, :16], output[:1, :16].expand(4, 16))
    assert output[0, :16].abs().max() > 0
    assert not torch.equal(output[0], output[1])
