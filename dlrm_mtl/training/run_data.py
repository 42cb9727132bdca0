"""The data set of a run: inspected at the start, and compared when the run continues."""

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from dlrm_mtl.config import RunConfig
from dlrm_mtl.data.checks import check_both_classes
from dlrm_mtl.data.dataset import Dataset, open_dataset, open_recorded
from dlrm_mtl.data.inspection import combine, inspect_values, recheck_shards, record_shards
from dlrm_mtl.data.shards import BadShard, DataRecord
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.files import read_json

DATA_RECORD = "data.json"
"""File of a run directory with the shards, and their checksums, at the run's start."""


def open_run_data(config: RunConfig, ranks: Ranks) -> tuple[Dataset, DataRecord | None]:
    """The data set by its schema and footers, and the record of the run's start; None if it starts now. Collective.

    Raises:
        ValueError: see :func:`open_dataset` and :func:`open_recorded`.
    """
    # Rank 0 decides for all: a network file system may show a file to one rank before another.
    began = ranks.broadcast(
        ranks.run_on_all(lambda: _read_record(config.out / DATA_RECORD) if ranks.is_first else None)
    )

    def open_data() -> Dataset:
        return open_dataset(config.data, config.on_bad_shard) if began is None else open_recorded(config.data, began)

    # A data set that one node does not see must not leave the others waiting for its ranks.
    return ranks.run_on_all(open_data), began


def inspect_run_data(
    dataset: Dataset, began: DataRecord | None, config: RunConfig, ranks: Ranks
) -> tuple[Dataset, DataRecord]:
    """Inspects every shard as thoroughly as ``config.check``; rank 0 names the bad ones. Collective.

    Returns:
        the data set without bad shards, and the record of the run's start; the same on every rank.

    Raises:
        ValueError: a shard is bad, unless bad ones are skipped; a split has no good shard left, or only one class;
            ranks see different data sets.
    """
    check, policy, rank, world_size = config.check, config.on_bad_shard, ranks.rank, ranks.world_size
    if began is not None:
        found = ranks.gather(ranks.run_on_all(lambda: recheck_shards(dataset, began, check, policy, rank, world_size)))
        dataset = dataset.losing(_joined(part.bad for part in found))
        record = began.updated(shard for part in found for shard in part.shards)
    else:
        dataset = dataset.without(_joined(ranks.gather(dataset.left_out)))
        if check == "full":
            bad = ranks.run_on_all(lambda: inspect_values(dataset, policy, rank, world_size))
            dataset = dataset.without(_joined(ranks.gather(bad)))
        part = ranks.run_on_all(lambda: record_shards(dataset, check, policy, rank, world_size))
        dataset, record = combine(dataset, ranks.gather(part))
        if check == "full":
            ranks.run_on_all(lambda: check_both_classes(dataset) if ranks.is_first else None)
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
        (split, str(group.file.relative_to(dataset.directory)), group.index, group.rows)
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
