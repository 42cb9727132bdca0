"""Simulated evaluations for tests of the report."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch

from dlrm_mtl.data.context import Context
from dlrm_mtl.metrics.evaluator import Evaluator
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.training.loop import ArmResult
from tests.metrics.kinds import binary_tasks
from tests.metrics.test_sums import keys_of

FloatArray = npt.NDArray[np.float64]

TASKS = ("click", "rare")


def simulate(
    rows: int, noises: Sequence[float], seed: int = 0, shift: float = -4.0, models: int | None = None
) -> list[Predictions]:
    """Predictions of several arms for the same rows of two tasks, the second rare; less noise is better.

    Args:
        seed: of the rows, and of the models unless ``models`` says otherwise.
    """
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(rows, 2, generator=generator) + torch.tensor([0.0, shift])
    labels = (torch.rand(rows, 2, generator=generator) < torch.sigmoid(truth)).float()
    if models is not None:
        generator.manual_seed(models)
    return [
        Predictions(
            truth + noise * torch.randn(rows, 2, generator=generator),
            labels,
            torch.ones(rows, 2),
            torch.arange(rows),
            keys_of(torch.arange(rows))[:, None],
        )
        for noise in noises
    ]


def row_sums(predictions: Predictions) -> FloatArray:
    """(rows, M, 4) sums with one bucket per row: rows, positives, log loss, prediction."""
    logits, labels = predictions.logits.double().numpy(), predictions.labels.double().numpy()
    log_loss = np.logaddexp(0, logits) - labels * logits
    return np.stack([np.ones_like(labels), labels, log_loss, 1 / (1 + np.exp(-logits))], axis=2)


def arm_result(
    predictions: Predictions, qps: Sequence[float], products: Mapping[str, Sequence[int]] = MappingProxyType({})
) -> ArmResult:
    rows, tasks = predictions.logits.shape
    evaluator = Evaluator(binary_tasks(tasks), Context("", ()), rows, torch.device("cpu"), products=products)
    evaluator.update(predictions)
    return ArmResult(evaluator.evaluate(), qps, skipped_steps=0, rows_lost=0)
