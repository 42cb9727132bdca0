"""Random orders: permutations, evenly drawn, a function of seed and step alone."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from dlrm_mtl.balancing import create_balancer
from dlrm_mtl.balancing.algebra.random_order import random_orders, random_partners


def orders_at(step: int, rows: int = 3, columns: int = 3, seed: int = 0) -> Tensor:
    return random_orders(rows, columns, seed, torch.tensor(step))


@pytest.mark.parametrize("columns", [1, 2, 5, 8])
def test_permutations(columns: int) -> None:
    actual = random_orders(4, columns, 7, torch.tensor(3))
    assert actual.sort(dim=1).values.tolist() == [list(range(columns))] * 4


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 8])
def test_partners_are_all_the_others(num_tasks: int) -> None:
    actual = random_partners(num_tasks, 0, torch.tensor(5))
    for task, partners in enumerate(actual.tolist()):
        assert sorted([*partners, task]) == list(range(num_tasks))


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_every_order_is_as_likely(row: int, seed: int) -> None:
    """Over 3000 steps, each of the 6 orders comes 500 times, within 5 standard deviations."""
    counts = Counter(tuple(orders_at(step, seed=seed)[row].tolist()) for step in range(3000))
    assert len(counts) == 6
    assert all(abs(count - 500) <= 5 * math.sqrt(3000 * 5 / 36) for count in counts.values())


def test_rows_are_independent() -> None:
    """Two rows agree in a sixth of the steps."""
    same = sum(torch.equal(*orders_at(step)[:2]) for step in range(3000))
    assert abs(same - 500) <= 5 * math.sqrt(3000 * 5 / 36)


def test_a_function_of_seed_and_step() -> None:
    assert torch.equal(orders_at(4, 5, 5), orders_at(4, 5, 5))
    for other in (orders_at(5, 8, 8), orders_at(4, 8, 8, seed=1)):
        assert not torch.equal(orders_at(4, 8, 8), other)


def test_the_largest_seed_and_step() -> None:
    actual = random_orders(2, 5, 2**31 - 1, torch.tensor(2**62))
    assert actual.sort(dim=1).values.tolist() == [list(range(5))] * 2


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "graddrop"])
def test_seeds_differ(name: str) -> None:
    rows = torch.randn(5, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows -= 0.99 * rows.mean(dim=0)
    first, second, again = (create_balancer(name, 5, seed=seed).combine(rows) for seed in (0, 2**31 - 1, 0))
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)
