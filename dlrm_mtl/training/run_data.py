"""The data set of a run: inspected when the run begins, and when it goes on found to be the same, or not."""

import sys
from collections.abc import Iterable

from dlrm_mtl.config import RunConfig
from dlrm_mtl.data.checks import check_both_classes
from dlrm_mtl.data.dataset import Dataset, open_dataset, open_recorded
from dlrm_mtl.data.inspection import changed_shards, combine, fingerprint_shards, inspect_values
from dlrm_mtl.data.shards import BadShard, DataRecord
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.files import read_json

DATA_RECORD = "data.json"
"""The file of a run directory that says which shards, with which bytes, the run began with."""


def open_run_data(config: RunConfig) -> tuple[Dataset, DataRecord | None]:
    """The data set as its schema and footers tell, and the record of the run's beginning; None if it begins now.

    Raises:
        ValueError: see :func:`open_dataset` and :func:`open_recorded`.
    """
    file = config.out / DATA_RECORD
    if not file.is_file():
        return open_dataset(config.data, config.on_bad_shard), None
    record = DataRecord.from_json(read_json(file))
    return open_recorded(config.data, record), record


def inspect_run_data(
    dataset: Dataset, began: DataRecord | None, config: RunConfig, ranks: Ranks
) -> tuple[Dataset, DataRecord]:
    """Looks at every shard; rank 0 says which are bad. Collective.

    Returns:
        the data set without bad shards, and the record of the run's beginning; the same on every rank.

    Raises:
        ValueError: a bad shard, unless they are skipped; no good one is left in a split, or not both classes.
    """
    policy, rank, world_size = config.on_bad_shard, ranks.rank, ranks.world_size
    if began is not None:
        record = began
        lost = ranks.agree(lambda: changed_shards(dataset, record, policy, rank, world_size))
        dataset = dataset.losing(_joined(ranks.gather(lost)))
    else:
        dataset = dataset.without(_joined(ranks.gather(dataset.left_out)))
        bad = ranks.agree(lambda: inspect_values(dataset, policy, rank, world_size))
        dataset = dataset.without(_joined(ranks.gather(bad)))
        part = ranks.agree(lambda: fingerprint_shards(dataset, policy, rank, world_size))
        dataset, record = combine(dataset, ranks.gather(part))
        ranks.agree(lambda: check_both_classes(dataset) if ranks.is_first else None)
    if ranks.is_first:
        for shard in (*dataset.left_out, *dataset.lost):
            print(shard, file=sys.stderr, flush=True)
    return dataset, record


def _joined(parts: Iterable[Iterable[BadShard]]) -> list[BadShard]:
    """What the ranks found, by rank."""
    return [shard for part in parts for shard in part]
