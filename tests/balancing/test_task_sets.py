"""A checkpoint of tasks a, b, c loaded with one more task, one less, or in another order: every method."""

import pytest
import torch

from dlrm_mtl.balancing import Balancer, create_balancer
from dlrm_mtl.balancing.layer import Reduction
from tests.balancing.methods.test_invariants import Method, method_id
from tests.balancing.resuming import ALL_METHODS, assert_same, make_layer, stored, take_step, take_steps
from tests.messages import naming

STEPS = 6
SIMPLEX = ("multibalance", "mgda", "sdmgrad", "moco", "nash_mtl", "pe_ltr", "uncertainty+multibalance")
"""Methods whose task weights are non-negative and sum to 1 after every step."""
SIGNED = ("imtl_g", "config", "gradcraft", "imtl_l+imtl_g", "torchjd:IMTLG")
"""Methods whose weights may be negative."""
AVERAGES = (".weighting_", "delayed_", "pending_")
"""State that starts anew for all tasks if a task is new."""

every = pytest.mark.parametrize("method", ALL_METHODS, ids=method_id)
reductions = pytest.mark.parametrize("reduction", ["exact", "delayed"])


@reductions
@pytest.mark.parametrize("names", ["bcd", "ab", "db", "abcd", "xyz"])
@every
def test_kept_tasks_keep_their_state(method: Method, names: str, reduction: Reduction) -> None:
    if method[0] == "torchjd:Krum" and len(names) < 3:
        pytest.skip("Krum needs three tasks")
    source, target = make_layer(method, reduction), make_layer(method, reduction, names)
    take_steps(source, 0, STEPS)
    old, fresh = stored(source), stored(target)
    result = target.load_state_dict(old, strict=False)
    new = stored(target)

    kept = (old.keys() & new.keys()) - set(result.unexpected_keys)
    assert {"balancer.step", "balancer.nonfinite_steps"} <= kept
    assert_same({key: new[key] for key in kept}, {key: old[key] for key in kept})
    for key in new.keys() - kept:  # the method's prior, in the width that is now known
        assert_same(new[key], fresh[key] if fresh[key].shape == new[key].shape else torch.zeros_like(new[key]))
    assert old.keys() - new.keys() <= set(result.unexpected_keys)
    assert new.keys() - old.keys() <= set(result.missing_keys)
    dropped = (old.keys() & new.keys()) - kept
    assert all(any(part in key for part in AVERAGES) for key in dropped)
    if set(names) <= set("abc"):
        assert result.missing_keys == []
        assert not dropped

    period = method[1].get("every", 1)
    for index in range(STEPS, STEPS + 4):
        assert take_step(target, index).isfinite().all()
        assert target.record is not None
        weights = target.record.task_weights
        assert weights.isfinite().all()
        assert method[0] in SIGNED or (weights >= -1e-12).all()
        if method[0] in SIMPLEX and (reduction == "exact" or index >= STEPS + period):
            assert weights.sum().item() == pytest.approx(1)
    measured = sum(index % period == 0 for index in range(STEPS, STEPS + 4))
    # Delayed, a step more was under way; it is lost where a task is new.
    lost = reduction == "delayed" and target.balancer.measures != "nothing" and not set(names) <= set("abc")
    assert _measured_steps(target.balancer) - _measured_steps(source.balancer) == measured - lost


def _measured_steps(balancer: Balancer) -> int:
    return int(balancer.step + balancer.nonfinite_steps)


@reductions
@every
def test_strict_loading_refuses_another_task_set(method: Method, reduction: Reduction) -> None:
    source = make_layer(method, reduction)
    take_steps(source, 0, STEPS)
    by_task = [key for key in source.state_dict() if key.endswith((".a", "_a", "/a"))]
    for names in ("abcd", "ab", "xyz"):
        if method[0] == "torchjd:Krum" and len(names) < 3:
            continue
        target = make_layer(method, reduction, names)
        if by_task:
            with pytest.raises(RuntimeError, match="key"):
                target.load_state_dict(source.state_dict())
        else:
            target.load_state_dict(source.state_dict())


@reductions
@every
def test_another_order_of_the_tasks_is_the_same_state(method: Method, reduction: Reduction) -> None:
    source, target = make_layer(method, reduction), make_layer(method, reduction, "cab")
    take_steps(source, 0, STEPS)
    target.load_state_dict(source.state_dict())
    assert_same(stored(target), stored(source))


@pytest.mark.parametrize("name", ["multibalance", "moco", "sdmgrad", "cagrad"])
def test_all_weight_on_a_removed_task(name: str) -> None:
    source, target = create_balancer(name, 3, task_names="abc"), create_balancer(name, 2, task_names="ab")
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    source.combine(rows)
    state = source.state_dict()
    for task, weight in (("a", 0.0), ("b", 0.0), ("c", 1.0)):
        state[f"weights.{task}"].fill_(weight)
    target.load_state_dict(state, strict=False)
    assert target.task_weights().tolist() == [0, 0]
    combined = target.combine(rows[:2])
    assert combined.isfinite().all()
    assert combined.any()
    assert (target.task_weights() >= 0).all()
    assert target.task_weights().sum().item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["multibalance", "moco", "sdmgrad"])
def test_weights_that_sum_to_more_than_one(name: str) -> None:
    """Common tasks have all the weight, and a new one has its prior in addition."""
    source, target = create_balancer(name, 2, task_names="ab"), create_balancer(name, 3, task_names="abc")
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    source.combine(rows[:2])
    target.load_state_dict(source.state_dict(), strict=False)
    assert target.task_weights().sum().item() == pytest.approx(4 / 3)
    target.combine(rows)
    assert (target.task_weights() >= 0).all()
    assert target.task_weights().sum().item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["uncertainty", "imtl_l"])
def test_learned_weights_are_parameters_by_task(name: str) -> None:
    balancer = create_balancer(name, 2, task_names=["keys", "buy it"])
    parameters = dict(balancer.named_parameters())
    assert set(parameters) == {"loss_weighting.scalars.task_keys", "loss_weighting.scalars.task_buy it"}
    assert all(parameter.dim() == 0 for parameter in parameters.values())
    with pytest.raises(ValueError, match=naming("'a.b'", "'.'")):
        create_balancer(name, 2, task_names=["a", "a.b"])


def test_a_stored_row_of_another_width_is_an_error() -> None:
    source, target = create_balancer("moco", 2), create_balancer("moco", 2)
    source.combine(torch.ones(2, 8))
    target.combine(torch.ones(2, 5))
    with pytest.raises(RuntimeError, match=naming("averages.task0", "(8,)", "(5,)")):
        target.load_state_dict(source.state_dict())


def test_a_stored_value_of_another_shape_is_an_error() -> None:
    target = create_balancer("multibalance", 2)
    state = {**target.state_dict(), "weights.task1": torch.zeros(3)}
    with pytest.raises(RuntimeError, match=naming("weights.task1", "(3,)", "()")):
        target.load_state_dict(state)


def test_a_checkpoint_from_before_the_first_step_starts_averages_afresh() -> None:
    state, target = create_balancer("moco", 2).state_dict(), create_balancer("moco", 2)
    target.combine(torch.ones(2, 8))
    target.load_state_dict(state)
    assert target.get_buffer("averages").shape == (2, 0)
