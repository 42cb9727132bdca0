"""Gradients to try the methods on, and how a method is run on explicit vectors."""

from typing import Any

import numpy as np
import torch
from hypothesis import settings

from dlrm_mtl.balancing import Balancer, create_balancer
from tests.balancing.reference import Array

TASKS = (2, 3, 5, 8)
WIDTH = 20
CASES = ("generic", "conflicting", "parallel", "tiny", "scaled", "duplicate", "opposed")
quick = settings(deadline=None, max_examples=40, database=None)


def gradients(case: str, num_tasks: int, seed: int = 0) -> Array:
    """(M, WIDTH)"""
    random = np.random.default_rng([CASES.index(case), num_tasks, seed])
    rows: Array = random.standard_normal((num_tasks, WIDTH))
    match case:
        case "conflicting":  # a tenth of their mean is left
            rows -= 0.9 * rows.mean(axis=0)
        case "parallel":
            rows = rows[:1] + 1e-3 * rows
        case "tiny":
            rows *= 1e-4 / np.linalg.norm(rows, axis=1, keepdims=True)
        case "scaled":
            rows *= np.geomspace(1e5, 1, num_tasks)[:, None]
        case "duplicate":
            rows[1] = rows[0]
        case "opposed":  # to a hundredth
            rows[1] = -rows[0] + 0.01 * rows[1]
    return rows


def coefficients(balancer: Balancer, rows: Array, losses: Array | None = None) -> Array:
    """One step on explicit gradients."""
    present = list(torch.from_numpy(rows))
    statistic = balancer.measure(present, torch.device("cpu"))
    actual: Array = balancer.update(statistic, None if losses is None else torch.from_numpy(losses)).numpy().copy()
    return actual


def fresh(name: str, rows: Array, losses: Array | None = None, **options: Any) -> Array:
    """Coefficients of a new balancer's first step."""
    return coefficients(create_balancer(name, len(rows), **options), rows, losses)


def sequence(num_tasks: int, steps: int = 10) -> list[Array]:
    """Gradients that drift, differ in scale, and conflict now and then."""
    random = np.random.default_rng(num_tasks)
    base = random.standard_normal((num_tasks, WIDTH)) * np.geomspace(1, 30, num_tasks)[:, None]
    return [base * (1 + 0.1 * step) + 0.7 * random.standard_normal((num_tasks, WIDTH)) for step in range(steps)]
