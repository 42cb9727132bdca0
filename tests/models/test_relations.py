"""Funnels: probabilities, losses, and tasks that do not make one."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.funnels import output_names, products
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.products import append_terms, predictions_of
from dlrm_mtl.models.relations.relation import build_relation, mixture, product
from tests.messages import naming
from tests.models.test_sharing import TASKS

CHAIN = (Task("click", "a"), Task("cart", "b", given="a"), Task("buy", "c", given="b"))
LABELS = torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 0]])


def test_products_and_mixtures() -> None:
    logits = torch.linspace(-6, 6, 25, dtype=torch.float64)
    x, y, z = torch.meshgrid(logits, logits, logits, indexing="ij")
    torch.testing.assert_close(product(x, y).sigmoid(), x.sigmoid() * y.sigmoid())
    expected = x.sigmoid() * y.sigmoid() + (1 - x.sigmoid()) * z.sigmoid()
    torch.testing.assert_close(mixture(x, y, z).sigmoid(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_give_finite_losses_and_gradients(dtype: torch.dtype) -> None:
    far = torch.tensor([-1e4, -90.0, 0.0, 90.0, 1e4])
    grid = [part.flatten().to(dtype).requires_grad_() for part in torch.meshgrid(far, far, far, indexing="ij")]
    for logits in (product(grid[0], grid[1]), mixture(*grid)):
        for label in (0.0, 1.0):
            losses = binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
            gradients = torch.autograd.grad(losses, grid, retain_graph=True, allow_unused=True)
            assert losses.isfinite()
            assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_a_chain_is_trained_on_products_over_all_rows() -> None:
    relation = build_relation(ModelConfig(relation="esmm"), CHAIN)
    assert [tuple(each) for each in relation.inputs] == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    a, b, c = torch.randn(3, 5, dtype=torch.float64)
    logits = torch.stack([a, a, b, a, b, c], dim=1)
    weights = torch.stack([torch.ones(5), LABELS[:, 0], LABELS[:, 1]], dim=1)
    terms = relation.loss_terms(logits, LABELS, weights)
    torch.testing.assert_close(relation.task_logits(logits), torch.stack([a, b, c], dim=1))
    expected = torch.stack([a.sigmoid(), a.sigmoid() * b.sigmoid(), a.sigmoid() * b.sigmoid() * c.sigmoid()], dim=1)
    torch.testing.assert_close(terms.logits.sigmoid(), expected)
    assert terms.labels.tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert terms.weights.bool().all()


def test_a_funnel_counts_no_row_that_stands_for_a_lost_one() -> None:
    """Such a row has weights 0, and its label is none of a row without a click."""
    relation = build_relation(ModelConfig(relation="esmm"), CHAIN)
    terms = relation.loss_terms(torch.zeros(5, 6), LABELS, torch.zeros(5, 3))
    assert not terms.weights.any()


def test_a_task_of_the_same_label_over_all_rows_is_no_part_of_a_chain() -> None:
    tasks = (*CHAIN[:2], Task("both", "b"))
    relation = build_relation(ModelConfig(relation="esmm"), tasks)
    assert [tuple(each) for each in relation.inputs] == [(0, 0), (1, 0), (1, 1), (2, 2)]


def test_two_ways_to_a_purchase() -> None:
    relation = build_relation(ModelConfig(relation="esm2"), TASKS)
    assert [head.name for head in relation.heads] == ["task_click", "task_cart", "task_buy", "task_buy%second"]
    assert relation.heads[3].first_output == relation.heads[2].first_output
    assert [tuple(each) for each in relation.inputs] == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)]
    y1, y2, y3, y4 = torch.randn(4, 5, dtype=torch.float64)
    logits = torch.stack([y1, y1, y2, y1, y2, y3, y4], dim=1)
    weights = torch.stack([torch.ones(5), LABELS[:, 0], LABELS[:, 0]], dim=1)
    terms = relation.loss_terms(logits, LABELS, weights)
    p1, p2, p3, p4 = (y.sigmoid() for y in (y1, y2, y3, y4))
    given_click = p2 * p3 + (1 - p2) * p4
    torch.testing.assert_close(terms.logits.sigmoid(), torch.stack([p1, p1 * p2, p1 * given_click], dim=1))
    torch.testing.assert_close(relation.task_logits(logits).sigmoid(), torch.stack([p1, p2, given_click], dim=1))
    assert terms.labels[:, 2].tolist() == [1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("relation", "tasks", "named"),
    [
        ("esmm", tuple(replace(task, given="") for task in CHAIN), "click, cart, buy"),
        ("esmm", CHAIN[1:], "cart"),
        ("esmm", (*CHAIN, Task("press", "a")), "cart.* 2 tasks"),
        ("esmm", (Task("p", "x", given="y"), Task("q", "y", given="x")), "itself"),
        ("esm2", CHAIN, "through"),
        ("esm2", (TASKS[0], TASKS[2]), "carted"),
        ("esm2", (*TASKS[:2], replace(TASKS[2], given="")), "carted"),
    ],
)
def test_tasks_that_do_not_support_it(relation: str, tasks: tuple[Task, ...], named: str) -> None:
    with pytest.raises(ValueError, match=f"model.relation.*{named}"):
        build_relation(ModelConfig(relation=relation), tasks)


def test_products_without_labels_are_those_with_labels() -> None:
    logits, ones = torch.randn(5, 3), torch.ones(5, 3)
    chains = list(products(CHAIN).values())
    expected = append_terms(logits, ones, ones, chains).logits.sigmoid()
    assert torch.equal(predictions_of(logits, CHAIN, chains), expected)
    assert torch.equal(predictions_of(logits, CHAIN, []), logits.sigmoid())


def test_outputs_are_named_by_their_tasks() -> None:
    names = {"click": (0,), "cart": (1,), "buy": (2,), "click_and_cart": (0, 1), "click_and_cart_and_buy": (0, 1, 2)}
    assert output_names(CHAIN) == names
    with pytest.raises(ValueError, match=naming("click_and_cart")):
        output_names((*CHAIN, Task("click_and_cart", "d")))
