"""Bad data sets are named in one line, before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dlrm_mtl.data.checks import check_labels_differ, check_values
from dlrm_mtl.data.dataset import open_dataset
from tests.data.faults import destroy_a_page, rewrite, truncate
from tests.datasets import make_dataset
from tests.messages import naming
from tests.regression_data import make_regression_dataset


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "set")


def set_value(column: str, row: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        index = table.column_names.index(column)
        return table.set_column(index, column, pa.array(values, table.schema.field(column).type))

    return change


def test_a_good_data_set_passes(directory: Path) -> None:
    dataset = open_dataset(directory)
    check_values(dataset)
    check_labels_differ(dataset)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("user", 50, r"part-00001.parquet, row group 1, column 'user', row 6 is 50, expected an id in \[0, 49\]"),
        ("item", -1, r"column 'item', row 6 is -1, expected an id in \[0, 29\]"),
        ("history", [3, 30], r"column 'history', row 6 is 30, expected an id in \[0, 29\]"),
        ("click", 2, r"column 'click', row 6 is 2, expected a label in \[0, 1\]"),
        ("age", float("nan"), "column 'age', row 6 is nan, expected a finite number"),
        ("price", float("-inf"), "column 'price', row 6 is -inf, expected a finite number"),
        ("user", None, "column 'user', row 6 is null"),
        ("history", None, "column 'history', row 6 is null"),
    ],
)
def test_bad_values(directory: Path, column: str, value: Any, message: str) -> None:
    rewrite(directory / "train/part-00001.parquet", set_value(column, 70, value))
    with pytest.raises(ValueError, match=message):
        check_values(open_dataset(directory))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("play", float("nan"), "column 'play', row 6 is nan, expected a finite number"),
        ("play", None, "column 'play', row 6 is null"),
        ("value", float("inf"), "column 'value', row 6 is inf, expected a finite number"),
        ("importance", -0.5, r"column 'importance', row 6 is -0.5, expected a weight in \[0, inf\]"),
    ],
)
def test_bad_numbers_and_weights(tmp_path: Path, column: str, value: float | None, message: str) -> None:
    directory = make_regression_dataset(tmp_path / "set")
    rewrite(directory / "train/part-00000.parquet", set_value(column, 70, value))
    with pytest.raises(ValueError, match=message):
        check_values(open_dataset(directory))


@pytest.mark.parametrize("column", ["play", "importance"])
def test_numbers_and_weights_are_floats(tmp_path: Path, column: str) -> None:
    directory = make_regression_dataset(tmp_path / "set")
    rewrite(
        directory / "eval/part-00000.parquet",
        lambda table: table.set_column(table.column_names.index(column), column, table["click"]),
    )
    with pytest.raises(ValueError, match=naming(column, "int8", "floating-point")):
        open_dataset(directory)


@pytest.mark.parametrize(("column", "task"), [("play", "play"), ("value", "spend"), ("importance", "click")])
def test_a_task_without_two_labels_in_the_eval_split(tmp_path: Path, column: str, task: str) -> None:
    directory = make_regression_dataset(tmp_path / "set")
    check_labels_differ(open_dataset(directory))

    def zeros(table: pa.Table) -> pa.Table:
        place = table.column_names.index(column)
        return table.set_column(place, column, pa.array(np.zeros(len(table), np.float32)))

    rewrite(directory / "eval/part-00000.parquet", zeros)
    with pytest.raises(ValueError, match=naming(f"task '{task}'", "eval")):
        check_labels_differ(open_dataset(directory))


def test_large_finite_values_pass(directory: Path) -> None:
    rewrite(directory / "train/part-00000.parquet", lambda t: set_value("age", 1, 3e38)(set_value("age", 0, 3e38)(t)))
    check_values(open_dataset(directory))


def test_the_check_is_shared_by_ranks(directory: Path) -> None:
    rewrite(directory / "train/part-00000.parquet", set_value("user", 70, 99))  # the split's second row group
    dataset = open_dataset(directory)
    check_values(dataset, rank=0, world_size=2)
    with pytest.raises(ValueError, match="'user'"):
        check_values(dataset, rank=1, world_size=2)


def test_missing_column(directory: Path) -> None:
    rewrite(directory / "eval/part-00000.parquet", lambda table: table.drop_columns(["price"]))
    with pytest.raises(ValueError, match=naming("eval/part-00000.parquet", "'price'", "user, item")):
        open_dataset(directory)


@pytest.mark.parametrize(("column", "expected"), [("user", "an integer"), ("history", "a list of integers")])
def test_wrong_type(directory: Path, column: str, expected: str) -> None:
    def to_text(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index(column), column, pa.array(["x"] * len(table)))

    rewrite(directory / "eval/part-00000.parquet", to_text)
    with pytest.raises(ValueError, match=naming(f"column '{column}'", "string", expected)):
        open_dataset(directory)


def test_truncated_file(directory: Path) -> None:
    truncate(directory / "train/part-00001.parquet")
    with pytest.raises(ValueError, match=naming("part-00001.parquet", "truncated")):
        open_dataset(directory)


def test_corrupt_row_group_is_named(directory: Path) -> None:
    destroy_a_page(directory / "train/part-00001.parquet")
    with pytest.raises(ValueError, match=naming("part-00001.parquet, row group 3")):
        check_values(open_dataset(directory))


def test_missing_file(directory: Path) -> None:
    (directory / "train/part-00002.parquet").unlink()
    with pytest.raises(ValueError, match=naming("part-00002.parquet", "not found", "schema.json")):
        open_dataset(directory)


def test_row_count_differs_from_the_schema(directory: Path) -> None:
    rewrite(directory / "train/part-00000.parquet", lambda table: table.slice(1))
    with pytest.raises(ValueError, match=naming("part-00000.parquet", 255, "schema.json", 256)):
        open_dataset(directory)


def test_one_class_in_the_eval_split(directory: Path) -> None:
    def no_buys(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index("buy"), "buy", pa.array([0] * len(table), pa.int8()))

    rewrite(directory / "eval/part-00000.parquet", no_buys)
    with pytest.raises(ValueError, match=naming("task 'buy'", "class 1", "eval")):
        check_labels_differ(open_dataset(directory))


def test_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=naming("schema.json", "not found")):
        open_dataset(tmp_path)
    (tmp_path / "schema.json").write_text("{")
    with pytest.raises(ValueError, match=naming("schema.json", "JSON")):
        open_dataset(tmp_path)
