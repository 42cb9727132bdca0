"""Properties of every method, or of a class of methods."""

import zlib
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mtl.balancing import Balancer, create_balancer
from dlrm_mtl.balancing.methods.create import METHODS
from tests.balancing.methods.cases import CASES, TASKS, WIDTH, coefficients, gradients, quick, sequence
from tests.balancing.reference import Array

Method = tuple[str, dict[str, Any]]


def method_id(method: Method) -> str:
    return " ".join([method[0], *(f"{key}={value}" for key, value in method[1].items())])


OTHERS = ("mean", "sum", "static", "multibalance", "multibalance_recommended")
"""Without invariants of their own, or, by their moving averages, with those of a whole sequence of steps."""

OPTIONS: list[Method] = [
    ("mgda", {"normalization": "l2"}),
    ("mgda", {"normalization": "loss"}),
    ("mgda", {"normalization": "loss+"}),
    ("db_mtl", {"target": "min"}),
    ("db_mtl", {"target": "median", "log_losses": True}),
    ("db_mtl", {"target": "mean", "average": 0.5}),
    ("gradvac", {"beta": 0.5}),
    ("cagrad", {"c": 0.9}),
    ("gradcraft", {"relax": 1.0, "margin": 0.1}),
    ("dwa", {"window": 2}),
]
# Those of the balancing contract, on the gradients alone.
GRADIENT_METHODS: list[Method] = [
    *((name, {}) for name in METHODS if name not in OTHERS),
    *OPTIONS,
]
BY_COEFFICIENTS = [method for method in GRADIENT_METHODS if method[0] != "graddrop"]
ORDERED = ("pcgrad", "gradvac")
TO_THE_FIRST = ("metabalance", "mtadam")
"""The first task's norm is the others' target."""
# Tasks without a gradient do not take part; the others' weights are those of the remaining tasks.
LEAVES_OUT = ("mgda", "sdmgrad", "moco", "imtl_g", "nash_mtl", "pe_ltr", "dwa", "famo", "stch")
# The mean over all M tasks: with k silent tasks, (M - k) / M times those of the remaining tasks.
MEAN_OF_ALL = ("db_mtl", "cagrad", "config", "gradcraft", *TO_THE_FIRST)

every = pytest.mark.parametrize("method", GRADIENT_METHODS, ids=method_id)
by_coefficients = pytest.mark.parametrize("method", BY_COEFFICIENTS, ids=method_id)


def create(method: Method, num_tasks: int, **more: Any) -> Balancer:
    return create_balancer(method[0], num_tasks, **method[1], **more)


def losses_of(num_tasks: int, step: int = 0) -> Array:
    """They fall at different rates."""
    losses: Array = np.linspace(0.3, 2.0, num_tasks) / (1 + step) ** np.geomspace(0.5, 1.5, num_tasks)
    return losses


def steps(balancer: Balancer, given: list[Array], losses: list[Array] | None = None) -> list[Array]:
    """Coefficients of every step."""
    known = [losses_of(len(rows), step) for step, rows in enumerate(given)] if losses is None else losses
    return [coefficients(balancer, rows, loss) for rows, loss in zip(given, known, strict=True)]


def combined(balancer: Balancer, rows: Array, step: int = 0) -> Array:
    actual: Array = balancer.combine(torch.from_numpy(rows), torch.from_numpy(losses_of(len(rows), step))).numpy()
    return actual


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_one_task_is_left_alone(method: Method, dtype: torch.dtype) -> None:
    balancer = create(method, 1)
    for seed in range(3):
        rows = torch.from_numpy(gradients("generic", 2, seed)[:1]).to(dtype)
        actual = balancer.combine(rows, torch.ones(1))
        torch.testing.assert_close(actual, rows[0], rtol=1e-9 if dtype == torch.float64 else 1e-2, atol=0)
        assert actual.dtype == dtype


@every
@pytest.mark.parametrize("num_tasks", TASKS)
def test_equal_gradients_give_their_mean(method: Method, num_tasks: int) -> None:
    """Of equal losses too: methods that divide by losses weigh gradients of other losses differently."""
    balancer = create(method, num_tasks)
    for seed in range(5):
        row = gradients("generic", 2, seed)[0] * 10.0 ** (seed - 3)
        actual = balancer.combine(torch.from_numpy(np.tile(row, (num_tasks, 1))), torch.ones(num_tasks))
        np.testing.assert_allclose(actual.numpy(), row, rtol=1e-9)


@by_coefficients
@quick
@given(st.sampled_from(TASKS), st.integers(0, 100), st.randoms(use_true_random=False))
def test_permutation_of_tasks(method: Method, num_tasks: int, seed: int, random: Any) -> None:
    """Permuted gradients have permuted coefficients, step after step; where the method takes tasks in an order, for two
    tasks, that have just one; where the first task is special, it stays the first."""
    num_tasks = 2 if method[0] in ORDERED else num_tasks
    order = list(range(num_tasks))
    random.shuffle(order)
    if method[0] in TO_THE_FIRST:
        order = [0, *(m for m in order if m)]
    given = [rows * (1 + seed) + gradients("generic", num_tasks, seed) for rows in sequence(num_tasks)[:4]]
    losses = [losses_of(num_tasks, step) for step in range(4)]
    plain = steps(create(method, num_tasks), given, losses)
    permuted = steps(create(method, num_tasks), [rows[order] for rows in given], [loss[order] for loss in losses])
    for first, second in zip(plain, permuted, strict=True):
        np.testing.assert_allclose(second, first[order], rtol=1e-7, atol=1e-9)


@by_coefficients
@quick
@given(st.sampled_from(TASKS), st.sampled_from(CASES), st.integers(-6, 6))
def test_common_scale(method: Method, num_tasks: int, case: str, exponent: int) -> None:
    """A common factor of all gradients, a power of two so that rounding is the same, changes no coefficient."""
    given = [gradients(case, num_tasks, seed) for seed in range(3)]
    plain = steps(create(method, num_tasks), given)
    scaled = steps(create(method, num_tasks), [16.0**exponent * rows for rows in given])
    # The ridges' absolute parts and LAPACK's pivots leave a little.
    for first, second in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-6, atol=1e-9)


@by_coefficients
@pytest.mark.parametrize("silent", [(0,), (2,), (1, 3), (0, 1, 2)])
def test_silent_tasks(method: Method, silent: tuple[int, ...]) -> None:
    """They add nothing; for methods that leave them out, the weights of the others are as without them."""
    num_tasks, name = 5, method[0]
    others = [m for m in range(num_tasks) if m not in silent]
    given, losses = sequence(num_tasks), [losses_of(num_tasks, step) for step in range(10)]
    given = [rows - 0.5 * rows.mean(axis=0) for rows in given]
    for rows in given:
        rows[list(silent)] = 0
    actual = steps(create(method, num_tasks), given, losses)
    alone = steps(create(method, len(others)), [rows[others] for rows in given], [loss[others] for loss in losses])
    for whole, rest in zip(actual, alone, strict=True):
        assert np.isfinite(whole).all()
        if name in LEAVES_OUT:
            np.testing.assert_allclose(whole[others], rest, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(whole[list(silent)], 0, atol=1e-12)
        if name in MEAN_OF_ALL:
            np.testing.assert_allclose(whole[others] * num_tasks / len(others), rest, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ORDERED)
@pytest.mark.parametrize("silent", range(3))
def test_a_silent_third_task_leaves_two_alone(name: str, silent: int) -> None:
    """With two tasks there is only one order."""
    others = [m for m in range(3) if m != silent]
    given = [rows - 0.9 * rows.mean(axis=0) for rows in sequence(3)]
    for rows in given:
        rows[silent] = 0
    actual = steps(create((name, {}), 3), given)
    alone = steps(create((name, {}), 2), [rows[others] for rows in given])
    for whole, rest in zip(actual, alone, strict=True):
        np.testing.assert_allclose(whole[others] * 3 / 2, rest, rtol=1e-9)


@every
def test_all_tasks_silent(method: Method) -> None:
    balancer = create(method, 3)
    for _ in range(3):
        assert (combined(balancer, np.zeros((3, WIDTH))) == 0).all()
        assert balancer.task_weights().isfinite().all()
    assert np.isfinite(combined(balancer, gradients("generic", 3))).all()
    assert balancer.nonfinite_steps.item() == 0


@every
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 3])
def test_a_step_that_is_not_finite(method: Method, bad: float, at: int) -> None:
    """The state stays as it was; the step is counted and passed on."""
    balancer, twin = create(method, 3), create(method, 3)
    for step, rows in enumerate(sequence(3)):
        if step == at:
            before = {key: value.clone() for key, value in balancer.state_dict().items()}
            broken = rows.copy()
            broken[1, 2] = bad
            assert not np.isfinite(combined(balancer, broken)).all()
            after = balancer.state_dict()
            changed = {key for key in before if not _same(before[key], after[key])}
            assert changed == {"nonfinite_steps"}
            if method[0] == "graddrop":  # it goes on drawing
                combined(twin, rows)
        np.testing.assert_array_equal(combined(balancer, rows, step), combined(twin, rows, step))


def _same(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Equal, or both zero: a buffer of gradients may have got its width."""
    return torch.equal(before, after) if before.shape == after.shape else not (before.any() or after.any())


@by_coefficients
def test_a_loss_that_is_not_finite(method: Method) -> None:
    balancer = create(method, 3)
    if not balancer.needs_losses:
        pytest.skip("losses play no part")
    rows = gradients("generic", 3)
    coefficients(balancer, rows, losses_of(3))
    before = balancer.task_weights().clone()
    coefficients(balancer, rows, np.array([1.0, float("nan"), 1.0]))
    assert torch.equal(balancer.task_weights(), before)
    assert balancer.nonfinite_steps.item() == 1


@every
@pytest.mark.parametrize("stepped", [False, True])
def test_into_another_task_set(method: Method, stepped: bool) -> None:
    """Common tasks keep their state in any order; a new one starts as in a new balancer."""
    source = create(method, 3, task_names=["click", "like", "share"])
    for step, rows in enumerate(sequence(3)[:5]):
        combined(source, rows, step)
    target = create(method, 4, task_names=["follow", "share", "click", "hide"])
    if stepped:
        combined(target, sequence(4)[0])
    fresh = {key: value.clone() for key, value in target.state_dict().items()}
    result = target.load_state_dict(source.state_dict(), strict=False)
    old, new = source.state_dict(), target.state_dict()
    for key, value in new.items():
        if key in old:
            assert torch.equal(value, old[key]), key
        elif fresh[key].shape == value.shape:
            assert torch.equal(value, fresh[key]), key
        else:
            assert not value.any(), key
    assert {key for key in new if key not in old} == set(result.missing_keys)
    assert all("like" in key for key in result.unexpected_keys)
    assert np.isfinite(combined(target, sequence(4)[5])).all()
    assert target.step.item() == 6


@by_coefficients
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(method: Method, dtype: torch.dtype) -> None:
    """Close to float64, and in the gradients' dtype; beside gradients that are nearly parallel."""
    rows = torch.from_numpy(gradients("generic", 3)).to(dtype)
    losses = torch.from_numpy(losses_of(3))
    balancer, exact = create(method, 3), create(method, 3)
    actual, expected = balancer.combine(rows, losses), exact.combine(rows.double(), losses)
    assert actual.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)


@by_coefficients
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", [2, 8])
def test_float32_gramians_stay_finite(method: Method, num_tasks: int, case: str) -> None:
    """Rounded to float32, a Gramian is no longer positive semi-definite; no weight may explode."""
    rows = gradients(case, num_tasks)
    balancer = create(method, num_tasks)
    for _ in range(3):
        actual = balancer.combine(torch.from_numpy(rows).float(), torch.ones(num_tasks)).numpy()
        assert np.isfinite(actual).all()
        assert np.linalg.norm(actual) <= 20 * num_tasks * np.linalg.norm(rows, axis=1).max()


@by_coefficients
@pytest.mark.parametrize("num_tasks", [9, 16])
def test_more_than_eight_tasks(method: Method, num_tasks: int) -> None:
    if method[0] == "cagrad":
        pytest.skip("refused beyond 8 tasks")
    random = np.random.default_rng(zlib.crc32(method_id(method).encode()))
    rows = random.standard_normal((num_tasks, 40))
    actual = coefficients(create(method, num_tasks), rows, losses_of(num_tasks))
    assert np.isfinite(actual).all()
    assert actual @ rows @ (actual @ rows) > 0
