"""What training and comparison do before the first step: check, plan, write down."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchrec.distributed.types import ShardingPlan

from dlrm_mtl.config import RunConfig
from dlrm_mtl.data.checks import check_both_classes
from dlrm_mtl.data.dataset import Dataset, open_dataset, open_recorded
from dlrm_mtl.data.inspection import changed_shards, combine, inspect_shards
from dlrm_mtl.data.shards import DataRecord
from dlrm_mtl.distributed.processes import Ranks, process_group
from dlrm_mtl.distributed.quiet import silence_known_warnings
from dlrm_mtl.distributed.sharding import describe_plan, format_plan
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_directory import describe_environment, open_run_directory
from dlrm_mtl.training.arm import build_balancing, make_plan
from dlrm_mtl.training.trainer import Trainer

DATA_RECORD = "data.json"
"""The file of a run directory that says which shards, with which bytes, the run began with."""


@dataclass(frozen=True)
class Session:
    """A checked data set, a plan and a process group: all that trainers need."""

    config: RunConfig
    dataset: Dataset
    plan: ShardingPlan
    ranks: Ranks
    changed_options: Mapping[str, Any] = field(default_factory=dict)
    """Options that are other than when the run began."""

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.dataset.schema.task_names

    def trainer(self, arm: str, seed: int) -> Trainer:
        """A trainer of one arm. Collective."""
        return Trainer(self.config, parse_recipe(arm), seed, self.dataset, self.plan, self.ranks)


@contextmanager
def open_session(config: RunConfig, arms: Sequence[str]) -> Iterator[Session]:
    """Checks everything that can be checked before work begins, plans, and opens the run directory.

    Raises:
        ValueError: on every rank: whatever is wrong with versions, options, arms, data or run directory.
    """
    versions = check_versions()
    silence_known_warnings()
    began = _read_record(config.out / DATA_RECORD)
    dataset = open_recorded(config.data, began) if began else open_dataset(config.data, config.on_bad_shard)
    for arm in arms:
        build_balancing(parse_recipe(arm), dataset.schema.task_names)
    with process_group(config.timeout_s) as ranks:
        dataset, record = _inspect(dataset, began, config, ranks)
        plan = make_plan(config, dataset.schema, ranks)
        changed = ranks.agree(lambda: open_run_directory(config) if ranks.is_first else {})
        if ranks.is_first:
            for shard in (*dataset.left_out, *dataset.lost):
                print(shard, file=sys.stderr, flush=True)
            tables = describe_plan(plan)
            write_json(config.out / DATA_RECORD, record.as_json())
            write_json(config.out / "plan.json", tables)
            write_json(
                config.out / "environment.json",
                describe_environment(versions, ranks.world_size, str(ranks.device)),
            )
            print(format_plan(tables), flush=True)
        yield Session(config, dataset, plan, ranks, changed)


def _read_record(file: Path) -> DataRecord | None:
    """What the run in this directory began with; None if it begins now."""
    return DataRecord.from_json(read_json(file)) if file.is_file() else None


def _inspect(dataset: Dataset, began: DataRecord | None, config: RunConfig, ranks: Ranks) -> tuple[Dataset, DataRecord]:
    """Looks at all shards; the data set without the bad ones, and the record of the run's beginning. Collective."""
    policy, rank, world_size = config.on_bad_shard, ranks.rank, ranks.world_size
    if began is None:
        parts = ranks.gather(ranks.agree(lambda: inspect_shards(dataset, policy, rank, world_size)))
        good, record = combine(dataset, parts)
        ranks.agree(lambda: check_both_classes(good) if ranks.is_first else None)
        return good, record
    lost = ranks.gather(ranks.agree(lambda: changed_shards(dataset, began, policy, rank, world_size)))
    return dataset.losing(shard for part in lost for shard in part), began
