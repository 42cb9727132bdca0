"""The data set of a run: inspected at the start, and compared when the run continues."""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dlrm_mtl.data.checks import check_labels_differ
from dlrm_mtl.data.dataset import Dataset, open_dataset, open_recorded
from dlrm_mtl.data.inspection import combine, inspect_values, recheck_shards, record_shards
from dlrm_mtl.data.shards import BadShard, DataRecord
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.files import read_json
from dlrm_mtl.location import Location, name_below
from dlrm_mtl.run_config import Check, OnBadShard
from dlrm_mtl.schema import read_schema
from dlrm_mtl.storage.node_cache import cached

DATA_RECORD = "data.json"
"""File of a run directory with the shards, and their checksums, at the run's start."""


class BadDataError(ValueError):
    """The data of a run cannot be used. Raised on every rank."""


@contextmanager
def bad_data() -> Iterator[None]:
    """Raises an error in the data as a :class:`BadDataError`."""
    try:
        yield
    except ValueError as error:
        raise BadDataError(str(error)) from error


@bad_data()
def open_run_data(
    data: Location,
    record: Path | None,
    on_bad_shard: OnBadShard,
    ranks: Ranks,
    split: str | None = None,
    cache: Path | None = None,
) -> tuple[Dataset, DataRecord | None]:
    """The data set by its schema and footers, and the record of the run's start; None if it starts now. Collective.

    Args:
        record: file of the record, which is there if the run has begun; None: it has not.
        split: whose features are needed, and nothing else, see :meth:`Schema.features_of`; by default all is.
        cache: directory for a copy of the data set on each node, which is read instead; None: no copy.

    Raises:
        BadDataError: see :func:`open_dataset` and :func:`open_recorded`.
    """
    # Rank 0 decides for all: a network file system may show a file to one rank before another.
    began = ranks.broadcast(ranks.run_on_all(lambda: _read_record(record) if record and ranks.is_first else None))

    def open_data() -> Dataset:
        place = data if cache is None else cached(data, cache)
        schema = read_schema(place) if split is None else read_schema(place).features_of(split)
        return open_dataset(place, on_bad_shard, schema) if began is None else open_recorded(place, began, schema)

    # A data set that one node does not see must not leave the others waiting for its ranks.
    return ranks.run_on_all(open_data), began


@bad_data()
def inspect_run_data(
    dataset: Dataset, began: DataRecord | None, check: Check, on_bad_shard: OnBadShard, ranks: Ranks
) -> tuple[Dataset, DataRecord]:
    """Inspects every shard; rank 0 names the bad ones. Collective.

    Returns:
        the data set without bad shards, and the record of the run's start; the same on every rank.

    Raises:
        BadDataError: a shard is bad, unless bad ones are skipped; a split has no good shard left, or only one class;
            ranks see different data sets.
    """
    rank, world_size = ranks.rank, ranks.world_size
    if began is not None:
        parts = ranks.gather(
            ranks.run_on_all(lambda: recheck_shards(dataset, began, check, on_bad_shard, rank, world_size))
        )
        dataset = dataset.losing(_joined(part.bad for part in parts))
        record = began.updated(shard for part in parts for shard in part.shards)
    else:
        dataset = dataset.without(_joined(ranks.gather(dataset.left_out)))
        if check == "full":
            bad = ranks.run_on_all(lambda: inspect_values(dataset, on_bad_shard, rank, world_size))
            dataset = dataset.without(_joined(ranks.gather(bad)))
        part = ranks.run_on_all(lambda: record_shards(dataset, check, on_bad_shard, rank, world_size))
        dataset, record = combine(dataset, ranks.gather(part))
        if check == "full":
            ranks.run_on_all(lambda: check_labels_differ(dataset) if ranks.is_first else None)
    _check_same(dataset, ranks)
    if ranks.is_first:
        for shard in (*dataset.left_out, *dataset.lost):
            print(shard, file=sys.stderr, flush=True)
    return dataset, record


def _read_record(file: Path) -> DataRecord | None:
    return DataRecord.from_json(read_json(file)) if file.is_file() else None


def _check_same(dataset: Dataset, ranks: Ranks) -> None:
    """Steps and tables follow from the data set, so ranks with different ones would wait for each other forever."""
    groups = [
        (split, name_below(dataset.directory, group.file), group.index, group.rows)
        for split, row_groups in dataset.row_groups.items()
        for group in row_groups
    ]
    first, *others = ranks.gather(hashlib.sha256(repr((dataset.schema, groups)).encode()).hexdigest())
    for rank, other in enumerate(others, 1):
        if other != first:
            raise ValueError(
                f"{dataset.directory}: rank {rank} sees another data set than rank 0; expected the same schema.json and"
                " shards on every host"
            )


def _joined(parts: Iterable[Iterable[BadShard]]) -> list[BadShard]:
    """What the ranks found, by rank."""
    return [shard for part in parts for shard in part]
