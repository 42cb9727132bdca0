"""PE-LTR against non-negative least squares on explicit vectors."""

from typing import Any

import numpy as np
import pytest

from dlrm_mtl.balancing import create_balancer
from tests.balancing.methods.cases import CASES, TASKS, fresh, gradients
from tests.balancing.methods.simplex_reference import assert_as_short
from tests.messages import naming


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_reference(num_tasks: int, case: str) -> None:
    """With w = c + (1 - sum of c) y, V w is the combination by y of vectors that are moved by V c."""
    rows = gradients(case, num_tasks)
    for floors in (np.full(num_tasks, 0.2 / num_tasks), np.linspace(0, 1.2, num_tasks) / num_tasks):
        weights = fresh("pe_ltr", rows, floors=floors.tolist())
        assert (weights >= floors - 1e-15).all()
        rest = 1 - floors.sum()
        assert_as_short(np.maximum(weights - floors, 0) / rest, rest * rows + floors @ rows)


def test_without_floors_it_is_mgda() -> None:
    rows = gradients("conflicting", 5)
    np.testing.assert_allclose(fresh("pe_ltr", rows, floors=[0.0] * 5), fresh("mgda", rows), rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_tasks", TASKS)
def test_a_fifth_of_the_mean_by_default(num_tasks: int) -> None:
    rows = gradients("scaled", num_tasks)
    np.testing.assert_allclose(fresh("pe_ltr", rows)[0], 0.2 / num_tasks, rtol=1e-12)


def test_the_floor_of_a_silent_task_goes_to_the_others() -> None:
    rows = gradients("generic", 3)
    rows[0] = 0
    actual = fresh("pe_ltr", rows, floors=[0.2, 0.3, 0.1])
    np.testing.assert_allclose(actual[1:], fresh("pe_ltr", rows[1:], floors=[0.45, 0.15]), rtol=0, atol=1e-12)
    assert actual[0] == 0


def test_floors_by_name() -> None:
    rows = gradients("conflicting", 2)
    named = fresh("pe_ltr", rows, task_names=["b", "a"], floors={"a": 0.2, "gone": 0.9, "b": 0.6})
    np.testing.assert_array_equal(named, fresh("pe_ltr", rows, floors=[0.6, 0.2]))


@pytest.mark.parametrize("floors", [[0.5], [-0.1, 0.5], [0.5, 0.5], {"task0": 0.1}])
def test_floors_out_of_range(floors: Any) -> None:
    with pytest.raises(ValueError, match=naming("floors")):
        create_balancer("pe_ltr", 2, floors=floors)
