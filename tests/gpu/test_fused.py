"""The compiled operations on large gradients of a GPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from dlrm_mtl.balancing import BalancingLayer, MultiBalance
from dlrm_mtl.balancing.fused import is_fused
from dlrm_mtl.balancing.gramian import combine_gradients, local_gramian

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
HALF_ULP = {torch.float32: 0.0, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


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
    for batch_size in (2048, 2049, 5003):
        gradients = randn(num_tasks, batch_size, 513, dtype)
        assert is_fused(gradients)
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
    """Compiled before; replayed with other values."""
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
    return [event.name for event in profiler.events() if event.name.startswith("triton_")]


@pytest.mark.parametrize("num_tasks", [2, 3, 8])
def test_one_kernel_reads_the_gradients(num_tasks: int) -> None:
    gradients = randn(num_tasks, 4096, 512, torch.float32)
    coefficients = torch.ones(num_tasks, device="cuda", dtype=torch.float64)
    assert len(kernels(lambda: local_gramian(gradients, gradients[0].device))) == 1
    assert len(kernels(lambda: combine_gradients(gradients, coefficients))) == 1


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
