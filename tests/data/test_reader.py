"""Readers: every row once, equal counts on every rank, whatever the ranks, workers and row groups."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mtl.config import ReaderConfig
from dlrm_mtl.data.assembly import Rows
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.dataset import Dataset, RowGroup, open_dataset
from dlrm_mtl.data.order import Order, evaluation_share
from dlrm_mtl.data.position import Position
from dlrm_mtl.data.reader import EvaluationReader, PartsReader, TrainingReader, batches, reader_streams
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.meaning import Fingerprints
from tests.datasets import make_dataset
from tests.messages import naming


def training_rows(
    dataset: Dataset, world_size: int, batch_size: int, workers: int = 0, seed: int = 0, epoch: int = 0
) -> list[list[torch.Tensor]]:
    """Row positions of each batch, by rank."""
    config = ReaderConfig(workers=workers)
    ranks = []
    for rank in range(world_size):
        streams = reader_streams(config, on_gpu=False)
        reader = TrainingReader(RowSource(dataset), batch_size, seed, rank, world_size, 100, streams)
        reader.set_position(Position(epoch))
        ranks.append([batch.rows for batch in batches(reader, config, pin_memory=False)])
    return ranks


@pytest.mark.parametrize("world_size", [1, 2, 3, 20])
def test_training_uses_every_row_at_most_once_in_equal_batches(small_dataset: Path, world_size: int) -> None:
    dataset = open_dataset(small_dataset)  # 600 rows in 10 row groups: fewer than 20 ranks
    ranks = training_rows(dataset, world_size, batch_size=7)
    steps = 600 // (7 * world_size)
    assert [len(batches) for batches in ranks] == [steps] * world_size
    assert all(len(rows) == 7 for batches in ranks for rows in batches)
    used = torch.cat([rows for batches in ranks for rows in batches])
    assert len(used.unique()) == len(used) == 7 * world_size * steps
    assert TrainingReader(RowSource(dataset), 7, 0, 0, world_size, 100).rows_dropped == 600 - len(used)


def test_reader_workers_use_the_same_rows(small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    alone, shared = (training_rows(dataset, 1, 50, workers)[0] for workers in (0, 2))
    assert len(alone) == len(shared) == 12
    assert torch.equal(torch.cat(alone).sort().values, torch.cat(shared).sort().values)


def test_order_follows_seed_and_epoch(small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)

    def order(seed: int, epoch: int) -> list[int]:
        rows: list[int] = torch.cat(training_rows(dataset, 1, 50, seed=seed, epoch=epoch)[0]).tolist()
        return rows

    first = order(0, 0)
    assert first == order(0, 0)
    assert first != sorted(first)
    assert first != order(1, 0)
    assert first != order(0, 1)
    assert sorted(first) == list(range(600))


def test_rows_are_shuffled_across_row_groups(small_dataset: Path) -> None:
    rows = training_rows(open_dataset(small_dataset), 1, 50)[0][0]
    assert len((rows // 64).unique()) > 1


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_uses_every_row_once_with_equal_batch_counts(small_dataset: Path, world_size: int) -> None:
    dataset = open_dataset(small_dataset)
    per_rank = [list(EvaluationReader(RowSource(dataset), 33, rank, world_size)) for rank in range(world_size)]
    assert len({len(batches) for batches in per_rank}) == 1
    assert [len(EvaluationReader(RowSource(dataset), 33, 0, world_size))] == [len(per_rank[0])]
    rows = torch.cat([batch.rows for batches in per_rank for batch in batches])
    assert rows[rows >= 0].tolist() == list(range(200))


def test_more_ranks_than_eval_rows_pad_without_counting(tmp_path: Path) -> None:
    dataset = open_dataset(make_dataset(tmp_path / "tiny", rows=100, eval_rows=20))
    per_rank = [list(EvaluationReader(RowSource(dataset), 4, rank, 32)) for rank in range(32)]
    assert [len(batches) for batches in per_rank] == [1] * 32
    padding = [batch for batches in per_rank for batch in batches if (batch.rows < 0).any()]
    assert len(padding) == 12
    assert all(not batch.weights.any() for batch in padding)


def test_no_batch_reaches_from_one_part_into_the_next(small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    reader = PartsReader(RowSource(dataset), "train", [range(40, 90), range(200, 210)], 20, 6)
    expected = [range(40, 60), range(60, 80), range(80, 90), range(200, 210), [-1], [-1]]
    assert [batch.rows.tolist() for batch in reader] == [list(rows) for rows in expected]
    assert len(reader) == 6


def source_rows(dataset: Dataset, split: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(dataset.directory / shard.file) for shard in dataset.schema.splits[split]])


def assert_equals_source(batch: MultiTaskBatch, source: pa.Table) -> None:
    expected = source.take(batch.rows.numpy()).to_pydict()
    for feature in ("user", "item", "history", "tags"):
        bags = batch.sparse[feature].to_dense()
        found = [bag.tolist() for bag in bags]
        assert found == [ids if isinstance(ids, list) else [ids] for ids in expected[feature]]
    assert np.array_equal(batch.dense.numpy(), np.stack([expected["age"], expected["price"]], 1).astype(np.float32))
    click = np.array(expected["click"])
    assert np.array_equal(batch.weights.numpy(), np.stack([np.ones_like(click), np.ones_like(click), click], 1))
    assert np.array_equal(batch.labels.numpy(), np.stack([expected["click"], expected["like"], expected["buy"]], 1))


def test_batches_hold_what_the_files_hold(small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    train, evaluation = source_rows(dataset, "train"), source_rows(dataset, "eval")
    for batch in TrainingReader(RowSource(dataset), 45, 0, 1, 2, shuffle_rows=100):
        assert_equals_source(batch, train)
    for batch in EvaluationReader(RowSource(dataset), 45, 1, 2):
        assert_equals_source(batch, evaluation)


def test_numbers_and_weights_of_rows(regression_dataset: Path) -> None:
    dataset = open_dataset(regression_dataset)
    source = source_rows(dataset, "train")
    for batch in TrainingReader(RowSource(dataset), 45, 0, 1, 2, shuffle_rows=100):
        rows = source.take(batch.rows.numpy())
        labels = np.stack([rows[name] for name in ("click", "play", "buy", "spend")], 1)
        importance, click, value = (np.asarray(rows[name]) for name in ("importance", "click", "value"))
        weights = np.stack([importance, importance, click, click * value], 1)
        assert np.array_equal(batch.weights.numpy(), weights)
        assert np.array_equal(batch.labels.numpy(), labels * (weights > 0))


@pytest.mark.parametrize(("cardinality", "dtype"), [(1 << 31, torch.int32), ((1 << 31) + 1, torch.int64)])
def test_ids_are_as_wide_as_they_must_be(cardinality: int, dtype: torch.dtype, small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    first, *others = dataset.schema.categorical
    wide = (replace(first, cardinality=cardinality), *others)
    schema = replace(dataset.schema, categorical=wide, fingerprints=Fingerprints())
    rows = Rows(schema, *RowSource(dataset).padding(3))
    assert rows.batch(0, 2).sparse.values().dtype == dtype


def test_undefined_labels_are_masked(tmp_path: Path, small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    for batch in EvaluationReader(RowSource(dataset), 50, 0, 1):
        assert torch.equal(batch.weights[:, 2], batch.labels[:, 0])
        assert not (batch.labels * (1 - batch.weights)).any()


def test_batch_moves_as_a_whole(small_dataset: Path) -> None:
    batch = next(iter(EvaluationReader(RowSource(open_dataset(small_dataset)), 8, 0, 1)))
    moved = batch.to(torch.device("meta"), non_blocking=True)
    assert moved.dense.is_meta
    assert moved.sparse.values().is_meta
    assert moved.rows.is_meta
    assert len(batch) == 8


def test_split_smaller_than_a_global_batch_is_refused(small_dataset: Path) -> None:
    with pytest.raises(ValueError, match=naming(600, 800)):
        TrainingReader(RowSource(open_dataset(small_dataset)), 400, 0, 0, 2, 100)


def row_groups(sizes: list[int]) -> Iterator[RowGroup]:
    first = 0
    for index, size in enumerate(sizes):
        yield RowGroup(Path("file"), index, size, first)
        first += size


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.data())
def test_segments_cover_exactly_the_range(sizes: list[int], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, sum(sizes)))
    stop = data.draw(st.integers(start, sum(sizes)))
    parts = Order(list(row_groups(sizes))).parts(start, stop)
    covered = [
        row
        for part in parts
        for row in range(part.row_group.first_row + part.start, part.row_group.first_row + part.stop)
    ]
    assert covered == list(range(start, stop))


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 9))
def test_evaluation_shares_partition_all_rows(rows: int, batch_size: int, world_size: int) -> None:
    shares = [evaluation_share(rows, batch_size, rank, world_size) for rank in range(world_size)]
    assert shares[0].start == 0
    assert shares[-1].stop == rows
    assert all(left.stop == right.start for left, right in itertools.pairwise(shares))
    assert len({share.batches for share in shares}) == 1
    assert all(0 <= share.batches - -(-(share.stop - share.start) // batch_size) <= 1 for share in shares)
