"""The Triton kernels on gradients of a GPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from dlrm_mtl.balancing import BalancingLayer, MultiBalance
from dlrm_mtl.balancing.kernels.gpu_kernels import gpu_kernels
from dlrm_mtl.balancing.kernels.gramian import local_gramian
from dlrm_mtl.balancing.kernels.weighted_sum import combine_gradients

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
HALF_ULP = {torch.float64: 0.0, torch.float32: 0.0, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def randn(num_tasks: int, batch_size: int, dim: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator("cuda").manual_seed(batch_size)
    shape = batch_size, dim
    return [(torch.randn(shape, generator=generator, device="cuda") + 0.3).to(dtype) for _ in range(num_tasks)]


def assert_right(gradients: list[Tensor], coefficients: Tensor, gramian: Tensor, combined: Tensor | None) -> None:
    rows = torch.stack(gradients).double().flatten(1)
    norms = rows.norm(dim=1)
    assert ((gramian - rows @ rows.T).abs() <= 1e-6 * norms[:, None] * norms).all()
    assert combined is not None
    expected = coefficients @ rows
    error = (combined.double().flatten() - expected).abs()
    assert (error <= 1e-6 * (coefficients.abs() @ rows.abs()) + HALF_ULP[combined.dtype] * expected.abs()).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_tasks", [1, 2, 3, 8, 16])
def test_right_without_waiting(num_tasks: int, dtype: torch.dtype) -> None:
    coefficients = torch.linspace(-1, 1, num_tasks, device="cuda", dtype=torch.float64)
    large = [(1 << 14, 1 << 11)] if num_tasks == 3 else []  # the comparison in float64 takes memory
    for batch_size, dim in [(2048, 513), (5003, 513), (1, 1), (7, 73), *large]:
        gradients = randn(num_tasks, batch_size, dim, dtype)
        assert gpu_kernels(gradients) is not None
        local_gramian(gradients, gradients[0].device)
        combine_gradients(gradients, coefficients)
        torch.cuda.set_sync_debug_mode("error")
        try:
            gramian = local_gramian(gradients, gradients[0].device)
            combined = combine_gradients(gradients, coefficients)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert_right(gradients, coefficients, gramian, combined)


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_a_cuda_graph(dtype: torch.dtype) -> None:
    """Replayed with other values."""
    gradients = randn(3, 4096, 512, dtype)
    coefficients = torch.tensor([0.2, 0.3, 0.5], device="cuda", dtype=torch.float64)

    def work() -> tuple[Tensor, Tensor | None]:
        return local_gramian(gradients, gradients[0].device), combine_gradients(gradients, coefficients)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gramian, combined = work()
    for gradient, other in zip(gradients, randn(3, 4097, 512, dtype), strict=True):
        gradient.copy_(other[1:])
    graph.replay()
    assert_right(gradients, coefficients, gramian, combined)


def kernels(work: Callable[[], object]) -> list[str]:
    work()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    return [event.name for event in profiler.events() if event.device_type.name == "CUDA"]


@pytest.mark.parametrize("num_tasks", [2, 3, 8])
def test_one_kernel_reads_the_gradients(num_tasks: int) -> None:
    """Whatever their size; a second one adds up what its programs found."""
    for batch_size in (8, 4096):
        gradients = randn(num_tasks, batch_size, 512, torch.float32)
        coefficients = torch.ones(num_tasks, device="cuda", dtype=torch.float64)
        found = kernels(lambda given=gradients: local_gramian(given, given[0].device))  # type: ignore[misc]
        assert found == ["_products", "_symmetric_sums"]
        found = kernels(lambda given=gradients, weights=coefficients: combine_gradients(given, weights))  # type: ignore[misc]
        assert found == ["_weighted_sum"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout_and_missing_gradients(dtype: torch.dtype) -> None:
    first, second, third = randn(3, 96, 41, dtype)
    coefficients = torch.tensor([0.2, -0.3, 0.5, 1.0], device="cuda", dtype=torch.float64)
    offset = torch.cat([third.new_zeros(1), third.flatten()])[1:].view_as(third)
    given = [first.T.contiguous().T, None, second[:1].expand_as(second), offset]
    dense = [torch.zeros_like(first) if gradient is None else gradient for gradient in given]
    gramian, combined = local_gramian(given, first.device), combine_gradients(given, coefficients)
    assert_right(dense, coefficients, gramian, combined)


def test_what_is_not_finite_is_not_hidden() -> None:
    gradients = randn(3, 1001, 33, torch.float32)
    gradients[1][1000, 32] = torch.inf
    gramian = local_gramian(gradients, gradients[0].device)
    assert gramian.isfinite().tolist() == [[True, False, True], [False] * 3, [True, False, True]]
    combined = combine_gradients(gradients, torch.full((3,), torch.nan, dtype=torch.float64, device="cuda"))
    assert combined is not None
    assert combined.isnan().all()


def test_plain_for_more_tasks_and_wider_numbers() -> None:
    for gradients in (randn(17, 64, 8, torch.float32), randn(3, 64, 8, torch.float64)):
        coefficients = torch.linspace(-1, 1, len(gradients), device="cuda", dtype=torch.float64)
        assert gpu_kernels(gradients) is None
        gramian = local_gramian(gradients, gradients[0].device)
        assert_right(gradients, coefficients, gramian, combine_gradients(gradients, coefficients))


def test_in_the_backward_pass() -> None:
    """Which runs in a thread of its own."""
    gradients = randn(3, 4096, 512, torch.float32)
    found = []
    for _ in range(2):
        layer = BalancingLayer(MultiBalance(3)).cuda()
        shared = torch.zeros(4096, 512, device="cuda", requires_grad=True)
        torch.autograd.backward(list(layer(shared)), gradients)
        assert shared.grad is not None
        assert layer.record is not None
        assert_right(gradients, layer.record.coefficients, layer.record.gramian, shared.grad)
        found.append(shared.grad)
    assert torch.equal(*found)
