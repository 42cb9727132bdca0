"""Clusters and segments of evaluation rows, from the files to the batches."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from dlrm_mtl.data.checks import check_values
from dlrm_mtl.data.context import Context
from dlrm_mtl.data.dataset import Dataset, open_dataset
from dlrm_mtl.data.reader import EvaluationReader, TrainingReader
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.schema import read_schema
from dlrm_mtl.segments import Segment
from tests.data.faults import rewrite, write_text
from tests.datasets import SEGMENTS, cluster_of, make_dataset
from tests.messages import naming

ROWS = 200
HOURS = [row % 24 for row in range(ROWS)]
TABS = [row % 2 for row in range(ROWS)]
CLUSTERS = [cluster_of(row) for row in range(ROWS)]


def make(directory: Path) -> Path:
    """A data set with two eval shards."""
    return make_dataset(directory, eval_rows=ROWS, row_group_rows=32, with_context=True)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("context") / "set")


def read_context(
    dataset: Dataset, names: tuple[str, ...] = (), world_size: int = 1, batch_size: int = 33
) -> npt.NDArray[np.int64]:
    """The context of every row, in order."""
    found = np.zeros((ROWS, 0), np.int64)
    for rank in range(world_size):
        for batch in EvaluationReader(RowSource(dataset), batch_size, rank, world_size, names):
            assert batch.context.dtype == torch.int64
            if not found.size:
                found = np.zeros((ROWS, batch.context.shape[1]), np.int64)
            kept = batch.rows >= 0
            found[batch.rows[kept].numpy()] = batch.context[kept].numpy()
    return found


def test_the_schema_keeps_cluster_and_segments(directory: Path) -> None:
    schema = read_schema(directory)
    assert (schema.cluster, schema.segments) == ("visitor", SEGMENTS)
    columns = {"cluster:visitor", "segment:hour", "segment:tab"}
    for split, kept in (("train", set()), ("eval", columns)):
        file = directory / schema.splits[split][0].file
        assert set(pq.read_schema(file).names) & columns == kept


@pytest.mark.parametrize("world_size", [1, 3])
def test_rows_of_a_cluster_have_one_key_and_the_others_keys_of_their_own(directory: Path, world_size: int) -> None:
    dataset = open_dataset(directory)
    context = read_context(dataset, world_size=world_size)
    assert np.array_equal(context, read_context(dataset, batch_size=200))
    same_key = context[:, :1] == context[:, 0]
    expected = [[(a is not None and a == b) or i == j for j, b in enumerate(CLUSTERS)] for i, a in enumerate(CLUSTERS)]
    assert same_key.tolist() == expected
    assert context[:, 1].tolist() == HOURS
    assert context[:, 2].tolist() == TABS


@pytest.mark.parametrize("with_cluster", [True, False])
def test_keys_fall_evenly_into_buckets(directory: Path, tmp_path: Path, with_cluster: bool) -> None:
    """Bucket sizes of 100,000 rows or clusters have the variance of chance, signed or unsigned, whatever power of two
    or other number there is of them."""
    schema = open_dataset(directory if with_cluster else make_dataset(tmp_path / "set")).schema
    rows = np.arange(100_000)
    table = pa.table({"cluster:visitor": rows, "segment:hour": 0 * rows, "segment:tab": 0 * rows})
    keys = Context.of(schema).encode(schema, table, rows)[:, 0]
    for buckets in (64, 1000):
        for chosen in (keys % buckets, keys.view(np.uint64) % np.uint64(buckets)):
            sizes = np.bincount(chosen.astype(np.int64), minlength=buckets)
            assert 0.75 < sizes.var() / sizes.mean() < 1.33
            assert len(sizes) == buckets


def test_a_data_set_without_them_takes_rows_as_independent(tmp_path: Path) -> None:
    dataset = open_dataset(make_dataset(tmp_path / "set", eval_rows=ROWS))
    context = read_context(dataset)
    assert context.shape == (ROWS, 1)
    assert len(np.unique(context)) == ROWS
    assert Context.of(dataset.schema) == Context("", ())


def test_training_batches_have_no_context_and_all_batches_move_as_a_whole(directory: Path) -> None:
    source = RowSource(open_dataset(directory))
    batch = next(iter(TrainingReader(source, 20, 0, 0, 1, shuffle_rows=100)))
    assert batch.context.shape == (20, 0)
    assert next(iter(EvaluationReader(source, 20, 0, 1))).to(torch.device("meta")).context.is_meta


def test_segments_are_chosen_by_name(directory: Path) -> None:
    dataset = open_dataset(directory)
    context = Context.of(dataset.schema, ("tab", "item"))
    assert context == Context("visitor", (SEGMENTS[1], Segment("item", tuple(map(str, range(30))))))
    items = pa.concat_tables([pq.read_table(directory / shard.file) for shard in dataset.schema.splits["eval"]])["item"]
    found = read_context(dataset, ("tab", "item"))[:, 1:]
    assert found.tolist() == [[tab, item] for tab, item in zip(TABS, items.to_pylist(), strict=True)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("hours",), "no segment 'hours'; there is hour, tab, user, item"),
        (("tags",), "no segment 'tags'"),
        (("age",), "no segment 'age'"),
        (("hour", "hour"), "'hour' is named twice"),
    ],
)
def test_segments_that_are_not_there_are_refused(directory: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationReader(RowSource(open_dataset(directory)), 33, 0, 1, names)


def test_rows_of_a_lost_shard_are_padding(tmp_path: Path) -> None:
    dataset = open_dataset(make(tmp_path / "set"))
    write_text(tmp_path / "set" / "eval" / "part-00001.parquet")
    [*batches] = EvaluationReader(RowSource(dataset, "skip"), 50, 0, 1, ("hour", "user"))
    assert sum(int((batch.rows < 0).sum()) for batch in batches) == 72
    found = {
        int(row): int(hour) for batch in batches for row, hour in zip(batch.rows, batch.context[:, 1], strict=True)
    }
    assert [found[row] for row in range(128)] == HOURS[:128]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (
            "segment:hour",
            pa.array([24 if row == 70 else 0 for row in range(128)], pa.int32()),
            r"row group 1, .* row 6 is 24, expected a segment's code in \[0, 23\]",
        ),
        ("segment:hour", pa.array([-1] * 128, pa.int32()), "row 0 is -1"),
        ("segment:hour", pa.array([None] + [0] * 127, pa.int32()), "row 0 is null"),
        ("segment:hour", pa.array(["0"] * 128), "column 'segment:hour' has type string, expected an integer"),
        ("cluster:visitor", pa.array([0.5] * 128), "column 'cluster:visitor' has type double, expected an integer"),
    ],
)
def test_bad_columns(tmp_path: Path, column: str, values: pa.Array, message: str) -> None:
    directory = make(tmp_path / "set")
    file = directory / "eval" / "part-00000.parquet"
    rewrite(file, lambda table: table.set_column(table.column_names.index(column), column, values))
    with pytest.raises(ValueError, match=message):
        check_values(open_dataset(directory))


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    directory = make(tmp_path / "set")
    rewrite(directory / "eval" / "part-00001.parquet", lambda table: table.drop_columns(["segment:tab"]))
    with pytest.raises(ValueError, match=naming("part-00001.parquet", "column 'segment:tab'")):
        open_dataset(directory)
