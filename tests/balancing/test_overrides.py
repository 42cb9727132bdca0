"""Overrides are called on every path: in a subclass, on an object, on a class."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from dlrm_mtl.balancing import Balancer, BalancingLayer, MultiBalance, available_balancers, create_balancer
from dlrm_mtl.balancing.methods.create import METHODS, method_class
from dlrm_mtl.balancing.methods.recommended import MultiBalanceRecommended
from dlrm_mtl.balancing.methods.replay import may_be_replayed
from tests.balancing.backward import backward_with
from tests.messages import naming

TASKS = 3
OWN = "docs.examples.own_method:UnitNorm"
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
NOT_OF_A_STEP = {"__init__", "__init_subclass__", "__module__", "__doc__", "__annotations__", "is_portable"}


def overridable(kind: type[Balancer]) -> list[str]:
    """Functions and properties of a class and of its bases in this package."""
    bases = [base for base in kind.__mro__ if base.__module__.startswith("dlrm_mtl.")]
    actual = {name: value for base in reversed(bases) for name, value in vars(base).items()}
    return [
        name
        for name, value in actual.items()
        if (callable(value) or isinstance(value, property)) and name not in NOT_OF_A_STEP
    ]


def recording(kind: type[Balancer], name: str, calls: list[str]) -> type[Balancer]:
    """A subclass that overrides one attribute, does the same, and notes the call."""
    inherited = getattr(kind, name)
    reads = isinstance(inherited, property)
    is_static = isinstance(vars(next(base for base in kind.__mro__ if name in vars(base)))[name], staticmethod)

    def seen(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return (inherited.fget if reads else inherited)(*args, **kwargs)

    override = property(seen) if reads else staticmethod(seen) if is_static else seen
    return type("Mine", (kind,), {name: override})


def run(layer: BalancingLayer, dtype: torch.dtype, steps: int = 3) -> list[Tensor]:
    combined = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        rows: list[Tensor | None] = list(torch.randn(TASKS, 6, 5, generator=generator).to(dtype))
        layer.weigh_losses(torch.rand(TASKS, generator=generator).to(dtype) + 0.1)
        actual = backward_with(layer, rows)
        assert actual is not None
        combined.append(actual)
    return combined


@pytest.mark.parametrize("kind", [method_class(name) for name in (*METHODS, OWN)], ids=[*METHODS, "own"])
def test_every_override_is_called_in_every_dtype(kind: type[Balancer]) -> None:
    called: dict[str, set[str]] = {str(dtype): set() for dtype in DTYPES}
    for name in overridable(kind):
        for dtype in DTYPES:
            calls: list[str] = []
            mine = recording(kind, name, calls)
            layer = BalancingLayer(mine(TASKS))
            calls.clear()
            run(layer, dtype, 1)
            called[str(dtype)] |= set(calls)
    first, *others = called.values()
    assert {"coefficients", "update", "apply_coefficients", "balanced_gradients"} <= first
    for other in others:
        assert other == first


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("_slope", lambda self, gramian, norms, rescale: torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)),
        ("_with_prior", lambda self, weights, strength: 2 * weights),
        ("_divided", lambda self, coefficients: 3 * coefficients),
        ("_beta", lambda self, statistic: 0.0),
        ("_divisor", property(lambda self: 4.0)),
    ],
)
@pytest.mark.parametrize("base", [MultiBalance, MultiBalanceRecommended])
def test_parts_of_multibalance(base: type[MultiBalance], name: str, override: Any, dtype: torch.dtype) -> None:
    layer, plain = BalancingLayer(type("Mine", (base,), {name: override})(TASKS)), BalancingLayer(base(TASKS))
    wide = BalancingLayer(type("Mine", (base,), {name: override})(TASKS))
    actual, expected, without = (
        torch.stack(run(*each)).double() for each in ((layer, dtype), (wide, torch.float64), (plain, dtype))
    )
    assert (actual - expected).norm() < 0.3 * (without - expected).norm()
    if dtype != torch.bfloat16:
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def doubled(original: Callable[..., Any]) -> Callable[..., Any]:
    def double(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        return [2 * each for each in result] if isinstance(result, list) else 2 * result

    return double


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["mean", "multibalance", "multibalance_recommended"])
def test_what_is_replaced_on_an_object(method: str, dtype: torch.dtype) -> None:
    for name in ("update", "apply_coefficients", "balanced_gradients"):
        layer, plain = (BalancingLayer(create_balancer(method, TASKS)) for _ in range(2))
        before = run(layer, dtype, 1)[0]
        torch.testing.assert_close(before, run(plain, dtype, 1)[0])
        setattr(layer.balancer, name, doubled(getattr(layer.balancer, name)))
        torch.testing.assert_close(run(layer, dtype)[-1], 2 * run(plain, dtype)[-1], rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("owner", [Balancer, MultiBalance])
def test_what_is_replaced_on_a_class(owner: type[Balancer], dtype: torch.dtype, monkeypatch: Any) -> None:
    layer, plain = BalancingLayer(MultiBalance(TASKS)), BalancingLayer(MultiBalance(TASKS))
    expected = run(plain, dtype)
    with monkeypatch.context() as patch:
        patch.setattr(owner, "update", doubled(MultiBalance.update))
        actual = run(layer, dtype)
    torch.testing.assert_close(actual[-1], 2 * expected[-1], rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_state_and_options_that_are_set_between_steps(dtype: torch.dtype) -> None:
    """State of another dtype, and a step size for each task."""
    layer, reference = BalancingLayer(MultiBalance(TASKS)), BalancingLayer(MultiBalance(TASKS))
    for each, of in ((layer, dtype), (reference, torch.float64)):
        run(each, of, 1)
        balancer = each.balancer
        balancer.weights = torch.tensor([0.5, 0.25, 0.25])  # type: ignore[assignment]
        balancer.beta = lambda step: torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)  # type: ignore[assignment]
    actual, expected = run(layer, dtype), run(reference, torch.float64)
    torch.testing.assert_close(actual[-1].double(), expected[-1], rtol=2e-2, atol=2e-2)


def test_an_own_application_of_coefficients_may_not_be_finite() -> None:
    """Norms bound only a weighted sum."""

    class Exploding(MultiBalance):
        def apply_coefficients(self, gradients: Sequence[Tensor | None], coefficients: Tensor) -> Tensor | None:
            combined = super().apply_coefficients(gradients, coefficients)
            assert combined is not None
            combined[0, 0] = torch.inf
            return combined

    for dtype in DTYPES:
        assert run(BalancingLayer(Exploding(TASKS)), dtype)[-1].isnan().all()


def test_only_classes_that_declare_it_are_portable() -> None:
    """A subclass does not inherit it."""
    for name in available_balancers():
        balancer = create_balancer(name, TASKS)
        assert balancer.is_portable == vars(type(balancer)).get("portable", False), name
        mine = type("Mine", (type(balancer),), {})(TASKS)
        assert not mine.is_portable


def test_methods_that_a_graph_must_not_replay() -> None:
    def own(step: Tensor) -> Tensor:
        return 1 / (1 + step)

    rate = 0.5
    assert may_be_replayed(MultiBalance(TASKS, own))
    assert not may_be_replayed(MultiBalance(TASKS, lambda step: step * 0 + rate))  # its rate may change
    replaced = MultiBalance(TASKS)
    replaced.coefficients = replaced.coefficients  # type: ignore[method-assign]
    assert not may_be_replayed(replaced)
    switched_off = MultiBalance(TASKS)
    switched_off.portable = False  # type: ignore[misc]
    assert not may_be_replayed(switched_off)


def test_a_graph_is_not_replayed_for_a_class_that_has_changed() -> None:
    class Derived(MultiBalance):
        portable = True

    balancer = Derived(TASKS)
    assert may_be_replayed(balancer)
    Derived._divisor = property(lambda self: 2.0)  # type: ignore[method-assign, assignment]
    assert not may_be_replayed(balancer)


@pytest.mark.parametrize(
    ("returned", "shown"),
    [
        (torch.ones(TASKS), f"Tensor of shape ({TASKS},)"),
        ((torch.ones(TASKS + 1), {}), f"tuple of shape ({TASKS + 1},)"),
        (None, "NoneType"),
    ],
)
def test_coefficients_that_are_not_what_was_expected(returned: Any, shown: str) -> None:
    method = type("Mine", (Balancer,), {"coefficients": lambda self, statistic, losses: returned})(TASKS)
    with pytest.raises(ValueError, match=naming("Mine", shown)):
        method.combine(torch.ones(TASKS, 2))
