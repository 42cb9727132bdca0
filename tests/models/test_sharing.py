"""Every architecture and relation in one balanced backward pass, against a backward pass per loss."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import BalancingLayer, ParameterLevelLayer, create_balancer
from dlrm_mtl.config import ModelConfig
from dlrm_mtl.model_parts import RELATIONS, SHARING
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.option_reads import OptionReads
from dlrm_mtl.models.ranker import DenseModules, TaskHeads
from dlrm_mtl.models.relations.relation import build_relation
from dlrm_mtl.models.sharing.architecture import HeadInput, Layer, SharingArchitecture, build_sharing
from dlrm_mtl.module_names import owner_of
from tests.messages import naming
from tests.models.batches import SCHEMA

BATCH, WIDTH = 10, 6

TASKS = (
    Task("click", "clicked", base_rate=0.4),
    Task("cart", "carted", given="clicked", base_rate=0.3),
    Task("buy", "bought", given="clicked", through="carted", base_rate=0.2),
)

CONFIG = ModelConfig(head_mlp=(), expert_mlp=(9, 8), shared_experts=2, own_experts=2, levels=2, gate_mlp=(9,))


class EveryKindOfReader(SharingArchitecture):
    """Somebody's own: all heads read one tensor, two read another, and one reads a third, of more dimensions."""

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__(config, in_features, heads)
        self.of_all, self.of_two = nn.Linear(in_features, 4), nn.Linear(in_features, 4)
        self.of_one = nn.Linear(in_features, 8)
        self.out_features = 4

    def forward(self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput]) -> Sequence[Tensor]:
        everybodys, of_two = self.of_all(representation), self.of_two(representation)
        of_one = self.of_one(representation).view(-1, 2, 4)
        reads = [(everybodys, of_one) if loss == 2 else (everybodys, of_two) for loss in range(layer.num_tasks)]
        views = layer(reads)
        mine = [first + second.view(len(first), -1, 4)[:, 0] for first, second in views]
        return [(head + 1) * mine[loss] for loss, head in inputs]


class OwnBesideShared(SharingArchitecture):
    """Somebody's own, with tables of each task, which is read beside what is shared."""

    own_tables = True

    def __init__(self, config: ModelConfig, in_features: int, heads: Sequence[str]) -> None:
        super().__init__(config, in_features, heads)
        self.out_features = 2 * in_features

    def forward(
        self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput], own: Sequence[Tensor] = ()
    ) -> Sequence[Tensor]:
        views = layer(representation)
        return [torch.cat([views[loss], own[head]], dim=1) for loss, head in inputs]  # type: ignore[list-item]


ABOVE: dict[str, tuple[str, ...]] = {
    "bottom": (),
    "mmoe": ("gates",),
    "cgc": ("level.own", "level.gates"),
    "ple": ("last.own", "last.gates"),
    "adatt": ("last.gates", "last.residuals"),
    "stem": ("own", "gates"),
    "cross_stitch": ("stitches.1",),
    f"{__name__}:EveryKindOfReader": (),
    f"{__name__}:OwnBesideShared": (),
}
"""Names of an architecture's parameters above the cut, which get their own gradients."""


class Model(nn.Module):
    """What is between the interaction and the losses. One shared layer is below, and one of each task if it owns
    tables."""

    def __init__(self, config: ModelConfig, layer: Layer, tasks: Sequence[Task] = TASKS) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.bottom = nn.Linear(WIDTH, WIDTH)
        self.relation = build_relation(config, tasks)
        names = [head.name for head in self.relation.heads]
        self.sharing = build_sharing(config, WIDTH, names)
        owners = {owner_of(name) for name in names} if self.sharing.own_tables else ()
        self.own = nn.ModuleDict({owner: nn.Linear(WIDTH, WIDTH) for owner in sorted(owners)})
        self.heads = TaskHeads(self.relation.heads, config, self.sharing.out_features)
        self.layer = layer
        self.double()

    def forward(self, seed: int, absent: int | None = None) -> Tensor:
        """(M,) losses of a random batch."""
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(BATCH, WIDTH, dtype=torch.float64, generator=generator)
        labels = torch.randint(2, (BATCH, len(self.relation.tasks)), generator=generator).double()
        weights = torch.stack(
            [labels[:, 0] if task.given else torch.ones(BATCH).double() for task in self.relation.tasks], dim=1
        )
        if absent is not None:
            weights = weights.clone()
            weights[:, absent] = 0
        inputs = self.relation.inputs
        by_owner = {owner: layer(features).tanh() for owner, layer in self.own.items()}
        own = [[by_owner[owner_of(head.name)] for head in self.relation.heads]] if by_owner else []
        rows = self.sharing(self.bottom(features).tanh(), self.layer, inputs, *own)
        terms = self.relation.loss_terms(self.heads(rows, inputs), labels, weights)
        losses = nn.functional.binary_cross_entropy_with_logits(terms.logits, terms.labels, reduction="none")
        return (losses * terms.weights).mean(dim=0)

    def gradients_by_loss(self, seed: int) -> list[dict[str, Tensor]]:
        """Of every parameter, each loss in a backward pass of its own, without balancing."""
        self.eval()
        by_loss = []
        for loss in self(seed).unbind():
            self.zero_grad()
            loss.backward(retain_graph=True)
            by_loss.append({name: _gradient(parameter).clone() for name, parameter in self.named_parameters()})
        self.train()
        self.zero_grad()
        return by_loss

    def is_above(self, name: str, sharing: str) -> bool:
        return name.startswith(("heads.", "own.", *(f"sharing.{part}" for part in ABOVE[sharing])))


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@pytest.mark.parametrize("method", ["mean", "multibalance", "imtl_g"])
@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("sharing", ABOVE)
def test_every_parameter_gets_its_gradient(sharing: str, relation: str, method: str) -> None:
    layer = BalancingLayer(create_balancer(method, 3))
    model = Model(replace(CONFIG, sharing=sharing, relation=relation), layer)
    for seed in range(2):
        by_loss = model.gradients_by_loss(seed)
        model(seed).sum().backward()
        assert layer.record is not None
        weights = layer.record.coefficients
        for name, parameter in model.named_parameters():
            factors = torch.ones(3) if model.is_above(name, sharing) else weights
            expected = sum(float(factors[m]) * by_loss[m][name] for m in range(3))
            torch.testing.assert_close(_gradient(parameter), expected, rtol=1e-9, atol=1e-14)
            assert _gradient(parameter).abs().max() > 0, name


@pytest.mark.parametrize("sharing", SHARING)
def test_level_of_parameters(sharing: str) -> None:
    layer = ParameterLevelLayer(create_balancer("multibalance", 3))
    model = Model(replace(CONFIG, sharing=sharing), layer)
    layer.bind(list(model.bottom.parameters()))
    by_loss = model.gradients_by_loss(0)
    layer.weigh_losses(model(0)).sum().backward()
    assert layer.record is not None
    for name, parameter in model.named_parameters():
        factors = torch.ones(3) if model.is_above(name, sharing) else layer.record.coefficients
        expected = sum(float(factors[m]) * by_loss[m][name] for m in range(3))
        torch.testing.assert_close(_gradient(parameter), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("sharing", SHARING)
def test_one_task(sharing: str) -> None:
    model = Model(replace(CONFIG, sharing=sharing), BalancingLayer(create_balancer("multibalance", 1)), TASKS[:1])
    (alone,) = model.gradients_by_loss(0)
    model(0).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(_gradient(parameter), alone[name])


@pytest.mark.parametrize("sharing", SHARING)
def test_a_task_absent_from_a_batch(sharing: str) -> None:
    layer = BalancingLayer(create_balancer("multibalance", 3))
    model = Model(replace(CONFIG, sharing=sharing), layer)
    for seed in range(2):
        model(seed, absent=2).sum().backward()
    assert layer.balancer.step == 2
    assert all(_gradient(parameter).isfinite().all() for parameter in model.parameters())


def test_one_expert_is_a_shared_layer() -> None:
    """Its gate is constant, so that MMoE is a shared bottom with the expert as its last layers."""
    layer, plain_layer = (BalancingLayer(create_balancer("multibalance", 3)) for _ in range(2))
    model = Model(replace(CONFIG, sharing="mmoe", shared_experts=1), layer)
    model(0).sum().backward()
    expert = model.sharing.experts[0]  # type: ignore[index]

    class AsBottom(SharingArchitecture):
        def forward(self, representation: Tensor, layer: Layer, inputs: Sequence[HeadInput]) -> Sequence[Tensor]:
            views = layer(expert(representation))  # type: ignore[operator]
            return [views[loss] for loss, _ in inputs]

    gradients = {name: _gradient(parameter).clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.sharing, model.layer = AsBottom(CONFIG, WIDTH, []), plain_layer
    model(0).sum().backward()
    for name, parameter in model.bottom.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[f"bottom.{name}"])
    assert layer.record is not None
    assert plain_layer.record is not None
    torch.testing.assert_close(layer.record.coefficients, plain_layer.record.coefficients)


def test_cross_stitch_starts_near_the_identity() -> None:
    matrix = build_sharing(replace(CONFIG, sharing="cross_stitch"), WIDTH, ["a", "b", "c"]).stitches[0]()  # type: ignore[index,operator]
    torch.testing.assert_close(matrix, torch.full((3, 3), 0.05) + 0.85 * torch.eye(3))


@pytest.mark.parametrize("sharing", SHARING)
def test_what_a_task_brings_is_named_by_it(sharing: str) -> None:
    """From a checkpoint of other tasks everything but what belongs to new tasks is taken."""
    config = replace(CONFIG, sharing=sharing)
    few, many = (build_sharing(config, WIDTH, names).state_dict() for names in (["a", "b"], ["a", "b", "task_new"]))
    for name, value in few.items():
        assert many[name].shape == value.shape
    assert all("task_new" in name.split(".") for name in many.keys() - few.keys())


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("sharing", "torch.nn:Linear", "SharingArchitecture"),
        ("sharing", "tests.models.nowhere:Mine", "no module 'tests.models.nowhere'"),
        ("interaction", "torch.nn:Linear", "Interaction"),
        ("interaction", "torch.nn:Linnear", "'Linnear'"),
        ("relation", "torch.nn:Linear", "Relation"),
        ("sharing", "dlrm_mtl.models.sharing.architecture:SharingArchitecture", "forward"),
    ],
)
def test_a_class_that_cannot_be_built(option: str, name: str, message: str) -> None:
    changed: dict[str, Any] = {option: name}
    with pytest.raises(ValueError, match=re.escape(message)):
        DenseModules(SCHEMA, replace(ModelConfig(), **changed))


@pytest.mark.parametrize("field", ["shared_experts", "own_experts", "levels"])
@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_counts_of_nothing_or_of_too_many(field: str, count: int) -> None:
    changed: dict[str, Any] = {field: count}
    with pytest.raises(ValueError, match=naming(f"model.{field}", count, 1, 1024)):
        replace(CONFIG, **changed)


@pytest.mark.parametrize(
    ("sharing", "unread"),
    [
        ("bottom", {"shared_experts", "own_experts", "expert_mlp", "gate_mlp", "levels"}),
        ("mmoe", {"own_experts", "levels"}),
        ("cgc", {"levels"}),
        ("ple", set()),
        ("adatt", {"shared_experts"}),
        ("cross_stitch", {"shared_experts", "own_experts", "gate_mlp"}),
        ("stem", {"levels"}),
    ],
)
def test_options_that_an_architecture_ignores(sharing: str, unread: set[str]) -> None:
    options: dict[str, Any] = {
        "shared_experts": 3,
        "own_experts": 2,
        "expert_mlp": (8, 8),
        "gate_mlp": (4,),
        "levels": 3,
        "cross_layers": 7,
    }
    with torch.device("meta"):
        reads = OptionReads.of(ModelConfig("dot", sharing=sharing, **options))
        DenseModules(SCHEMA, reads)
    assert reads.unread() == {name: options[name] for name in (*unread, "cross_layers")}
    replace(reads, embedding_dim=8)  # as an architecture of one's own may
