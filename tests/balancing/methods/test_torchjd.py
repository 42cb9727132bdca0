"""TorchJD's weightings by name, against calling them directly on a Gramian of ordinary size."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
import torchjd.aggregation
from torch import Tensor

from dlrm_mtl.balancing import create_balancer
from dlrm_mtl.balancing.methods.torchjd import torchjd_weightings
from tests.balancing.methods.cases import TASKS, fresh, gradients
from tests.messages import naming

OPTIONS: dict[str, dict[str, Any]] = {"CAGrad": {"c": 0.4}, "Krum": {"n_byzantine": 0}}
NEEDS = {"CAGrad": "cvxpy"}
NAMES = [name for name in torchjd_weightings() if find_spec(NEEDS.get(name, "torch"))]
STATEFUL = ("GradVac", "PCD")


def direct(name: str, gramian: Tensor) -> Tensor:
    """The weighting itself, on the Gramian divided by the mean of its diagonal, with the orders of step 0."""
    torch.manual_seed(0)
    weighting = getattr(torchjd.aggregation, f"{name}Weighting")(
        **{"FairGrad": {"alpha": 1.0}, **OPTIONS}.get(name, {})
    )
    weights: Tensor = weighting(gramian / (gramian.diagonal().sum() / len(gramian)))
    return weights


def test_names() -> None:
    assert {"UPGrad", "DualProj", "AlignedMTL", "MGDA", "CAGrad", "FairGrad", "PCGrad"} <= set(torchjd_weightings())
    assert {"UPGrad", "DualProj", "AlignedMTL", "FairGrad"} <= set(NAMES)


@pytest.mark.parametrize("case", ["generic", "conflicting", "tiny", "scaled"])
@pytest.mark.parametrize("num_tasks", TASKS)
@pytest.mark.parametrize("name", NAMES)
def test_reference(name: str, num_tasks: int, case: str) -> None:
    if name == "Krum" and num_tasks < 3:
        pytest.skip("Krum needs three tasks")
    rows = gradients(case, num_tasks)
    gramian = torch.from_numpy(rows @ rows.T)
    actual = create_balancer(f"torchjd:{name}", num_tasks, **OPTIONS.get(name, {})).update(gramian)
    torch.testing.assert_close(actual, direct(name, gramian), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_tiny_gradients_are_weighed_like_large_ones(name: str) -> None:
    rows = gradients("conflicting", 5)
    options = OPTIONS.get(name, {})
    expected = fresh(f"torchjd:{name}", rows, **options)
    for scale in (1e-6, 1e5):
        np.testing.assert_allclose(fresh(f"torchjd:{name}", scale * rows, **options), expected, rtol=1e-6, atol=1e-9)


def test_unnormalised_tiny_gradients_would_not() -> None:
    """So the Gramian is normalised."""
    rows = torch.from_numpy(1e-4 * gradients("conflicting", 5))
    weighting = torchjd.aggregation.UPGradWeighting()
    assert not torch.allclose(weighting(rows @ rows.T), direct("UPGrad", rows @ rows.T), rtol=0.1)


@pytest.mark.parametrize("name", ["UPGrad", "DualProj"])
@pytest.mark.parametrize("num_tasks", TASKS)
def test_no_task_is_hurt(name: str, num_tasks: int) -> None:
    rows = gradients("conflicting", num_tasks)
    direction = fresh(f"torchjd:{name}", rows) @ rows
    assert (rows @ direction >= -1e-2 * np.linalg.norm(direction) * np.linalg.norm(rows, axis=1)).all()


@pytest.mark.parametrize("name", ["UPGrad", "DualProj", "PCGrad", "FairGrad"])
def test_a_silent_task_leaves_the_others_alone(name: str) -> None:
    rows = gradients("conflicting", 4)
    rows[2] = 0
    others = [0, 1, 3]
    actual = fresh(f"torchjd:{name}", rows, **OPTIONS.get(name, {}))
    assert np.isfinite(actual).all()
    kept, alone = actual[others] @ rows[others], fresh(f"torchjd:{name}", rows[others], **OPTIONS.get(name, {}))
    direction = alone @ rows[others]
    np.testing.assert_allclose(
        kept / np.linalg.norm(kept), direction / np.linalg.norm(direction), rtol=0, atol=1e-3 if name != "PCGrad" else 1
    )


@pytest.mark.parametrize("name", ["UPGrad", "MGDA", "IMTLG", "FairGrad"])
def test_a_silent_task_is_shown_as_orthogonal(name: str) -> None:
    gramian = torch.diag(torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64))
    gramian[0, 2] = gramian[2, 0] = -1
    shown = gramian.clone()
    shown[1, 1] = 2  # the mean of the others
    options = OPTIONS.get(name, {})
    actual = create_balancer(f"torchjd:{name}", 3, **options).update(gramian)
    torch.testing.assert_close(actual, direct(name, shown), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_is_not_finite_changes_nothing(name: str) -> None:
    rows = gradients("conflicting", 4)
    options = OPTIONS.get(name, {})
    balancer, twin = (create_balancer(f"torchjd:{name}", 4, **options) for _ in range(2))
    gramian = torch.from_numpy(rows @ rows.T)
    for each in (balancer, twin):
        each.update(gramian)
    bad = gramian.clone()
    bad[1] = float("nan")
    assert balancer.update(bad).isfinite().all()
    assert balancer.nonfinite_steps.item() == 1
    assert torch.equal(balancer.update(gramian), twin.update(gramian))


@pytest.mark.parametrize("name", ["PCGrad", "GradVac"])
def test_random_orders_are_the_steps(name: str) -> None:
    """They neither depend on the global generator nor advance it."""
    gramian = torch.from_numpy(gradients("conflicting", 8) @ gradients("conflicting", 8).T)
    actual = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        balancer = create_balancer(f"torchjd:{name}", 8)
        actual.append([balancer.update(gramian) for _ in range(3)])
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first, second) for first, second in zip(*actual, strict=True))
    assert not torch.equal(actual[0][0], actual[0][1])


@pytest.mark.parametrize(("name", "kept"), [("GradVac", "weighting_phi_t.c/b"), ("PCD", "weighting_sq_norm_ema.b")])
def test_moving_averages_start_afresh_where_a_task_is_new(name: str, kept: str) -> None:
    rows = torch.from_numpy(gradients("conflicting", 4))
    source = create_balancer(f"torchjd:{name}", 3, task_names="abc")
    for _ in range(3):
        source.update(rows[:3] @ rows[:3].T)
    assert source.state_dict()[kept].item() != 0
    fewer, other = (
        create_balancer(f"torchjd:{name}", 2, task_names="bc"),
        create_balancer(f"torchjd:{name}", 3, task_names="bcd"),
    )
    result = fewer.load_state_dict(source.state_dict(), strict=False)
    assert torch.equal(fewer.state_dict()[kept], source.state_dict()[kept])
    assert not result.missing_keys
    result = other.load_state_dict(source.state_dict(), strict=False)
    assert kept in result.unexpected_keys
    averages = {key: value for key, value in other.state_dict().items() if key.startswith("weighting_")}
    assert not any(value.any() for value in averages.values())


@pytest.mark.parametrize("name", STATEFUL)
def test_moving_averages_decide_weights(name: str) -> None:
    """A resumed run needs the averages."""
    first, second = (torch.from_numpy(gradients("conflicting", 3, seed)) for seed in (1, 2))
    source, target = (create_balancer(f"torchjd:{name}", 3) for _ in range(2))
    source.update(first @ first.T)
    kept = {key: value for key, value in source.state_dict().items() if not key.startswith("weighting_")}
    target.load_state_dict(kept, strict=False)
    assert not torch.equal(target.update(second @ second.T), source.update(second @ second.T))


def test_vectors_are_given_as_lists() -> None:
    rows = gradients("conflicting", 3)
    actual = fresh("torchjd:UPGrad", rows, pref_vector=[0.7, 0.2, 0.1])
    weighting = torchjd.aggregation.UPGradWeighting(torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64))
    gramian = torch.from_numpy(rows @ rows.T)
    np.testing.assert_allclose(actual, weighting(gramian / gramian.diagonal().mean()).numpy(), rtol=1e-9)


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match=naming("UpGrad")) as error:
        create_balancer("torchjd:UpGrad", 2)
    assert all(name in str(error.value) for name in torchjd_weightings())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("CAGrad", {}, "missing a required argument: 'c'.*norm_eps"),
        ("FairGrad", {"alfa": 1}, "alpha.*max_iters"),
        ("UPGrad", {"beta": 1}, "unexpected keyword argument 'beta'.*pref_vector.*projector"),
        ("GradVac", {"beta": 2.0}, "beta"),
    ],
)
def test_wrong_options_list_the_right_ones(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_balancer(f"torchjd:{name}", 2, **options)


@pytest.mark.skipif(find_spec("cvxpy") is not None, reason="CAGrad's solver is installed")
def test_a_missing_solver_says_what_to_install() -> None:
    with pytest.raises(ValueError, match=naming("torchjd:CAGrad", "pip install")):
        create_balancer("torchjd:CAGrad", 2, c=0.4)
