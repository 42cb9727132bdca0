"""Task losses against sums written out in float64."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.losses import TaskLosses

ROWS, TASKS = 11, 3
BINARY = tuple(Task(name, name, base_rate=0.5) for name in ("a", "b", "c"))


def example(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels, weights; the last task is defined where the first label is 1."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(ROWS, TASKS, generator=generator)
    labels = torch.randint(2, (ROWS, TASKS), generator=generator).float()
    weights = torch.ones(ROWS, TASKS)
    weights[:, 2] = labels[:, 0]
    return logits, labels * weights, weights


def summed(logits: Tensor, labels: Tensor, weights: Tensor) -> npt.NDArray[np.float64]:
    """(M,) sums of the defined rows' log losses, row by row in Python's floats."""
    sums = np.zeros(TASKS)
    for row in range(ROWS):
        for task in range(TASKS):
            if weights[row, task]:
                probability = 1 / (1 + math.exp(-logits[row, task].item()))
                sums[task] -= math.log(probability if labels[row, task] else 1 - probability)
    return sums


@pytest.mark.parametrize("reduction", ["batch", "defined"])
def test_losses_are_those_written_out(reduction: str) -> None:
    logits, labels, weights = example()
    divisor = ROWS if reduction == "batch" else weights.sum(dim=0).numpy()
    assert 0 < weights[:, 2].sum() < ROWS
    found = TaskLosses(BINARY, reduction)(logits, labels, weights)
    np.testing.assert_allclose(found.numpy(), summed(logits, labels, weights) / divisor, rtol=1e-6)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("reduction", ["batch", "defined"])
def test_gradients_are_those_written_out(reduction: str) -> None:
    logits, labels, weights = example(1)
    logits.requires_grad_()
    TaskLosses(BINARY, reduction)(logits, labels, weights).sum().backward()
    divisor: float | Tensor = ROWS if reduction == "batch" else weights.sum(dim=0).double()
    expected = weights * (torch.sigmoid(logits.detach().double()) - labels) / divisor
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), expected.numpy(), atol=1e-7)


@pytest.mark.parametrize("reduction", ["batch", "defined"])
def test_a_task_without_rows_is_zero(reduction: str) -> None:
    logits, labels, weights = example()
    labels[:, 2] = weights[:, 2] = 0
    logits[0, 2], logits[1, 2] = 1e4, -1e4
    logits.requires_grad_()
    losses = TaskLosses(BINARY, reduction)(logits, labels, weights)
    losses.sum().backward()
    assert losses[2].item() == 0
    assert torch.isfinite(losses).all()
    assert logits.grad is not None
    assert not logits.grad[:, 2].any()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[:, :2].any()


@pytest.mark.parametrize("reduction", ["batch", "defined"])
def test_bf16_logits_are_summed_in_float32(reduction: str) -> None:
    logits, labels, weights = example()
    rounded = logits.bfloat16()
    found = TaskLosses(BINARY, reduction)(rounded, labels, weights)
    torch.testing.assert_close(found, TaskLosses(BINARY, reduction)(rounded.float(), labels, weights))
    assert found.dtype == torch.float32
