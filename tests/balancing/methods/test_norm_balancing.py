"""MetaBalance, and the norm balancing of MTAdam, on explicit vectors."""

from typing import Any

import numpy as np
import pytest

from dlrm_mtl.balancing import create_balancer
from tests.balancing.methods.cases import CASES, TASKS, coefficients, fresh, gradients, sequence
from tests.messages import naming


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_tasks", TASKS)
def test_first_step(num_tasks: int, case: str) -> None:
    rows = gradients(case, num_tasks)
    norms = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(fresh("mtadam", rows), norms[0] / norms / num_tasks, rtol=1e-12)
    np.testing.assert_allclose(fresh("metabalance", rows), (0.7 * norms[0] / norms + 0.3) / num_tasks, rtol=1e-12)


@pytest.mark.parametrize("num_tasks", TASKS)
def test_ten_steps(num_tasks: int) -> None:
    """MetaBalance's averages start at 0, MTAdam's at the first norm."""
    metabalance = create_balancer("metabalance", num_tasks, relax=0.4, average=0.8)
    mtadam = create_balancer("mtadam", num_tasks, average=0.8)
    from_zero, from_first = np.zeros(num_tasks), np.zeros(num_tasks)
    for step, rows in enumerate(sequence(num_tasks)):
        norms = np.linalg.norm(rows, axis=1)
        from_zero = 0.8 * from_zero + 0.2 * norms
        from_first = 0.8 * from_first + 0.2 * norms if step else norms
        expected = (0.4 * from_zero[0] / from_zero + 0.6) / num_tasks
        np.testing.assert_allclose(coefficients(metabalance, rows), expected, rtol=1e-10)
        np.testing.assert_allclose(coefficients(mtadam, rows), from_first[0] / from_first / num_tasks, rtol=1e-10)


@pytest.mark.parametrize("name", ["metabalance", "mtadam"])
def test_a_silent_first_task_stays_the_target(name: str) -> None:
    """Once it has had a gradient; before, it is the next task that has had one."""
    balancer = create_balancer(name, 3)
    rows = gradients("generic", 3) * np.array([[100.0], [1.0], [1.0]])
    silent = rows.copy()
    silent[0] = 0
    before = coefficients(balancer, silent)
    assert before[1] == pytest.approx(1 / 3)
    coefficients(balancer, rows)
    assert coefficients(balancer, silent)[1] > 10


@pytest.mark.parametrize(
    ("name", "option"),
    [("metabalance", {"relax": -0.1}), ("metabalance", {"average": 1.0}), ("mtadam", {"average": 1})],
)
def test_options_out_of_range(name: str, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=naming(next(iter(option)))):
        create_balancer(name, 2, **option)
