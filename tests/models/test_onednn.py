"""MLPs by oneDNN against float64, within the bound on the errors of float32 sums."""

import copy
import gc
import time
import weakref
from itertools import pairwise
from typing import NamedTuple, Self

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


EPS = torch.finfo(torch.float32).eps


class Bounded(NamedTuple):
    """A float64 value and a bound on the error of each element when float32 computes it."""

    value: Tensor
    error: Tensor

    @classmethod
    def exact(cls, value: Tensor) -> Self:
        return cls(value.double(), torch.zeros_like(value, dtype=torch.float64))

    def beside(self, other: "Bounded") -> "Bounded":
        return Bounded(torch.hstack((self.value, other.value)), torch.hstack((self.error, other.error)))

    @property
    def largest(self) -> Tensor:
        """Of absolute values."""
        return self.value.abs() + self.error

    @property
    def T(self) -> "Bounded":
        return Bounded(self.value.T, self.error.T)

    def __matmul__(self, other: "Bounded") -> "Bounded":
        """Whatever the order of a sum of n products, its rounding is at most n eps sum |a| |b| (Higham, *Accuracy and
        Stability of Numerical Algorithms*, section 3.1)."""
        passed_on = self.error @ other.largest + self.value.abs() @ other.error
        terms = self.value.shape[1]
        return Bounded(self.value @ other.value, passed_on + terms * EPS * (self.largest @ other.largest))

    def contains(self, actual: Tensor) -> bool:
        return actual.shape == self.value.shape and bool(((actual.double() - self.value).abs() <= self.error).all())


def mlp(sizes: list[int], logit: bool) -> nn.Module:
    """A module that holds an MLP, as it comes from torchrec."""
    torch.manual_seed(3)
    last = [nn.Linear(sizes[-1], 1)] if logit else []
    layers = [Perceptron(before, after) for before, after in pairwise(sizes)]
    return nn.ModuleDict({"mlp": nn.Sequential(*layers, *last)})


def step(module: nn.Module, rows: Tensor, gradient: Tensor) -> list[Tensor]:
    """Output, gradient of the rows, and of every weight and bias."""
    module.zero_grad()
    rows = rows.clone().requires_grad_()
    output = module["mlp"](rows)  # type: ignore[index]
    output.backward(gradient)
    assert rows.grad is not None
    return [output.detach(), rows.grad, *(weight.grad for weight in module.parameters() if weight.grad is not None)]


def with_bounds(module: nn.Module, rows: Tensor, gradient: Tensor) -> list[Bounded]:
    """What :func:`step` returns. Where a value before a ReLU may have either sign, so may what its gradient passes."""
    ones = Bounded.exact(torch.ones(len(rows), 1))
    parameters = [Bounded.exact(parameter.detach().view(len(parameter), -1)) for parameter in module.parameters()]
    layers = list(zip(module["mlp"], parameters[::2], parameters[1::2], strict=True))  # type: ignore[call-overload, index]
    read, values = [Bounded.exact(rows)], []  # what each layer reads, and gives before its ReLU
    for part, weight, bias in layers:
        values.append(read[-1].beside(ones) @ weight.beside(bias).T)
        value, error = values[-1]
        read.append(Bounded(value.relu() if isinstance(part, Perceptron) else value, error))
    delta, of_weights = Bounded.exact(gradient), []
    for (part, weight, _), inputs, (value, error) in zip(layers[::-1], read[-2::-1], values[::-1], strict=True):
        if isinstance(part, Perceptron):
            passes = value > 0
            unsure = torch.where(value.abs() <= error, delta.largest, delta.error * passes)
            delta = Bounded(delta.value * passes, unsure)
        of_bias = delta.T @ ones
        of_weights += [Bounded(of_bias.value[:, 0], of_bias.error[:, 0]), delta.T @ inputs]
        delta @= weight
    return [read[-1], delta, *of_weights[::-1]]


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
    module = mlp(sizes, logit)
    shape = (rows, 1 if logit else sizes[-1])
    inputs, gradient = (
        torch.randn(columns, length, generator=generator).T
        if transposed
        else torch.randn(length, columns, generator=generator)
        for length, columns in ((rows, sizes[0]), shape)
    )
    expected = with_bounds(module, inputs, gradient)
    use_onednn(module)
    assert isinstance(module["mlp"], OneDnnMlp)  # type: ignore[index]
    actual = step(module, inputs, gradient)
    assert all(one.contains(tensor) for one, tensor in zip(expected, actual, strict=True))


@pytest.mark.parametrize("sizes", [[40, 30], [40, 30, 20, 10]])
def test_products_in_bfloat16_are_beyond_the_bounds(sizes: list[int]) -> None:
    """Each of them: the output's, the rows' and every weight's."""
    module = mlp(sizes, logit=True)
    rows, gradient = torch.rand(64, sizes[0]) + 0.3, torch.rand(64, 1) + 0.3
    expected = with_bounds(module, rows, gradient)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, *gradients = step(module, rows, gradient)
    actual = [output.float(), *gradients]
    assert not any(one.contains(tensor) for one, tensor in zip(expected[:-1], actual[:-1], strict=True))


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
