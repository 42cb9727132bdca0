"""Reading goes on where it stopped: the same batches on the same ranks, every row once on others."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mtl.config import ReaderConfig
from dlrm_mtl.data.batch import FILL, MultiTaskBatch
from dlrm_mtl.data.dataset import Dataset, RowGroup, open_dataset
from dlrm_mtl.data.order import shuffled
from dlrm_mtl.data.position import Position
from dlrm_mtl.data.reader import TrainingReader, batches
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.data.streams import Division, Stream
from tests.datasets import make_dataset
from tests.messages import naming

WORLD_SIZES = (1, 2, 3, 4)
GLOBAL_BATCH = 12
SEED = 5


def make_row_groups(sizes: list[int]) -> list[RowGroup]:
    firsts = np.cumsum([0, *sizes])
    return [RowGroup(Path("file"), index, size, int(firsts[index])) for index, size in enumerate(sizes)]


class Epoch:
    """Reads an epoch's rows without files: which row is in which batch."""

    def __init__(self, sizes: list[int], shuffle_rows: int, epoch: int = 0, padded: bool = False) -> None:
        padding = -sum(sizes) % GLOBAL_BATCH if padded else 0
        self.order = shuffled(make_row_groups(sizes), SEED, epoch, padding)
        self.epoch = epoch
        self.steps = (sum(sizes) + padding) // GLOBAL_BATCH
        self.division = Division(self.order, self.steps, GLOBAL_BATCH, shuffle_rows)

    def batches(self, position: Position, world_size: int, workers: int) -> list[list[list[int]]]:
        """Rows of each batch that is left, by rank and batch, workers in turns."""
        size = GLOBAL_BATCH // world_size
        found = []
        for streams in self.division.streams(position.phases, world_size, workers):
            by_worker = [self._cut(stream, size) for stream in streams]
            rounds = max(len(batches) for batches in by_worker)
            found.append([batches[turn] for turn in range(rounds) for batches in by_worker if turn < len(batches)])
        return found

    def _cut(self, stream: Stream, size: int) -> list[list[int]]:
        rows: list[int] = []
        for piece in stream:
            window = piece.window.start, piece.window.stop
            parts = [
                np.arange(part.row_group.first_row + part.start, part.row_group.first_row + part.stop)
                for part in self.order.parts(*window)
            ]
            places = np.concatenate([*parts, np.full(self.order.padding(*window), FILL)])
            shuffle = np.random.default_rng([SEED, self.epoch, *piece.window.key]).permutation(len(places))
            rows += places[shuffle][piece.first : piece.last].tolist()
        assert len(rows) % size == 0
        return [rows[start : start + size] for start in range(0, len(rows), size)]


any_sizes = st.lists(st.integers(1, 60), min_size=1, max_size=12)
row_group_sizes = any_sizes.filter(lambda sizes: sum(sizes) >= GLOBAL_BATCH)
layouts = st.tuples(st.sampled_from(WORLD_SIZES), st.integers(1, 4))


stops_of_a_run = st.lists(st.tuples(layouts, st.integers(0, 15)), max_size=5)


@given(row_group_sizes, st.integers(1, 80), stops_of_a_run, layouts)
@settings(max_examples=200, deadline=None)
def test_every_row_once_whatever_the_ranks_and_workers(
    sizes: list[int], shuffle_rows: int, stops: list[tuple[tuple[int, int], int]], last: tuple[int, int]
) -> None:
    epoch = Epoch(sizes, shuffle_rows)
    used = rows_used(epoch, sum(sizes), stops, last)
    assert len(set(used)) == len(used) == epoch.steps * GLOBAL_BATCH


@given(any_sizes, st.integers(1, 80), stops_of_a_run, layouts)
@settings(max_examples=100, deadline=None)
def test_padding_fills_up_batches_so_that_no_row_is_left_out(
    sizes: list[int], shuffle_rows: int, stops: list[tuple[tuple[int, int], int]], last: tuple[int, int]
) -> None:
    used = rows_used(Epoch(sizes, shuffle_rows, padded=True), sum(sizes), stops, last)
    assert sorted(used) == [FILL] * (-sum(sizes) % GLOBAL_BATCH) + list(range(sum(sizes)))


def rows_used(epoch: Epoch, rows: int, stops: list[tuple[tuple[int, int], int]], last: tuple[int, int]) -> list[int]:
    """Rows of an epoch in which ranks and workers change."""
    position, used = Position(), list[int]()
    for layout, steps in [*stops, (last, rows)]:
        left = epoch.steps - position.steps
        ranks = epoch.batches(position, *layout)
        assert [len(batches) for batches in ranks] == [left] * layout[0]
        steps = min(steps, left)
        used += [row for batches in ranks for batch in batches[:steps] for row in batch]
        position = position.advance(steps, *layout, epoch.steps)
        if position.epoch:
            break
    assert position == Position(1)
    return used


def test_padding_is_spread_evenly() -> None:
    order = shuffled(make_row_groups([50, 1, 49]), SEED, 0, padding=25)
    assert [order.padding(start, start + 25) for start in range(0, 125, 25)] == [5] * 5


@given(row_group_sizes, st.integers(1, 80), layouts, layouts, st.lists(st.integers(0, 9), min_size=2, max_size=5))
@settings(max_examples=200, deadline=None)
def test_the_same_ranks_and_workers_go_on_exactly(
    sizes: list[int], shuffle_rows: int, before: tuple[int, int], layout: tuple[int, int], stops: list[int]
) -> None:
    """Also after a phase on other ranks."""
    epoch = Epoch(sizes, shuffle_rows)
    begin = Position().advance(min(stops[0], epoch.steps - 1), *before, epoch.steps)
    uninterrupted = epoch.batches(begin, *layout)
    done = 0
    for stop in stops[1:]:
        done = min(done + stop, epoch.steps - begin.steps - 1)
        ranks = epoch.batches(begin.advance(done, *layout, epoch.steps), *layout)
        assert ranks == [batches[done:] for batches in uninterrupted]


def reference_rows(sizes: list[int], batch_size: int, rank: int, world_size: int, shuffle_rows: int) -> list[int]:
    """The order of a rank without reader processes, spelled out: a share of the shuffled row groups, gathered into
    windows, each shuffled."""
    first_rows = np.cumsum([0, *sizes])
    row_groups = [
        range(first_rows[i], first_rows[i + 1]) for i in np.random.default_rng([SEED, 1]).permutation(len(sizes))
    ]
    per_rank = sum(sizes) // (batch_size * world_size) * batch_size
    skip, take = rank * per_rank, per_rank
    windows: list[list[int]] = [[]]
    for group in row_groups:
        part = group[min(skip, len(group)) :]
        skip -= len(group) - len(part)
        part = part[:take]
        take -= len(part)
        windows[-1] += part
        if len(windows[-1]) >= shuffle_rows:
            windows.append([])
    return [
        window[i]
        for number, window in enumerate(windows)
        for i in np.random.default_rng([SEED, 1, rank, 0, number]).permutation(len(window))
    ]


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("shuffle_rows", [1, 100, 128, 1000])
def test_the_order_of_a_run_is_what_it_always_was(small_dataset: Path, world_size: int, shuffle_rows: int) -> None:
    dataset = open_dataset(small_dataset)
    sizes = [group.rows for group in dataset.row_groups["train"]]
    for rank in range(world_size):
        reader = TrainingReader(RowSource(dataset), 7, SEED, rank, world_size, shuffle_rows)
        reader.set_position(Position(1))
        rows = torch.cat([batch.rows for batch in reader]).tolist()
        assert rows == reference_rows(sizes, 7, rank, world_size, shuffle_rows)


def read(
    dataset: Dataset, position: Position, world_size: int, rank: int = 0, workers: int = 0
) -> Iterator[MultiTaskBatch]:
    """One rank's batches of the rest of an epoch, from the files."""
    source = RowSource(dataset)
    reader = TrainingReader(source, GLOBAL_BATCH // world_size, SEED, rank, world_size, 100, max(1, workers))
    reader.set_position(position)
    assert len(reader) == reader.steps - position.steps
    return batches(reader, ReaderConfig(workers=workers), pin_memory=False)


def assert_same(found: list[MultiTaskBatch], expected: list[MultiTaskBatch]) -> None:
    assert len(found) == len(expected)
    for left, right in zip(found, expected, strict=True):
        assert torch.equal(left.sparse.values(), right.sparse.values())
        assert torch.equal(left.sparse.lengths(), right.sparse.lengths())
        for name in ("dense", "labels", "weights", "rows"):
            assert torch.equal(getattr(left, name), getattr(right, name))


@pytest.mark.parametrize("stop", [1, 8, 24])
def test_batches_from_files_go_on_exactly(small_dataset: Path, stop: int) -> None:
    dataset = open_dataset(small_dataset)  # 50 steps
    for rank in range(2):
        uninterrupted = list(read(dataset, Position(1), 2, rank))
        position = Position(1).advance(stop, 2, 1, 50)
        assert_same(list(read(dataset, position, 2, rank)), uninterrupted[stop:])


def test_batches_from_worker_processes_go_on_exactly(small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    uninterrupted = list(read(dataset, Position(), 1, workers=2))
    assert len(uninterrupted) == 50
    position = Position().advance(13, 1, 2, 50)
    assert_same(list(read(dataset, position, 1, workers=2)), uninterrupted[13:])
    used = torch.cat([batch.rows for batch in [*uninterrupted[:13], *read(dataset, position, 1)]])
    assert sorted(used.tolist()) == list(range(600))


def test_on_from_two_ranks_to_one_to_three_across_an_epoch(small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    position = Position()
    used: list[list[torch.Tensor]] = [[], []]
    for world_size, steps in [(2, 13), (1, 30), (3, 20), (1, 37)]:
        left = steps
        while left:
            now = min(left, 50 - position.steps)
            for rank in range(world_size):
                used[position.epoch] += [b.rows for b in islice(read(dataset, position, world_size, rank), now)]
            position = position.advance(now, world_size, 1, 50)
            left -= now
    assert position == Position(2)
    for epoch in used:
        assert sorted(torch.cat(epoch).tolist()) == list(range(600))


def test_skipped_windows_are_not_read(tmp_path: Path) -> None:
    dataset = open_dataset(make_dataset(tmp_path / "set"))  # three files
    position = Position().advance(45, 1, 1, 50)
    rows = torch.cat([batch.rows for batch in read(dataset, position, 1)])
    groups = dataset.row_groups["train"]
    needed = {group.file for group in groups if ((rows - group.first_row) // group.rows == 0).any()}
    others = {group.file for group in groups} - needed
    assert others
    for file in others:
        Path(str(file)).unlink()
    assert torch.equal(torch.cat([batch.rows for batch in read(dataset, position, 1)]), rows)
    with pytest.raises(ValueError, match="cannot be read"):
        list(read(dataset, Position(), 1))


def test_positions_that_do_not_fit_are_refused(small_dataset: Path) -> None:
    dataset = open_dataset(small_dataset)
    with pytest.raises(ValueError, match=naming(50, 50)):
        read(dataset, Position().advance(50, 1, 1, 60), 1)
    with pytest.raises(ValueError, match=naming("5 ranks", "12 rows")):
        read(dataset, Position().advance(1, 5, 1, 50), 1)


def test_other_processes_than_the_position_counts_are_refused(small_dataset: Path) -> None:
    reader = TrainingReader(RowSource(open_dataset(small_dataset)), 12, SEED, 0, 1, 100, workers=2)
    with pytest.raises(RuntimeError, match=naming("1 reader processes", "2 reader streams")):
        next(iter(reader))
