"""The data set writer: its counts, and that a data set is complete or missing."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.output.writer import DatasetWriter
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.schema import Schema, read_schema

FEATURES = [CategoricalFeature("item", 1000), CategoricalFeature("tags", 10, multi_hot=True)]
TASKS = [Task("click", "click"), Task("buy", "buy", given="click")]


def table(start: int, rows: int) -> pa.Table:
    """Row i holds item i and i % 3 tags; every second one is clicked, every fourth click bought."""
    numbers = range(start, start + rows)
    return pa.table(
        {
            "ignored": ["x"] * rows,
            "item": list(numbers),
            "tags": pa.array([[1] * (i % 3) for i in numbers], pa.list_(pa.int64())),
            "price": [i / 2 for i in numbers],
            "click": [i % 2 for i in numbers],
            "buy": [int(i % 8 == 1) for i in numbers],
        }
    )


def writer(directory: Path) -> DatasetWriter:
    return DatasetWriter(directory, "shop", FEATURES, ["price"], TASKS, row_group_rows=10, shard_rows=20)


def write(directory: Path, train_rows: int = 48) -> Schema:
    with writer(directory) as open_writer:
        open_writer.write("train", table(0, train_rows))
        open_writer.write("eval", table(500, 8))
        return open_writer.finish(source={"made": "here"}, bayes_ne={"buy": 0.5})


def test_rows_keep_their_order_across_row_groups_and_shards(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with writer(out) as open_writer:
        start = 0
        for rows in (7, 18, 1, 22, 0, 5):
            open_writer.write("train", table(start, rows))
            start += rows
        open_writer.write("eval", table(500, 8))
        schema = open_writer.finish(source={})
    assert [shard.rows for shard in schema.splits["train"]] == [20, 20, 13]
    files = [pq.ParquetFile(out / shard.file) for shard in schema.splits["train"]]
    assert [[file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] for file in files] == [
        [10, 10],
        [10, 10],
        [10, 3],
    ]
    written = pa.concat_tables(file.read() for file in files)
    expected = table(0, 53)
    for name in ("item", "tags", "price", "click", "buy"):
        assert written[name].to_pylist() == expected[name].to_pylist()
    assert written.schema.field("item").type == pa.int32()
    assert written.schema.field("tags").type == pa.list_(pa.field("element", pa.int32(), nullable=False))
    assert written.schema.field("price").type == pa.float32()
    assert written.schema.field("click").type == pa.int8()


def test_a_missing_value_is_refused(tmp_path: Path) -> None:
    rows = table(0, 5)
    column = pa.array([0.5, None, 1.0, 1.5, 2.0])
    with writer(tmp_path / "out") as open_writer, pytest.raises(ValueError, match="price"):
        open_writer.write("train", rows.set_column(rows.column_names.index("price"), "price", column))


def test_counts_come_from_training_rows(tmp_path: Path) -> None:
    schema = write(tmp_path / "out")
    click, buy = schema.tasks
    assert click.base_rate == 0.5
    assert buy.base_rate == 0.25
    assert (click.bayes_ne, buy.bayes_ne) == (None, 0.5)
    assert [feature.mean_length for feature in schema.categorical] == [1.0, 1.0]
    assert (schema.rows("train"), schema.rows("eval")) == (48, 8)
    assert read_schema(tmp_path / "out") == schema


def test_an_interrupted_data_set_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with writer(tmp_path / "out") as open_writer:
            open_writer.write("train", table(0, 48))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_data_set_leaves_the_old_one(tmp_path: Path) -> None:
    schema = write(tmp_path / "out")

    def interrupted() -> None:
        with writer(tmp_path / "out") as open_writer:
            open_writer.write("train", table(0, 16))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert read_schema(tmp_path / "out") == schema


def test_a_data_set_is_replaced_whole(tmp_path: Path) -> None:
    write(tmp_path / "out", train_rows=48)
    schema = write(tmp_path / "out", train_rows=16)
    assert read_schema(tmp_path / "out") == schema
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert files == ["encoding.json", "eval/part-00000.parquet", "schema.json", "train/part-00000.parquet"]


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(ValueError, match="is not a data set"):
        writer(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        writer(tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "irreplaceable"


def test_a_lossy_cast_is_refused(tmp_path: Path) -> None:
    rows = table(0, 4).set_column(1, "item", pa.array([0.0, 1.5, 2.0, 3.0]))
    with writer(tmp_path / "out") as open_writer, pytest.raises(ValueError, match="truncated"):
        open_writer.write("train", rows)


def test_one_class_is_refused(tmp_path: Path) -> None:
    rows = table(0, 16).set_column(4, "click", pa.array([1] * 16))
    with writer(tmp_path / "out") as open_writer:
        open_writer.write("train", rows)
        open_writer.write("eval", rows)
        with pytest.raises(ValueError, match=r"task 'click' has base rate 1\.0"):
            open_writer.finish(source={})
    assert list(tmp_path.iterdir()) == []
