"""Predictions for clustered rows in segments, and their evaluation on the ranks of a pool."""

from collections.abc import Sequence

import torch

from dlrm_mtl.data.context import Context
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.evaluator import Evaluator
from dlrm_mtl.metrics.predictions.kept import LIMIT
from dlrm_mtl.model_schema import Task
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.segments import Segment
from tests.metrics import test_sums
from tests.metrics.kinds import binary_tasks
from tests.metrics.test_sums import keys_of

ROWS = 3000
CLUSTERS = 400
CONTEXT = Context("user_id", (Segment("hour", ("0", "1", "2")), Segment("user", ("known", "new"))))
PRODUCTS = {"conversion": (0, 2)}


def example() -> Predictions:
    """Three tasks, the second rare, the third defined where the first is positive."""
    predictions = test_sums.example(ROWS)
    generator = torch.Generator().manual_seed(1)
    clusters = (CLUSTERS * torch.rand(ROWS, generator=generator) ** 1.5).long()
    hours = torch.randint(3, (ROWS,), generator=generator)
    predictions.context = torch.stack([keys_of(clusters), hours, clusters % 2], dim=1)
    return predictions


def select(predictions: Predictions, which: torch.Tensor) -> Predictions:
    return Predictions(*(value[which] for value in vars(predictions).values()))


def select_tasks(predictions: Predictions, tasks: list[int]) -> Predictions:
    of_tasks = (predictions.logits, predictions.labels, predictions.weights)
    logits, labels, weights = (each[:, tasks] for each in of_tasks)
    return Predictions(logits, labels, weights, predictions.rows, predictions.context)


def in_batches(predictions: Predictions, size: int) -> list[Predictions]:
    return [select(predictions, rows) for rows in torch.arange(len(predictions.rows)).split(size)]


def evaluate(
    batches: Sequence[Predictions],
    ranks: Ranks | None = None,
    limit: int = LIMIT,
    context: Context = CONTEXT,
    batch_size: int = ROWS,
    tasks: Sequence[Task] = (),
) -> Evaluation:
    num_tasks = batches[0].logits.shape[1]
    products = PRODUCTS if num_tasks == 3 and not tasks else {}
    evaluator = Evaluator(
        tasks or binary_tasks(num_tasks), context, batch_size, torch.device("cpu"), ranks, limit, products
    )
    for batch in batches:
        evaluator.update(batch)
    return evaluator.evaluate()


def evaluate_share(ranks: Ranks, limit: int) -> Evaluation:
    """Of the example, every rank's rows in batches of 64 and in another order; padding where a rank has fewer."""
    predictions = example()
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(7))
    mine = select(predictions, order[ranks.rank :: ranks.world_size])
    padding = select(mine, torch.zeros(64, dtype=torch.int64))
    padding.rows, padding.weights = torch.full_like(padding.rows, -1), torch.zeros_like(padding.weights)
    batches = in_batches(mine, 64)
    batches += [padding] * (1 + ROWS // (64 * ranks.world_size) + 1 - len(batches))
    return evaluate(batches, ranks, limit, batch_size=64 * ranks.world_size)
