"""Projection onto the simplex and the min-norm point, by their definitions."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dlrm_mtl.balancing import min_norm_point, project_to_simplex
from tests.balancing.reference import Array, project_by_bisection

vectors = arrays.arrays(np.float64, st.integers(1, 12), elements=st.floats(-50, 50, allow_subnormal=False))
quick = settings(deadline=None, max_examples=100, database=None)


def project(vector: Array) -> Array:
    result: Array = project_to_simplex(torch.from_numpy(vector)).numpy()
    return result


@quick
@given(vectors)
def test_projection_is_on_the_simplex(vector: Array) -> None:
    point = project(vector)
    assert (point >= 0).all()
    assert point.sum() == pytest.approx(1, abs=1e-12)


@quick
@given(vectors)
def test_projection_agrees_with_bisection(vector: Array) -> None:
    np.testing.assert_allclose(project(vector), project_by_bisection(vector), rtol=0, atol=1e-12)


@quick
@given(vectors)
def test_projection_is_the_nearest_point(vector: Array) -> None:
    """Optimality: <v - p, e_m - p> <= 0 for every vertex e_m."""
    point = project(vector)
    residual = vector - point
    assert (residual - residual @ point <= 1e-11).all()


@quick
@given(vectors)
def test_projection_is_idempotent(vector: Array) -> None:
    point = project(vector)
    np.testing.assert_allclose(project(point), point, rtol=0, atol=1e-13)


@quick
@given(vectors, st.floats(-50, 50))
def test_projection_ignores_a_common_shift(vector: Array, shift: float) -> None:
    np.testing.assert_allclose(project(vector + shift), project(vector), rtol=0, atol=1e-12)


@quick
@given(vectors, st.randoms())
def test_projection_follows_a_permutation(vector: Array, random: "np.random.RandomState") -> None:
    order = np.arange(len(vector))
    random.shuffle(order)
    np.testing.assert_allclose(project(vector[order]), project(vector)[order], rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        ([3.0], [1.0]),
        ([0.0, 0.0], [0.5, 0.5]),
        ([5.0, 5.0, 5.0], [1 / 3, 1 / 3, 1 / 3]),
        ([10.0, 0.0, 0.0], [1.0, 0.0, 0.0]),
        ([1e12, 0.0], [1.0, 0.0]),
        ([0.5, 0.4, -1.0], [0.55, 0.45, 0.0]),
    ],
)
def test_projection_of_known_vectors(vector: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(project(np.array(vector)), expected, rtol=0, atol=1e-12)


def gradients(num_tasks: int, size: int, seed: int, scales: list[float] | None = None) -> Tensor:
    rows = torch.randn(num_tasks, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows if scales is None else rows * torch.tensor(scales, dtype=torch.float64)[:, None]


def assert_optimal(rows: Tensor, tolerance: float = 1e-9) -> Tensor:
    """w is on the simplex and d = sum of w_m g_m has <g_m, d> >= |d|^2 for every m; the error is relative to |d|^2."""
    gramian = rows @ rows.T
    weights = min_norm_point(gramian)
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)
    direction = weights @ rows
    length = direction @ direction
    # Where d vanishes, rounding in the Gramian is all that is left: relative to the smallest gradient then.
    slack = max(tolerance * length.item(), 1e-11 * gramian.diagonal().min().item())
    assert (rows @ direction >= length - slack).all(), f"{rows @ direction - length} below -{slack}"
    return weights


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_tasks", [1, 2, 3, 5, 8])
def test_min_norm_point_is_optimal(num_tasks: int, seed: int) -> None:
    assert_optimal(gradients(num_tasks, 20, seed))


@pytest.mark.parametrize("seed", range(5))
def test_min_norm_point_inside_the_hull(seed: int) -> None:
    """More gradients than dimensions: some convex combination is nearly zero, and many are optimal."""
    rows = gradients(6, 3, seed)
    assert_optimal(rows)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scales", [[1e5, 1.0, 1.0], [1.0, 1e-5, 1e-5], [1e3, 1.0, 1e-3, 1e-3]])
def test_min_norm_point_of_very_different_scales(scales: list[float], seed: int) -> None:
    assert_optimal(gradients(len(scales), 20, seed, scales), tolerance=1e-6)


@quick
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_min_norm_point_of_two_tasks(seed: int, ratio: float) -> None:
    rows = gradients(2, 4, seed, [1.0, ratio])
    difference = rows[1] - rows[0]
    first = (rows[1] @ difference / (difference @ difference)).clamp(0, 1).item()
    weights = min_norm_point(rows @ rows.T)
    assert weights.tolist() == pytest.approx([first, 1 - first], abs=1e-9)


@pytest.mark.parametrize("num_tasks", [2, 3, 8])
def test_min_norm_point_of_duplicates(num_tasks: int) -> None:
    rows = gradients(1, 20, 1).repeat(num_tasks, 1)
    weights = assert_optimal(rows)
    torch.testing.assert_close(weights @ rows, rows[0], rtol=1e-9, atol=0)


def test_min_norm_point_with_some_duplicates() -> None:
    rows = gradients(3, 20, 2)
    direction = assert_optimal(rows) @ rows
    doubled = torch.cat([rows, rows[:2]])
    torch.testing.assert_close(assert_optimal(doubled) @ doubled, direction, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("num_tasks", [2, 3, 8, 10])
def test_min_norm_point_takes_a_zero_gradient(num_tasks: int) -> None:
    rows = gradients(num_tasks, 20, 3)
    rows[1] = 0
    direction = min_norm_point(rows @ rows.T) @ rows
    assert direction.norm() <= 1e-6


@pytest.mark.parametrize("num_tasks", [1, 2, 8, 9, 12])
def test_min_norm_point_of_zeros_is_on_the_simplex(num_tasks: int) -> None:
    weights = min_norm_point(torch.zeros(num_tasks, num_tasks))
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_tasks", [9, 10, 16, 32])
def test_min_norm_point_of_many_tasks(num_tasks: int, seed: int) -> None:
    assert_optimal(gradients(num_tasks, 40, seed))


def test_many_tasks_agree_with_few() -> None:
    """Repeated gradients exceed the limit of the enumeration, and do not change the direction."""
    rows = gradients(5, 20, 7)
    direction = min_norm_point(rows @ rows.T) @ rows
    repeated = rows.repeat(2, 1)
    torch.testing.assert_close(min_norm_point(repeated @ repeated.T) @ repeated, direction, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-250, 1e-14, 1e-8, 1e10])
@pytest.mark.parametrize("num_tasks", [2, 4, 8, 10])
def test_min_norm_point_is_invariant_to_a_common_scale(num_tasks: int, scale: float) -> None:
    rows = gradients(num_tasks, 30, 4)
    gramian = rows @ rows.T
    torch.testing.assert_close(min_norm_point(scale * gramian), min_norm_point(gramian), rtol=0, atol=1e-9)


def test_min_norm_point_takes_a_float32_gramian() -> None:
    rows = gradients(3, 20, 5)
    gramian = rows @ rows.T
    weights = min_norm_point(gramian.float())
    assert weights.dtype == torch.float64
    torch.testing.assert_close(weights, min_norm_point(gramian), rtol=0, atol=1e-5)


def test_minus_infinity_leaves_an_entry_out() -> None:
    vector = torch.tensor([0.3, -torch.inf, 0.9, 0.5], dtype=torch.float64)
    kept = [0, 2, 3]
    actual = project_to_simplex(vector)
    assert actual[1] == 0
    assert torch.equal(actual[kept], project_to_simplex(vector[kept]))
