"""Gradients on a CPU: C kernels agree with float64, and plain operations take over where kernels do not apply."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dlrm_mtl.balancing import BalancingLayer, MultiBalance
from dlrm_mtl.balancing.kernels.c_structures import INSTRUCTION_SETS
from dlrm_mtl.balancing.kernels.cpu_kernels import _library, cpu_kernels
from dlrm_mtl.balancing.kernels.gramian import local_gramian
from dlrm_mtl.balancing.kernels.weighted_sum import combine_gradients

CPU = torch.device("cpu")
HALF_ULP = {torch.float64: 0.0, torch.float32: 0.0, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}

Layout = Callable[[Tensor], Tensor]
LAYOUTS: dict[str, Layout] = {
    "contiguous": Tensor.clone,
    "transposed": lambda gradient: gradient.T.contiguous().T,
    "expanded": lambda gradient: gradient[:1].expand_as(gradient),
    "strided": lambda gradient: gradient.repeat(1, 2)[:, : gradient.shape[1]],
    "offset": lambda gradient: torch.cat([gradient.new_zeros(1), gradient.flatten()])[1:].view_as(gradient),
}


def assert_right(gradients: list[Tensor | None], coefficients: Tensor, tolerance: float = 1e-5) -> None:
    """The Gramian relative to the norms; the weighted sum to half a unit in the last place plus 1e-6."""
    dense = [gradient for gradient in gradients if gradient is not None]
    rows = torch.stack([torch.zeros_like(dense[0]) if gradient is None else gradient for gradient in gradients])
    rows = rows.double().flatten(1)
    gramian = local_gramian(gradients, CPU)
    norms = rows.norm(dim=1)
    assert gramian.dtype == torch.float64
    assert ((gramian - rows @ rows.T).abs() <= tolerance * norms[:, None] * norms).all()
    combined = combine_gradients(gradients, coefficients)
    assert combined is not None
    assert (combined.dtype, combined.shape) == (dense[0].dtype, dense[0].shape)
    expected = coefficients @ rows
    error = (combined.double().flatten() - expected).abs()
    assert (error <= 1e-6 * (coefficients.abs() @ rows.abs()) + HALF_ULP[combined.dtype] * expected.abs()).all()


def randn(num_tasks: int, batch_size: int, dim: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(batch_size)
    # The mean makes products positive, as of gradients that agree: sums grow with N.
    return [(torch.randn(batch_size, dim, generator=generator) + 0.3).to(dtype) for _ in range(num_tasks)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_tasks", range(1, 17))
def test_any_number_of_tasks_and_threads(num_tasks: int, dtype: torch.dtype, threads: int) -> None:
    coefficients = torch.linspace(-1, 1, num_tasks, dtype=torch.float64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for elements in (1, 100, 2048 * 3 + 1, 4096 * 70, 4096 * 64 + 4095):
            gradients = randn(num_tasks, 1, elements, dtype)
            assert cpu_kernels(gradients) is not None
            assert_right([*gradients], coefficients, 2.0**-22)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("instruction_set", range(len(INSTRUCTION_SETS)), ids=INSTRUCTION_SETS)
def test_every_instruction_set_gives_the_same(instruction_set: int, dtype: torch.dtype) -> None:
    """Also the narrower ones, which this processor would not choose."""
    if instruction_set > _library()[1]:
        pytest.skip(f"this processor has no {INSTRUCTION_SETS[instruction_set]}")
    for num_tasks, elements in ((1, 100), (2, 4096 * 70), (3, 2048 * 3 + 1), (5, 1), (11, 4096 * 8 + 4095)):
        gradients = randn(num_tasks, 1, elements, dtype)
        kernels = cpu_kernels(gradients, instruction_set)
        assert kernels is not None
        rows = torch.cat(gradients).double()
        expected = rows @ rows.T
        bound = 2.0**-22 * rows.norm(dim=1)[:, None] * rows.norm(dim=1)
        assert ((torch.from_numpy(kernels.gramian()) - expected).abs() <= bound).all()
        weights = torch.linspace(-1, 1, num_tasks, dtype=torch.float64)
        combined, finite = kernels.weighted_sum(weights.tolist())
        assert finite
        torch.testing.assert_close(combined[0], (weights @ rows).to(dtype), rtol=2.0**-7, atol=1e-6)
        gradients[-1][0, elements // 2] = torch.inf
        assert not kernels.weighted_sum([1.0] * num_tasks)[1]


def delayed_layer(num_tasks: int, dtype: torch.dtype) -> BalancingLayer:
    """A layer after its first step, whose next step has its coefficients already."""
    layer = BalancingLayer(MultiBalance(num_tasks), reduction="delayed")
    layer.balance([tuple(randn(num_tasks, 2, 50, dtype))])[0]
    return layer


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_tasks", [1, 2, 3, 4, 5, 8, 11, 16])
def test_a_delayed_layer_gives_the_results_of_the_kernels(num_tasks: int, dtype: torch.dtype, threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for elements in (1, 100, 2048 * 3 + 1, 4096 * 64 + 4095):
            layer, gradients = delayed_layer(num_tasks, dtype), randn(num_tasks, 1, elements, dtype)
            combined = layer.balance([tuple(gradients)])[0]
            assert layer.record is not None
            expected = combine_gradients(gradients, layer.record.coefficients)
            torch.testing.assert_close(combined, expected, rtol=0, atol=0)
            layer.balance([tuple(gradients)])[0]
            torch.testing.assert_close(layer.record.gramian, local_gramian(gradients, CPU), rtol=0, atol=0)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("place", [0, 31, 2048, 4095, 6144])
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_values_that_are_not_finite_are_found(value: float, place: int, dtype: torch.dtype) -> None:
    layer, gradients = delayed_layer(5, dtype), randn(5, 1, 2048 * 3 + 1, dtype)
    gradients[3][0, place] = value
    combined = layer.balance([tuple(gradients)])[0]
    assert combined is not None
    assert combined.isnan().all()
    assert layer.nonfinite_tasks.tolist() == [0, 0, 0, 1, 0]


@settings(max_examples=20, deadline=None)
@given(
    shape=st.sampled_from(
        [
            *((1, size) for size in (1, 2, 15, 16, 31, 32, 33, 63, 64, 65, 2047, 2048, 2049)),
            (1 << 12, 257),
            (1001, 150),
            (87387, 1),
        ]
    ),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    layouts=st.lists(st.sampled_from([None, *LAYOUTS]), min_size=1, max_size=3).filter(any),
    coefficients=st.lists(st.integers(-8, 8).map(lambda number: number / 7), min_size=3, max_size=3),
)
def test_right_in_every_layout(
    shape: tuple[int, int], dtype: torch.dtype, layouts: list[str | None], coefficients: list[float]
) -> None:
    plain = randn(len(layouts), *shape, dtype)
    gradients = [
        None if name is None else LAYOUTS[name](gradient) for name, gradient in zip(layouts, plain, strict=True)
    ]
    assert_right(gradients, torch.tensor(coefficients[: len(layouts)], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_more_accurate_than_float32_sums(dtype: torch.dtype) -> None:
    assert_right([*randn(2, 2048, 1025, dtype)], torch.tensor([0.5, -1.5]).double(), tolerance=2.0**-23)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_dtypes_take_the_plain_path(dtype: torch.dtype) -> None:
    gradients = randn(2, 512, 1025, dtype)
    assert cpu_kernels(gradients) is None
    assert_right([*gradients], torch.tensor([0.5, -1.5]).double())


def test_more_tasks_take_the_plain_path() -> None:
    gradients = randn(17, 64, 129)
    assert cpu_kernels(gradients) is None
    assert_right([*gradients], torch.linspace(-1, 1, 17, dtype=torch.float64))


def test_one_gradient_for_two_tasks() -> None:
    first, second = randn(2, 1024, 1024)
    assert_right([first, second, first], torch.tensor([0.2, 0.3, 0.5]).double())


def test_values_that_are_not_finite_reach_the_results() -> None:
    gradients = randn(3, 1024, 1024)
    gradients[1][5, 7] = torch.inf
    assert local_gramian(gradients, CPU).isfinite().tolist() == [[True, False, True], [False] * 3, [True, False, True]]
    combined = combine_gradients(gradients, torch.full((3,), torch.nan, dtype=torch.float64))
    assert combined is not None
    assert combined.isnan().all()


def test_kernels_run_in_another_thread() -> None:
    gradients, coefficients = randn(3, 1024, 1025), torch.tensor([0.2, 0.3, 0.5]).double()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            assert_right([*gradients], coefficients)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []


class Operators(TorchDispatchMode):
    """Names of the operators that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def test_traced_operators_take_the_plain_path() -> None:
    gradients, coefficients = randn(3, 512, 1024), torch.rand(3, dtype=torch.float64)
    with Operators() as seen:
        local_gramian(gradients, CPU)
        combine_gradients(gradients, coefficients)
    assert {"dot", "addcmul_"} <= set(seen.names)
    with Operators():
        assert_right([*gradients], coefficients)


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    """As torch does; infinities and NaN too."""
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    gradient = bits.view(torch.bfloat16).repeat(4)
    for weight, instruction_set in itertools.product((1.0, 1 / 3, -0.7, 3e38), range(_library()[1] + 1)):
        kernels = cpu_kernels([gradient], instruction_set)
        assert kernels is not None
        expected = (gradient.float() * torch.tensor(weight, dtype=torch.float32)).bfloat16()
        torch.testing.assert_close(kernels.weighted_sum([weight])[0], expected, rtol=0, atol=0, equal_nan=True)


# torch.compile's own, where it traces an autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_inside_of_a_compiled_model() -> None:
    """The layer's backward is the same in a compiled model."""
    gradients = randn(3, 1024, 1024)
    actual = []
    for wrap in (lambda function: function, torch.compile(backend="eager")):
        layer = BalancingLayer(MultiBalance(3))

        def loss(shared: Tensor, layer: BalancingLayer = layer) -> Tensor:
            return torch.stack([(view * g).sum() for view, g in zip(layer(shared * 2), gradients, strict=True)]).sum()

        shared = torch.ones(1024, 1024, requires_grad=True)
        wrap(loss)(shared).backward()
        assert shared.grad is not None
        actual.append(shared.grad)
    torch.testing.assert_close(actual[1], actual[0], rtol=1e-5, atol=1e-6)
