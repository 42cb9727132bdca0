"""MLPs by oneDNN against the same by torch and in float64."""

import copy
import gc
import time
import weakref
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchrec.modules.mlp import MLP, Perceptron

from dlrm_mtl.config import ModelConfig
from dlrm_mtl.models.onednn import OneDnnMlp, use_onednn
from tests.models.batches import SCHEMA, materialized

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def mlp(sizes: list[int], logit: bool, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A module that holds an MLP, as it comes from torchrec."""
    torch.manual_seed(3)
    last = [nn.Linear(sizes[-1], 1)] if logit else []
    layers = [Perceptron(before, after) for before, after in pairwise(sizes)]
    return nn.ModuleDict({"mlp": nn.Sequential(*layers, *last)}).to(dtype)


def step(module: nn.Module, rows: Tensor, gradient: Tensor, shift: int = 0) -> list[Tensor]:
    """Output, gradient of the rows, and of every weight.

    Args:
        shift: by how many places the rows are rolled for the computation, which adds them up in another order.
    """
    module.zero_grad()
    rows = rows.roll(shift, 0).requires_grad_()
    output = module["mlp"](rows)  # type: ignore[index]
    output.backward(gradient.roll(shift, 0))
    assert rows.grad is not None
    weights = [weight.grad.clone() for weight in module.parameters() if weight.grad is not None]
    return [output.detach().roll(-shift, 0), rows.grad.roll(-shift, 0), *weights]


def as_exact(actual: list[Tensor], by_torch: list[list[Tensor]], expected: list[Tensor]) -> bool:
    """Whether errors, relative to the norm of each tensor, are those of float32: 1e-6, or four times torch's largest
    over several orders of the rows, which is larger where sums cancel."""
    norm = torch.linalg.vector_norm
    return all(
        a.shape == e.shape
        and norm(a.double() - e) <= 1e-6 * norm(e) + 4 * max(norm(t.double() - e) for t in of_torch) + 1e-30
        for a, e, *of_torch in zip(actual, expected, *by_torch, strict=True)
    )


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 70),
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    logit=st.booleans(),
    transposed=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_outputs_and_gradients(rows: int, sizes: list[int], logit: bool, transposed: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    exact = mlp(sizes, logit, torch.float64)
    fast, plain = copy.deepcopy(exact).float(), copy.deepcopy(exact).float()
    use_onednn(fast)
    assert isinstance(fast["mlp"], OneDnnMlp)  # type: ignore[index]
    shape = (rows, 1 if logit else sizes[-1])
    inputs, gradient = (
        torch.randn(columns, length, generator=generator).T
        if transposed
        else torch.randn(length, columns, generator=generator)
        for length, columns in ((rows, sizes[0]), shape)
    )
    expected = step(exact, inputs.double(), gradient.double())
    by_torch = [step(plain, inputs, gradient, shift) for shift in range(12)]
    assert as_exact(step(fast, inputs, gradient), by_torch, expected)


def test_onednn_computes_and_not_torch() -> None:
    module = mlp([30, 20], logit=False)
    use_onednn(module)
    rows = torch.randn(8, 30, requires_grad=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        module["mlp"](rows).sum().backward()  # type: ignore[index]
    names = {event.key for event in profile.key_averages()}
    assert "mkldnn::_linear_pointwise" in names
    assert not names & {"aten::addmm", "aten::mm"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_stay_so(value: float) -> None:
    module = mlp([6, 5, 4], logit=False)
    plain = copy.deepcopy(module)
    use_onednn(module)
    rows = torch.ones(3, 6)
    rows[1, 2] = value
    found, expected = module["mlp"](rows), plain["mlp"](rows)  # type: ignore[index]
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert not found[1].isfinite().all()
    assert found[0].isfinite().all()


def test_where_onednn_is_not_asked_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = mlp([6, 5], logit=True)
    plain = copy.deepcopy(module)
    use_onednn(module)
    rows, gradient = torch.randn(4, 6), torch.randn(4, 1)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "enabled", False)
        found, expected = step(module, rows, gradient), step(plain, rows, gradient)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    module.zero_grad()
    plain.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow, expected = module["mlp"](rows), plain["mlp"](rows)  # type: ignore[index]
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow, expected)
    assert torch.equal(module.double()["mlp"](rows.double()), plain.double()["mlp"](rows.double()))  # type: ignore[index]


def test_weights_and_their_names_stay() -> None:
    module = mlp([6, 5], logit=True)
    before = {name: weight.data_ptr() for name, weight in module.named_parameters()}
    use_onednn(module)
    assert {name: weight.data_ptr() for name, weight in module.named_parameters()} == before


def test_others_are_left_alone() -> None:
    others = nn.ModuleDict(
        {
            "sigmoid": nn.Sequential(Perceptron(3, 2, activation=torch.sigmoid)),
            "no bias": nn.Sequential(nn.Linear(3, 2, bias=False)),
            "norm": nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)),
        }
    )
    use_onednn(others)
    assert {type(child) for child in others.children()} == {nn.Sequential}


def test_the_rankers_mlps_are_all_replaced() -> None:
    model = materialized(SCHEMA, ModelConfig(over_mlp=(8,)))
    found = [module for module in model.modules() if isinstance(module, OneDnnMlp)]
    assert len(found) == 2 + len(SCHEMA.tasks)  # bottom, over-arch, heads
    assert not any(type(module) is nn.Sequential for module in model.dense_part.modules())
    assert any(isinstance(module, MLP) for module in model.modules())


def test_a_graph_is_freed_with_its_output() -> None:
    """Without waiting for Python's collector of cycles."""
    module = mlp([6, 5], logit=True)
    use_onednn(module)
    gc.disable()
    try:
        output = module["mlp"](torch.randn(4, 6))  # type: ignore[index]
        node = weakref.ref(output.grad_fn)
        del output
        assert node() is None
    finally:
        gc.enable()


def test_rows_that_are_slices_take_no_longer() -> None:
    """What a head reads behind experts is a slice; oneDNN has only slow reference code for some products with one."""
    module = mlp([68, 64], logit=True)
    use_onednn(module)
    rows = torch.randn(2048, 5, 68)[:, 1]

    def seconds(rows: Tensor) -> float:
        start = time.perf_counter()
        module["mlp"](rows).sum().backward()  # type: ignore[index]
        return time.perf_counter() - start

    slices, whole = (min(seconds(each) for _ in range(5)) for each in (rows, rows.contiguous()))
    assert slices < 10 * whole
