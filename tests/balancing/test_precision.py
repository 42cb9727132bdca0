"""Gradients narrower than float32: accumulated in at least float32, state in float64."""

import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlrm_mtl.balancing import BalancingLayer, MultiBalance
from dlrm_mtl.balancing.kernels.chunks import CACHE_ELEMENTS
from dlrm_mtl.balancing.kernels.gramian import local_gramian
from tests.balancing.reference import Algorithm3

NARROW = [torch.bfloat16, torch.float16]
HALF_ULP = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


@pytest.mark.parametrize("dtype", [*NARROW, torch.float32])
@pytest.mark.parametrize("size", [1000, CACHE_ELEMENTS, 3 * CACHE_ELEMENTS + 17])
def test_gramian_is_accurate_at_any_size(dtype: torch.dtype, size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    # The mean makes the sums grow with N, where a narrow accumulator stalls.
    gradients = [(scale * (torch.randn(size, generator=generator) + 0.5)).to(dtype) for scale in (0.01, 30.0)]
    expected = torch.stack([gradient.double() for gradient in gradients])
    actual = local_gramian(gradients, torch.device("cpu"))
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, expected @ expected.T, rtol=3e-5, atol=0)


def test_float64_gradients_keep_their_precision() -> None:
    rows = torch.randn(2, 1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    actual = local_gramian(list(rows), torch.device("cpu"))
    torch.testing.assert_close(actual, rows @ rows.T, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_gradients_follow_the_reference(dtype: torch.dtype) -> None:
    balancer, reference = MultiBalance(3, beta=0.3), Algorithm3(prior=np.full(3, 1 / 3), beta=0.3)
    generator = torch.Generator().manual_seed(3)
    for _ in range(50):
        rows = torch.randn(3, 4000, generator=generator) * torch.tensor([[1e-2], [1e-1], [1.0]])
        rows = (rows + 0.3 * rows[:1]).to(dtype)
        combined = balancer.combine(rows)
        expected = reference(rows.double().numpy())
        assert combined.dtype == dtype
        error = np.abs(combined.double().numpy() - expected)
        assert (error <= HALF_ULP[dtype] * np.abs(expected) + 1e-5).all()
        np.testing.assert_allclose(balancer.task_weights().numpy(), reference.weights, rtol=0, atol=1e-5)
    assert balancer.weights.dtype == balancer.norms.dtype == torch.float64


def test_nearly_parallel_narrow_gradients_are_told_apart() -> None:
    """1 - cos = 5e-5 vanishes in a bfloat16 accumulator."""
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(100_000, generator=generator)
    second = first + 0.01 * torch.randn(100_000, generator=generator)
    gradients = [first.bfloat16(), second.bfloat16()]
    gramian = local_gramian(gradients, torch.device("cpu"))
    cosine = gramian[0, 1] / (gramian[0, 0] * gramian[1, 1]).sqrt()
    expected = nn.functional.cosine_similarity(gradients[0].double(), gradients[1].double(), dim=0)
    torch.testing.assert_close(1 - cosine, 1 - expected, rtol=0.1, atol=0)


def keep(arrived: dict[int, Tensor], m: int, gradient: Tensor) -> None:
    arrived[m] = gradient.double()


@pytest.mark.parametrize("input_dtype", [torch.float32, torch.bfloat16])
def test_autocast(input_dtype: torch.dtype) -> None:
    """Heads under bfloat16 autocast, the representation in either dtype, against the gradients that arrived."""
    torch.manual_seed(0)
    heads = [nn.Linear(6, 1) for _ in range(3)]
    layer = BalancingLayer(MultiBalance(3, beta=0.3))
    reference = Algorithm3(prior=np.full(3, 1 / 3), beta=0.3)
    for _ in range(10):
        shared = torch.randn(8, 6).to(input_dtype).requires_grad_()
        arrived: dict[int, Tensor] = {}
        losses = []
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for m, (head, view) in enumerate(zip(heads, layer(shared), strict=True)):
                view.register_hook(functools.partial(keep, arrived, m))
                losses.append(10.0**m * head(view).float().square().mean())
            torch.stack(losses).sum().backward()
        assert shared.grad is not None
        assert shared.grad.dtype == input_dtype
        rows = torch.stack([arrived[m].flatten() for m in range(3)])
        expected = torch.from_numpy(reference(rows.numpy())).view(8, 6)
        torch.testing.assert_close(shared.grad.double(), expected, rtol=2.0**-8, atol=1e-5)
        np.testing.assert_allclose(layer.balancer.task_weights().numpy(), reference.weights, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, *NARROW])
def test_casting_the_model_leaves_the_state_in_float64(dtype: torch.dtype) -> None:
    layer = BalancingLayer(MultiBalance(2))
    rows = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)) / 3
    layer.balancer.combine(rows)
    before = layer.balancer.task_weights().clone()
    layer.to(dtype)
    assert torch.equal(layer.balancer.task_weights(), before)
    assert layer.balancer.combine(rows.to(dtype)).isfinite().all()
