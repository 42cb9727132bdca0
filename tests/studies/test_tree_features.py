"""Features for LightGBM: what each row sees of labels."""

from pathlib import Path

import numpy as np
import pytest

from dlrm_mtl.schema import read_schema
from dlrm_mtl.studies.trees.case import TreesCase, Visible
from dlrm_mtl.studies.trees.features import Features, build_features, read_rows
from dlrm_mtl.studies.trees.rates import outcomes_of, parts_of, rates, sums_by_id, training_rates

ROWS, IDS, TASKS, SMOOTHING = 2000, 30, 2, 5.0
IDS_OF_ROWS = np.random.default_rng(0).integers(IDS, size=ROWS)
WEIGHTS = np.ones((ROWS, TASKS), dtype=np.float32)
WEIGHTS[::3, 1] = 0


def labels(seed: int) -> "np.ndarray":
    return np.random.default_rng(seed).integers(2, size=(ROWS, TASKS)).astype(np.float32) * WEIGHTS


def of_training(labels: "np.ndarray", parts: "np.ndarray", visible: Visible) -> "np.ndarray":
    return training_rates(IDS_OF_ROWS, outcomes_of(labels, WEIGHTS), parts, IDS, visible, SMOOTHING)


@pytest.mark.parametrize("visible", ["earlier", "others"])
def test_no_row_sees_labels_of_its_own_part_or_of_later_ones(visible: Visible) -> None:
    parts = parts_of(ROWS, 4, visible)
    before = labels(1)
    for part in range(4):
        changed = before.copy()
        hidden = parts >= part if visible == "earlier" else parts == part
        changed[hidden] = labels(2)[hidden]
        mine = parts == part
        np.testing.assert_array_equal(
            of_training(before, parts, visible)[mine], of_training(changed, parts, visible)[mine]
        )
        seen = parts < part if visible == "earlier" else parts != part
        if seen.any():
            changed[seen] = labels(2)[seen]
            assert (of_training(before, parts, visible)[mine] != of_training(changed, parts, visible)[mine]).any()


@pytest.mark.parametrize("visible", ["earlier", "others"])
def test_rates_are_smoothed_means_over_the_rows_that_are_seen(visible: Visible) -> None:
    parts, known = parts_of(ROWS, 4, visible), labels(1).astype(np.float64)
    columns = of_training(known, parts, visible)
    for row in (5, 700, 1999):
        seen = parts < parts[row] if visible == "earlier" else parts != parts[row]
        if not seen.any():
            assert np.isnan(columns[row]).all()
            continue
        own = seen & (IDS_OF_ROWS[row] == IDS_OF_ROWS)
        means = known[seen].sum(axis=0) / WEIGHTS[seen].sum(axis=0)
        expected = (known[own].sum(axis=0) + SMOOTHING * means) / (WEIGHTS[own].sum(axis=0) + SMOOTHING)
        np.testing.assert_allclose(columns[row], [own.sum() / seen.sum(), *expected], rtol=1e-12)


def test_earlier_parts_are_consecutive_and_evaluation_rows_see_every_training_row() -> None:
    parts = parts_of(ROWS, 4, "earlier")
    assert (np.diff(parts) >= 0).all()
    assert np.bincount(parts).tolist() == [500] * 4
    known = labels(1)
    [columns] = rates(sums_by_id(IDS_OF_ROWS, outcomes_of(known, WEIGHTS), IDS), np.array([7]), SMOOTHING)
    own = IDS_OF_ROWS == 7
    assert columns[0] == pytest.approx(own.mean())
    assert columns[1] == pytest.approx((known[own, 0].sum() + SMOOTHING * known[:, 0].mean()) / (own.sum() + SMOOTHING))


@pytest.fixture(scope="module")
def features(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Features:
    case = TreesCase(
        small_dataset, small_dataset, tmp_path_factory.mktemp("out"), rates="earlier", categories=40, top_ids=2
    )
    schema = read_schema(small_dataset)
    rows = [read_rows(small_dataset, schema, split) for split in ("train", "eval")]
    return build_features(case, schema, *rows)


def test_columns_are_categories_lists_dense_values_and_rates(features: Features, small_dataset: Path) -> None:
    """The small data set: 30 items, 50 users, two lists, two dense values, three tasks."""
    assert features.description["categories"] == ["item"]
    assert features.description["lists"] == ["history", "tags"]
    assert features.description["rates"] == ["user"]
    assert features.train.shape == (600, 1 + 2 * 3 + 2 + 4)
    assert features.evaluation.shape == (200, 1 + 2 * 3 + 2 + 4)
    schema = read_schema(small_dataset)
    batch = read_rows(small_dataset, schema, "eval")
    np.testing.assert_array_equal(features.evaluation[:, 0], batch.sparse["item"].values().numpy())
    np.testing.assert_array_equal(features.evaluation[:, 7:9], batch.dense.numpy())
    tags = batch.sparse["tags"]
    np.testing.assert_array_equal(features.evaluation[:, 4], tags.lengths().numpy())
    train_tags = read_rows(small_dataset, schema, "train").sparse["tags"].values().numpy()
    most = int(np.bincount(train_tags).argmax())
    rows = np.repeat(np.arange(200), tags.lengths().numpy())
    expected = np.bincount(rows[tags.values().numpy() == most], minlength=200) > 0
    np.testing.assert_array_equal(features.evaluation[:, 5], expected)
