"""NE, AUC and calibration from sums, against torchrec's own metrics and against formulas in float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchrec.metrics.auc import AUCMetric
from torchrec.metrics.calibration import CalibrationMetric
from torchrec.metrics.metrics_config import RecComputeMode, RecTaskInfo
from torchrec.metrics.ne import NEMetric

from dlrm_mtl.metrics.bucket_sums import normalized_entropy
from dlrm_mtl.metrics.sums import MetricSums
from dlrm_mtl.metrics.task_metrics import MANY_TIES, BinaryMetrics
from dlrm_mtl.mixing import mix
from dlrm_mtl.models.ranker import Predictions
from tests.metrics.kinds import binary
from tests.ranks import RankPool
from tests.training import runs

ROWS = 3000
TASKS = ("click", "rare", "conversion")


def predictions_of(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, rows: torch.Tensor
) -> Predictions:
    """Predictions with one cluster per row."""
    return Predictions(logits, labels, weights, rows, keys_of(rows)[:, None])


def keys_of(numbers: torch.Tensor) -> torch.Tensor:
    """Keys of numbered clusters."""
    return torch.from_numpy(mix(numbers.numpy().view(np.uint64)).view(np.int64))


def example(rows: int = ROWS, seed: int = 0) -> Predictions:
    """Informative predictions; the second task is rare, the third defined where the first label is 1."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn(rows, 3, generator=generator)
    logits = score + 0.7 * torch.randn(rows, 3, generator=generator) + torch.tensor([0.0, -4.0, 1.0])
    truth = torch.sigmoid(1.2 * score + torch.tensor([0.3, -4.5, 0.0]))
    labels = (torch.rand(rows, 3, generator=generator) < truth).float()
    weights = torch.ones(rows, 3)
    weights[:, 2] = labels[:, 0]
    return predictions_of(logits, labels * weights, weights, torch.arange(rows))


def slice_of(predictions: Predictions, start: int, stop: int) -> Predictions:
    return predictions_of(
        predictions.logits[start:stop],
        predictions.labels[start:stop],
        predictions.weights[start:stop],
        predictions.rows[start:stop],
    )


def sums_of(batches: Sequence[Predictions], buckets: int = 1) -> MetricSums:
    sums = MetricSums(["binary"] * batches[0].logits.shape[1], torch.device("cpu"), buckets)
    for batch in batches:
        sums.update(batch)
    return sums


def in_batches(predictions: Predictions, size: int) -> list[Predictions]:
    return [slice_of(predictions, start, start + size) for start in range(0, len(predictions.rows), size)]


def by_hand(predictions: Predictions, task: int) -> dict[str, float]:
    """NE, log loss, calibration and AUC (every pair compared) of one task, in float64."""
    defined = predictions.weights[:, task].numpy() > 0
    logits = predictions.logits[:, task].double().numpy()[defined]
    labels = predictions.labels[:, task].numpy()[defined] > 0
    # log(1 + exp(x)) without overflow
    log_loss = np.mean(np.logaddexp(0, np.where(labels, -logits, logits)))
    rate = labels.mean()
    entropy = -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)
    pairs = logits[labels][:, None] - logits[~labels]
    return {
        "rows": defined.sum(),
        "positives": labels.sum(),
        "ne": log_loss / entropy,
        "log_loss": log_loss,
        "calibration": np.mean(1 / (1 + np.exp(-logits))) / rate,
        "auc": np.mean((pairs > 0) + 0.5 * (pairs == 0)),
    }


def assert_equals_by_hand(found: BinaryMetrics, expected: dict[str, float], auc_tolerance: float = 2e-4) -> None:
    assert (found.rows, found.positives) == (expected["rows"], expected["positives"])
    for name in ("ne", "log_loss", "calibration"):
        assert getattr(found, name) == pytest.approx(expected[name], rel=1e-6), name
    assert found.auc == pytest.approx(expected["auc"], abs=auc_tolerance)


def test_metrics_equal_the_formulas() -> None:
    predictions = example()
    found = binary(sums_of(in_batches(predictions, 128)).compute())
    assert 0 < found[1].positives < 100
    assert found[2].rows == found[0].positives < ROWS
    for task in range(3):
        assert_equals_by_hand(found[task], by_hand(predictions, task))


def test_metrics_equal_torchrecs() -> None:
    predictions = example(seed=1)
    kinds: dict[str, Any] = {"ne": NEMetric, "calibration": CalibrationMetric, "auc": AUCMetric}
    tasks = [RecTaskInfo(name=n, label_name=f"{n}/l", prediction_name=f"{n}/p", weight_name=f"{n}/w") for n in TASKS]
    theirs: dict[str, float] = {}
    for kind in kinds.values():
        metric = kind(
            world_size=1,
            my_rank=0,
            batch_size=100,
            tasks=tasks,
            compute_mode=RecComputeMode.UNFUSED_TASKS_COMPUTATION,
            window_size=10 * ROWS,
        )
        for batch in in_batches(predictions, 100):
            metric.update(
                predictions=dict(zip(TASKS, torch.sigmoid(batch.logits.double()).T, strict=True)),
                labels=dict(zip(TASKS, batch.labels.double().T, strict=True)),
                weights=dict(zip(TASKS, batch.weights.double().T, strict=True)),
            )
        theirs |= {name: float(value) for name, value in metric.compute().items()}
    for task, ours in zip(TASKS, binary(sums_of(in_batches(predictions, 100)).compute()), strict=True):
        assert ours.ne == pytest.approx(theirs[f"ne-{task}|lifetime_ne"], rel=1e-6)
        assert ours.calibration == pytest.approx(theirs[f"calibration-{task}|lifetime_calibration"], rel=1e-6)
        assert ours.auc == pytest.approx(theirs[f"auc-{task}|window_auc"], abs=2e-4)


def test_the_base_rate_has_ne_1() -> None:
    labels = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    logits = torch.full((4, 1), float(torch.logit(torch.tensor(0.25))))
    [found] = binary(sums_of([predictions_of(logits, labels, torch.ones(4, 1), torch.arange(4))]).compute())
    assert found.ne == pytest.approx(1, abs=1e-6)
    assert found.calibration == pytest.approx(1, abs=1e-6)
    assert found.auc == 0.5


@pytest.mark.parametrize(
    ("logits", "labels", "auc"),
    [
        ([3, 1, 2, 0], [1, 0, 1, 0], 1),
        ([0, 2, 1, 3], [1, 0, 1, 0], 0),
        ([1, 1, 1, 1], [1, 0, 1, 0], 0.5),
        ([2, 1, 2, 0], [1, 1, 0, 0], 0.625),
        ([2, 0, 1], [0, 1, 0], 0),
    ],
)
def test_auc_of_few_rows(logits: list[float], labels: list[float], auc: float) -> None:
    predicted, observed = (torch.tensor(values, dtype=torch.float32)[:, None] for values in (logits, labels))
    ones = torch.ones_like(observed)
    [found] = binary(sums_of([predictions_of(predicted, observed, ones, torch.arange(len(labels)))]).compute())
    assert found.auc == auc


def test_extreme_logits() -> None:
    """Confident wrong predictions cost their log loss without overflow, and the ends of the histogram still
    order them."""
    logits = torch.tensor([[40.0], [-40.0], [40.0], [-40.0], [0.0]])
    labels = torch.tensor([[1.0], [0.0], [0.0], [1.0], [1.0]])
    predictions = predictions_of(logits, labels, torch.ones(5, 1), torch.arange(5))
    [found] = binary(sums_of([predictions]).compute())
    assert found.log_loss == pytest.approx((80 + np.log(2)) / 5, rel=1e-6)
    assert_equals_by_hand(found, by_hand(predictions, 0), auc_tolerance=1e-12)


@pytest.mark.parametrize("center", [-30.0, -18.0, 18.0])
def test_far_off_logits_are_told_apart(center: float) -> None:
    predictions = example()
    predictions.logits += center
    for task, found in enumerate(binary(sums_of([predictions]).compute())):
        expected = by_hand(predictions, task)
        assert found.auc == pytest.approx(expected["auc"], abs=2e-4)
        assert found.tied_pairs is not None
        assert found.tied_pairs < MANY_TIES


def test_ties_of_the_histogram_are_reported() -> None:
    """Logits closer together than the width of a bin are ties."""
    predictions = example()
    predictions.logits = 0.5001 + 1e-4 * torch.tanh(predictions.logits)
    for found in binary(sums_of([predictions]).compute()):
        assert found.tied_pairs == 1
        assert found.auc == 0.5


@pytest.mark.parametrize(("label", "calibration"), [(0.0, None), (1.0, 0.5)])
def test_one_class_has_no_ne(label: float, calibration: float | None) -> None:
    predictions = predictions_of(torch.zeros(6, 1), torch.full((6, 1), label), torch.ones(6, 1), torch.arange(6))
    [found] = binary(sums_of([predictions]).compute())
    assert (found.rows, found.positives) == (6, 6 * label)
    assert found.ne is None
    assert found.auc is None
    assert found.calibration == calibration
    assert found.log_loss == pytest.approx(np.log(2))


def test_no_rows_have_no_metrics() -> None:
    nothing = BinaryMetrics(rows=0, positives=0, ne=None, log_loss=None, auc=None, calibration=None)
    assert MetricSums(["binary"] * 3, torch.device("cpu"), 10).compute() == [nothing] * 3
    masked = example(50)
    masked.weights.zero_()
    assert binary(sums_of([masked]).compute()) == [nothing] * 3


def test_undefined_rows_do_not_count() -> None:
    predictions = example()
    expected = binary(sums_of([predictions]).compute())
    undefined = predictions.weights == 0
    predictions.logits[undefined] = 100.0
    predictions.labels[undefined] = 1.0
    assert binary(sums_of([predictions]).compute()) == expected


@pytest.mark.parametrize("buckets", [1, 37])
def test_padding_does_not_count(buckets: int) -> None:
    whole = example(500)
    padding = predictions_of(torch.full((1, 3), 5.0), torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([-1]))
    without, padded = sums_of([whole], buckets), sums_of([whole, padding], buckets)
    assert torch.equal(without.sums, padded.sums)
    assert torch.equal(without.histogram, padded.histogram)


@pytest.mark.parametrize("buckets", [1, 37])
def test_halves_add_up_to_the_whole(buckets: int) -> None:
    predictions = example()
    whole = sums_of([predictions], buckets)
    halves = [sums_of([part], buckets) for part in (slice_of(predictions, 0, 1100), slice_of(predictions, 1100, ROWS))]
    halves[0].add(halves[1])
    torch.testing.assert_close(halves[0].sums, whole.sums, rtol=1e-7, atol=0)
    assert torch.equal(halves[0].histogram, whole.histogram)
    for found, expected in zip(binary(halves[0].compute()), binary(whole.compute()), strict=True):
        assert found.ne == pytest.approx(expected.ne, rel=1e-7)
        assert found.auc == expected.auc


def test_buckets_add_up_to_the_unbucketed() -> None:
    predictions = example()
    single, bucketed = sums_of([predictions]), sums_of([predictions], 50)
    assert bucketed.sums.shape == (50, 3, 8)
    assert (bucketed.sums[:, 0, 0] > 0).all()
    torch.testing.assert_close(bucketed.sums.sum(dim=0), single.sums[0], rtol=1e-7, atol=0)
    for found, expected in zip(binary(bucketed.compute()), binary(single.compute()), strict=True):
        assert found.ne == pytest.approx(expected.ne, rel=1e-7)


def test_a_row_keeps_its_bucket() -> None:
    """In any batch and any order."""
    predictions = example(400)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(3))
    shuffled = Predictions(*(value[order] for value in vars(predictions).values()))
    expected = sums_of([predictions], 64).sums
    torch.testing.assert_close(sums_of(in_batches(shuffled, 33), 64).sums, expected, rtol=1e-7, atol=0)


def test_reset() -> None:
    sums = sums_of([example()])
    sums.reset()
    sums.update(example(seed=5))
    fresh = sums_of([example(seed=5)])
    assert torch.equal(sums.sums, fresh.sums)
    assert torch.equal(sums.histogram, fresh.histogram)


@pytest.mark.parametrize("buckets", [1, 37])
def test_ranks_add_up_to_the_whole(rank_pool: RankPool, buckets: int) -> None:
    whole = sums_of([example()], buckets)
    results = rank_pool.run(2, runs.reduce_sums, buckets)
    for sums, histogram, metrics in results:
        np.testing.assert_allclose(sums, whole.sums.numpy(), rtol=1e-7)
        np.testing.assert_array_equal(histogram, whole.histogram.numpy())
        for found, expected in zip(metrics, binary(whole.compute()), strict=True):
            assert found.ne == pytest.approx(expected.ne, rel=1e-7)
            assert found.auc == expected.auc


def test_normalized_entropy_of_many_sums() -> None:
    sums: npt.NDArray[np.float64] = np.array([[10.0, 4, 3, 0], [10, 0, 3, 0], [10, 10, 3, 0], [0, 0, 0, 0]])
    found = normalized_entropy(np.stack([sums, 2 * sums]))
    assert found.shape == (2, 4)
    entropy = -0.4 * np.log(0.4) - 0.6 * np.log(0.6)
    np.testing.assert_allclose(found[:, 0], 0.3 / entropy)
    assert np.isnan(found[:, 1:]).all()
