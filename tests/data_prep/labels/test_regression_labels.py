"""Regression labels and row weights of a log of one's own, against a plain computation."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.columns.labels import RegressionLabel, WeightColumn
from data_prep.columns.layout import DenseColumn, Layout
from data_prep.engine.options import IdOptions, StreamOptions
from data_prep.engine.split import SplitOptions
from data_prep.join import Options as JoinOptions
from data_prep.join import join
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import STREAM, Schema, read_schema
from tests.data_prep.labels.regression_log import LAYOUT, LogRow, rows, write
from tests.data_prep.logs import run_prepare
from tests.messages import naming

SPLIT = SplitOptions(train_rows="0:300", eval_rows="300:")
LOG = rows(400)


def watch(row: LogRow) -> float:
    return float(np.log1p(min(max(row.watch_ms, 0.0), 60_000.0) / 1000.0))


def moments(values: list[float], weights: list[float]) -> tuple[float, float]:
    mean = float(np.average(values, weights=weights))
    return mean, float(np.sqrt(np.average((np.array(values) - mean) ** 2, weights=weights)))


def task(schema: Schema, name: str) -> Task:
    return next(task for task in schema.tasks if task.name == name)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Schema, dict[str, pa.Table]]:
    directory = tmp_path_factory.mktemp("regression")
    schema = run_prepare(write(directory / "log.csv", LOG), directory / "out", LAYOUT, split=SPLIT)
    assert read_schema(directory / "out") == schema
    return schema, {split: pq.read_table(directory / "out" / split) for split in ("train", "eval")}


def test_labels_and_weights_are_columns_of_all_splits(prepared: tuple[Schema, dict[str, pa.Table]]) -> None:
    _, tables = prepared
    for split, log in (("train", LOG[:300]), ("eval", LOG[300:])):
        table = tables[split]
        assert [table.schema.field(name).type for name in ("watch", "paid", "weight")] == [pa.float32()] * 3
        assert table["watch"].to_pylist() == pytest.approx([watch(row) for row in log], rel=1e-6)
        assert table["paid"].to_pylist() == pytest.approx([row.price or 0.0 for row in log], rel=1e-6)
        assert table["weight"].to_pylist() == pytest.approx([row.survey / 4.0 for row in log], rel=1e-6)
        assert table["click"].to_pylist() == [row.click for row in log]
        assert "unused" not in table.column_names


def test_scales_are_of_the_training_rows_by_their_weights(prepared: tuple[Schema, dict[str, pa.Table]]) -> None:
    schema, train = prepared[0], LOG[:300]
    of_watch, of_paid = task(schema, "watch"), task(schema, "paid")
    expected = moments([watch(row) for row in train], [row.survey for row in train])
    assert (of_watch.mean, of_watch.deviation) == pytest.approx(expected, rel=1e-6)
    prices = [row.price for row in train if row.price is not None]
    assert (of_paid.mean, of_paid.deviation) == pytest.approx((np.mean(prices), np.std(prices)), rel=1e-6)
    assert (of_watch.kind, of_watch.huber, of_watch.unit, of_watch.weight, of_watch.base_rate) == (
        *("regression", 1.5, "ln(1 + seconds)", "weight"),
        None,
    )
    # The share of positives counts rows, whatever their weights.
    assert task(schema, "click").base_rate == pytest.approx(np.mean([row.click for row in train]))


def test_numbers_out_of_the_range_of_a_label_are_counted(prepared: tuple[Schema, dict[str, pa.Table]]) -> None:
    source = prepared[0].source
    for split, log in (("train", LOG[:300]), ("eval", LOG[300:])):
        out_of_range = sum(not 0.0 <= row.watch_ms <= 60_000.0 for row in log)
        assert out_of_range
        assert source["clipped"][split] == {"watch": out_of_range}
    assert source["defined"]["train"]["paid"] == source["positives"]["train"]["click"]
    assert source["positives"]["train"].keys() == {"click"}


def test_parquet_and_text_give_the_same(tmp_path: Path, prepared: tuple[Schema, dict[str, pa.Table]]) -> None:
    log = write(tmp_path / "log.parquet", LOG)
    schema = run_prepare(log, tmp_path / "out", replace(LAYOUT, columns=()), split=SPLIT)
    assert pq.read_table(tmp_path / "out" / "train").equals(prepared[1]["train"])
    assert schema.tasks == prepared[0].tasks


BAD = {
    "survey": ["-0.5", "nan", "inf", "", "x"],
    "watch_ms": ["nan", "1e39", "", "x"],
    "price": ["inf", "x"],
}


def with_value(row: LogRow, column: str, value: str) -> str:
    return ",".join(value if name == column else "" if own is None else str(own) for name, own in vars(row).items())


def test_bad_labels_and_weights_stop_the_run_with_their_row(tmp_path: Path) -> None:
    for column, values in BAD.items():
        for value in values:
            log = tmp_path / "log.csv"
            log.write_text(f"{LOG[0].line}\n{with_value(LOG[1], column, value)}\n{LOG[2].line}\n")
            with pytest.raises(ValueError, match=naming("log.csv", "line 2", f"column '{column}'", f"'{value}'")):
                run_prepare(log, tmp_path / "out", LAYOUT, split=SPLIT)


def test_bad_labels_and_weights_are_quarantined(tmp_path: Path) -> None:
    faults = [(column, value) for column, values in BAD.items() for value in values]
    lines = [with_value(LOG[number], *fault) for number, fault in enumerate(faults)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join([*lines, *(row.line for row in LOG), ""]))
    schema = run_prepare(log, tmp_path / "out", LAYOUT, split=SPLIT, quarantine=True)
    bad = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["column"], row["value"]) for row in bad] == faults
    assert schema.source["rows_quarantined"] == len(faults)


@pytest.mark.parametrize(("column", "value"), [("survey", -1.0), ("survey", None), ("watch_ms", float("inf"))])
def test_bad_values_of_parquet_files_are_named(tmp_path: Path, column: str, value: Any) -> None:
    log = write(tmp_path / "log.parquet", [LOG[0], replace(LOG[1], **{column: value}), *LOG[2:]])
    with pytest.raises(ValueError, match=naming("log.parquet", "line 2", f"column '{column}'", str(value))):
        run_prepare(log, tmp_path / "out", replace(LAYOUT, columns=()), split=SPLIT)


def day(directory: Path, number: int, **options: Any) -> Schema:
    log = write(directory / f"day{number}.csv", rows(60, seed=number))
    return run_prepare(log, directory / f"{number}", LAYOUT, stream=StreamOptions(stream=True, **options))


def test_days_keep_the_scale_of_the_first_and_joined_ones_have_their_own(tmp_path: Path) -> None:
    first = day(tmp_path, 0)
    later = [day(tmp_path, number, extend=tmp_path / f"{number - 1}") for number in (1, 2)]
    scale = moments([watch(row) for row in rows(60, 0)], [row.survey for row in rows(60, 0)])
    for schema in (first, *later):
        assert (task(schema, "watch").mean, task(schema, "watch").deviation) == pytest.approx(scale, rel=1e-6)
        assert schema.split_names == (STREAM,)
    joined = join(JoinOptions((tmp_path / "0", tmp_path / "1"), tmp_path / "2", tmp_path / "joined"))
    both = [*rows(60, 0), *rows(60, 1)]
    expected = moments([watch(row) for row in both], [row.survey for row in both])
    assert (task(joined, "watch").mean, task(joined, "watch").deviation) == pytest.approx(expected, rel=1e-6)
    assert task(joined, "click").base_rate == pytest.approx(np.mean([row.click for row in both]))


def test_the_encoding_of_another_data_set_keeps_the_scales_of_its_labels(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", LOG)
    first = run_prepare(log, tmp_path / "first", LAYOUT, split=SPLIT)
    ids = IdOptions(encoding=tmp_path / "first")
    other = run_prepare(write(tmp_path / "other.csv", rows(310, seed=7)), tmp_path / "other", LAYOUT, ids, SPLIT)
    for name in ("watch", "paid"):
        assert task(other, name) == task(first, name)
    assert task(other, "click").base_rate != task(first, "click").base_rate

    in_minutes = replace(LAYOUT.regression_labels[0], divisor=60_000.0)
    changed = replace(LAYOUT, regression_labels=(in_minutes, LAYOUT.regression_labels[1]))
    with pytest.raises(ValueError, match=naming("task 'watch'", "watch_ms / 60000", "watch_ms / 1000")):
        run_prepare(log, tmp_path / "changed", changed, ids, SPLIT)


def test_labels_that_are_all_equal_are_refused(tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", [replace(row, watch_ms=5.0) for row in LOG])
    with pytest.raises(ValueError, match=naming("task 'watch'", "deviation 0.0", "300 training rows")):
        run_prepare(log, tmp_path / "out", LAYOUT, split=SPLIT)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dense": (DenseColumn("watch_ms"),)}, ("column 'watch_ms'", "feature", "label 'watch'")),
        ({"tasks": (Task("watch", "watch"),)}, ("binary task 'watch'", "label 'watch'")),
        ({"tasks": (Task("click", "click", kind="regression"),)}, ("regression task 'click'", "label 'click'")),
        ({"tasks": (Task("paid", "paid", "watch", kind="regression"),)}, ("task 'paid'", "'watch'")),
        ({"tasks": (Task("click", "click", huber=1.0),)}, ("task 'click'", "huber")),
        ({"tasks": (Task("watch", "watch", kind="regression", huber=-1.0),)}, ("task 'watch'", "huber -1.0")),
        ({"tasks": (Task("click", "click", weight="age"),)}, ("task 'click'", "weight 'age'")),
        ({"weights": (WeightColumn("survey", "user"),)}, ("weight 'user'", "feature")),
        ({"weights": (WeightColumn("survey", "watch"),)}, ("weight 'watch'", "label")),
        ({"weights": (WeightColumn("user", "weight"),)}, ("column 'user'", "integer", "weight")),
    ],
)
def test_layouts_that_contradict_themselves_are_refused(changes: dict[str, Any], named: tuple[str, ...]) -> None:
    values: dict[str, Any] = {**vars(LAYOUT), **changes}
    with pytest.raises(ValueError, match=naming(*named)):
        Layout(**values)


def test_transformations_that_give_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=naming("label 'x'", "divisor 0.0")):
        RegressionLabel("x", divisor=0.0)
    with pytest.raises(ValueError, match=naming("label 'x'", "lowest 3", "highest 2")):
        RegressionLabel("x", lowest=3.0, highest=2.0)
    with pytest.raises(ValueError, match=naming("label 'x'", "1e-30")):
        RegressionLabel("x", divisor=1e-30).values(np.array([1.0, 1e30]))
    with pytest.raises(ValueError, match=naming("weight 'x'", "divisor nan")):
        WeightColumn("x", divisor=float("nan"))
