"""Shards lost in the middle of a run: padding in their places, all other rows as before."""

import os
import resource
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest

from dlrm_mtl.config import ReaderConfig
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.footers import read_footer
from dlrm_mtl.data.reader import EvaluationReader, TrainingReader, batches
from dlrm_mtl.data.shards import BadShard
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.run_config import OnBadShard
from tests.data.faults import Fault, destroy_a_page, rewrite, truncate
from tests.datasets import make_dataset
from tests.messages import mentions, naming

LOST = range(256, 512)
"""Rows of the shard that is lost, in both splits."""

FEATURES = ("user", "item", "history", "tags")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "set", eval_rows=600)


def reader_of(source: RowSource, split: str) -> TrainingReader | EvaluationReader:
    if split == "eval":
        return EvaluationReader(source, 16, 0, 1)
    return TrainingReader(source, 16, 0, 0, 1, shuffle_rows=64)


def flat(found: list[MultiTaskBatch]) -> list[tuple[object, ...]]:
    """Everything that a batch holds, row by row."""
    rows = []
    for batch in found:
        bags = [batch.sparse[key].to_dense() for key in FEATURES]
        for index in range(len(batch)):
            ids = tuple(tuple(feature[index].tolist()) for feature in bags)
            values = (tuple(getattr(batch, name)[index].tolist()) for name in ("dense", "labels", "weights"))
            rows.append((int(batch.rows[index]), ids, *values))
    return rows


PADDING = (-1, ((0,), (0,), (), ()), (0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def assert_padded(found: list[MultiTaskBatch], expected: list[MultiTaskBatch], first: int = 0) -> int:
    """Checks that the lost shard's rows are padding from row ``first`` on, and others what they were. Returns their
    number."""
    assert [len(batch) for batch in found] == [len(batch) for batch in expected]
    padded = 0
    for index, (row, was) in enumerate(zip(flat(found), flat(expected), strict=True)):
        is_lost = index >= first and was[0] in LOST
        assert row == (PADDING if is_lost else was)
        padded += is_lost
    return padded


@pytest.mark.parametrize("split", ["train", "eval"])
def test_a_lost_shard_is_padding_from_the_beginning(
    directory: Path, split: str, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = open_dataset(directory)
    expected = list(reader_of(RowSource(dataset), split))
    lost = BadShard(split, f"{split}/part-00001.parquet", 256, "changed")
    found = list(reader_of(RowSource(dataset.losing([lost])), split))  # the file could still be read
    assert assert_padded(found, expected) > 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("fault", [Path.unlink, truncate, destroy_a_page])
def test_a_shard_that_vanishes_is_padding_from_there_on(
    directory: Path, split: str, fault: Fault, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = open_dataset(directory)
    expected = list(reader_of(RowSource(dataset), split))
    source = RowSource(dataset, "skip")
    running = iter(reader_of(source, split))
    found = list(islice(running, 1))
    path = directory / split / "part-00001.parquet"
    fault(path)
    found += list(running)
    rows = [row[0] for row in flat(found)]
    first = next((index for index, row in enumerate(rows) if row == -1), len(rows))
    assert first < len(rows)
    assert assert_padded(found, expected, first) > 0
    again = list(reader_of(source, split))
    assert assert_padded(again, expected) >= rows.count(-1)
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{path}, row group ")
    assert "cannot be read (" in line
    assert mentions(line, "leaves out", "256 rows")


@pytest.mark.parametrize("split", ["train", "eval"])
def test_a_shard_that_vanishes_stops_the_run(directory: Path, split: str) -> None:
    running = iter(reader_of(RowSource(open_dataset(directory), "stop"), split))
    next(running)
    (directory / split / "part-00001.parquet").unlink()
    with pytest.raises(ValueError, match=naming(f"{split}/part-00001.parquet", "row group")):
        list(running)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.slice(1, 70), r"row group 1: 6 rows, expected 64; the file has changed"),
        (lambda table: table.slice(0, 60), r"row group 0: 60 rows, expected 64; the file has changed"),
        (lambda table: table.drop_columns("age"), "row group 0: column 'age' is missing; the file has changed"),
    ],
)
def test_a_file_replaced_by_another_is_noticed(directory: Path, change: object, message: str) -> None:
    dataset = open_dataset(directory)
    rewrite(directory / "eval/part-00001.parquet", change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        list(EvaluationReader(RowSource(dataset), 16, 0, 1))


@pytest.mark.parametrize("on_bad_shard", ["stop", "skip"])
def test_errors_come_out_of_reader_processes_as_they_are(
    directory: Path, on_bad_shard: OnBadShard, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = open_dataset(directory)
    expected = list(reader_of(RowSource(dataset), "train"))
    for group in dataset.row_groups["train"]:
        if group.first_row in LOST:
            Path(str(group.file)).unlink(missing_ok=True)
    running = batches(reader_of(RowSource(dataset, on_bad_shard), "train"), ReaderConfig(workers=1), pin_memory=False)
    if on_bad_shard == "skip":
        assert assert_padded(list(running), expected) > 0
        assert capfd.readouterr().err.count("part-00001.parquet, row group") == 1
    else:
        with pytest.raises(ValueError, match=r"^[^\n]*part-00001.parquet, row group \d[^\n]*$"):
            list(running)


def test_padding_joins_shards_of_any_integer_width(directory: Path) -> None:
    def widen(table: pa.Table) -> pa.Table:
        wide = {"user": pa.int64(), "item": pa.int16(), "history": pa.large_list(pa.int64()), "click": pa.int64()}
        fields = [field.with_type(wide.get(field.name, field.type)) for field in table.schema]
        return table.cast(pa.schema(fields))

    before = flat(list(reader_of(RowSource(open_dataset(directory)), "train")))
    rewrite(directory / "train/part-00000.parquet", widen)
    dataset = open_dataset(directory)
    assert flat(list(reader_of(RowSource(dataset), "train"))) == before
    lost = dataset.losing([BadShard("train", "train/part-00001.parquet", 256, "changed")])
    padded = flat(list(reader_of(RowSource(lost), "train")))
    assert padded == [PADDING if row[0] in LOST else row for row in before]


def test_too_few_open_files_lose_no_shard(directory: Path) -> None:
    dataset = open_dataset(directory)
    [shard, *_] = dataset.schema.splits["eval"]
    free = os.dup(0)
    os.close(free)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            list(EvaluationReader(RowSource(dataset, "skip"), 16, 0, 1))
        with pytest.raises(OSError, match="Too many open files"):
            read_footer(directory / shard.file, shard.rows, dataset.schema, "eval")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
