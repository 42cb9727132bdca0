"""A run that is cut in two and resumed is the run without a cut, bit for bit: every method, every reduction."""

from typing import Any

import pytest
import torch

from dlrm_mtl.balancing import BalancingLayer, ParameterLevelLayer, create_balancer
from dlrm_mtl.balancing.layer import Reduction
from dlrm_mtl.distributed.processes import Ranks
from tests.balancing.backward import record_of
from tests.balancing.methods.test_invariants import BY_COEFFICIENTS, Method, method_id
from tests.balancing.resuming import (
    ALL_METHODS,
    BROKEN,
    REDUCTIONS,
    TORCHJD_METHODS,
    assert_same,
    make_layer,
    stored,
    take_step,
    take_steps,
)
from tests.messages import naming
from tests.ranks import RankPool

STEPS = 7
CUTS = (0, 1, *(step + 1 for step in BROKEN))
"""Before the first step, after it, and right after each step that is not finite."""


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("method", ALL_METHODS, ids=method_id)
def test_every_method_resumes_exactly(method: Method, reduction: Reduction) -> None:
    whole = make_layer(method, reduction)
    states, gradients, coefficients = [], [], []
    for index in range(STEPS):
        states.append(stored(whole))
        gradients.append(take_step(whole, index))
        coefficients.append(record_of(whole).coefficients.clone())
    for cut in CUTS:
        used = make_layer(method, reduction)
        take_steps(used, 0, 2)
        for resumed in (make_layer(method, reduction), used):
            resumed.load_state_dict(states[cut])
            assert_same(stored(resumed), states[cut])
            for index in range(cut, STEPS):
                assert_same(take_step(resumed, index), gradients[index])
                assert_same(record_of(resumed).coefficients, coefficients[index])
            assert_same(stored(resumed), stored(whole))


def resume_on_a_rank(ranks: Ranks, method: Method) -> dict[str, Any]:
    """Saves while the all-reduce is under way. Returns the state at the cut."""
    whole = make_layer(method, "delayed")
    take_steps(whole, 0, 4, ranks.rank)
    state = stored(whole)
    expected = take_steps(whole, 4, STEPS, ranks.rank)
    resumed = make_layer(method, "delayed")
    resumed.load_state_dict(state)
    assert_same(take_steps(resumed, 4, STEPS, ranks.rank), expected)
    assert_same(stored(resumed), stored(whole))
    return {key: value.numpy() for key, value in state.items()}


@pytest.mark.parametrize("method", [*BY_COEFFICIENTS, *TORCHJD_METHODS], ids=method_id)
def test_delayed_resumes_exactly_on_two_ranks(rank_pool: RankPool, method: Method) -> None:
    """And the ranks' states are one: a checkpoint keeps the first rank's."""
    first, second = rank_pool.run(2, resume_on_a_rank, method)
    assert any(key.startswith("pending_") for key in first) == make_layer(method, "delayed").balancer.depends_on_batch
    assert_same(second, first)


def test_saving_between_steps_changes_nothing() -> None:
    method = ("multibalance", {"beta": 0.3})
    saving, plain = make_layer(method, "delayed"), make_layer(method, "delayed")
    for index in range(STEPS):
        for _ in range(2):
            stored(saving)
        assert_same(take_step(saving, index), take_step(plain, index))


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        (("multibalance", {}), {"pending_statistic.a/b", "delayed_coefficients.a"}),
        (("moco", {}), {"pending_statistic.a", "delayed_coefficients.b"}),
        (("mgda", {"normalization": "loss"}), {"pending_statistic.c/b", "pending_losses.c"}),
    ],
)
def test_the_pending_step_is_stored_by_task(method: Method, keys: set[str]) -> None:
    layer = make_layer(method, "delayed")
    starts = ("pending_", "delayed_")
    assert not any(key.startswith(starts) for key in layer.state_dict())
    take_step(layer, 0)
    assert keys <= layer.state_dict().keys()
    exact = make_layer(method, "exact")
    take_step(exact, 0)
    assert not any(key.startswith(starts) for key in exact.state_dict())


def test_a_layer_that_is_not_delayed_reports_a_pending_step() -> None:
    source, target = make_layer(("mgda", {}), "delayed"), make_layer(("mgda", {}), "exact")
    take_step(source, 0)
    with pytest.raises(RuntimeError, match="pending_statistic"):
        target.load_state_dict(source.state_dict())


def test_loading_another_module_keeps_the_pending_step() -> None:
    layer, twin = make_layer(("mgda", {}), "delayed"), make_layer(("mgda", {}), "delayed")
    for each in (layer, twin):
        take_step(each, 0)
    model = torch.nn.ModuleDict({"layer": layer, "head": torch.nn.Linear(1, 1)})
    model.load_state_dict({f"head.{key}": value for key, value in model["head"].state_dict().items()}, strict=False)
    assert_same(take_step(layer, 1), take_step(twin, 1))


def test_graddrop_resumes_exactly_at_the_level_of_parameters() -> None:
    """Where it is asked several times in a step."""

    def make() -> tuple[ParameterLevelLayer, torch.nn.Linear]:
        layer, below = ParameterLevelLayer(create_balancer("graddrop", 3)), torch.nn.Linear(2, 4, bias=False)
        torch.nn.init.ones_(below.weight)
        layer.bind(list(below.parameters()))
        return layer, below

    def step(layer: ParameterLevelLayer, below: torch.nn.Linear) -> torch.Tensor:
        below.zero_grad()
        views = layer(below(torch.ones(6, 2)))
        layer.weigh_losses(torch.stack([(view * (m - 1.0)).sum() for m, view in enumerate(views)])).sum().backward()
        assert below.weight.grad is not None
        return below.weight.grad

    layer, below = make()
    step(layer, below)
    resumed, below_resumed = make()
    resumed.load_state_dict(layer.state_dict())
    for _ in range(5):
        assert_same(step(resumed, below_resumed), step(layer, below))


def test_task_names_with_equal_pair_names() -> None:
    names = ["a", "b/a", "a/b"]
    with pytest.raises(ValueError, match=naming("FIRST/SECOND")):
        BalancingLayer(create_balancer("mgda", 3, task_names=names), reduction="delayed")
    with pytest.raises(ValueError, match=naming("FIRST/SECOND")):
        create_balancer("gradvac", 3, task_names=names)
    make_layer(("mgda", {}), "exact", names)
