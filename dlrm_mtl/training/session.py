"""What training and comparison do before the first step: check, plan, write down."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torchrec.distributed.types import ShardingPlan

from dlrm_mtl.config import RunConfig
from dlrm_mtl.data.checks import check_both_classes, check_values
from dlrm_mtl.data.dataset import Dataset, open_dataset
from dlrm_mtl.distributed.processes import Ranks, process_group
from dlrm_mtl.distributed.quiet import silence_known_warnings
from dlrm_mtl.distributed.sharding import describe_plan, format_plan
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.files import write_json
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_directory import describe_environment, open_run_directory
from dlrm_mtl.training.arm import build_balancing, make_plan
from dlrm_mtl.training.trainer import Trainer


@dataclass(frozen=True)
class Session:
    """A checked data set, a plan and a process group: all that trainers need."""

    config: RunConfig
    dataset: Dataset
    plan: ShardingPlan
    ranks: Ranks

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
    with process_group(config.timeout_s) as ranks:
        # A data set that one node does not see must not leave the others waiting for its ranks.
        dataset = ranks.agree(lambda: open_dataset(config.data))
        for arm in arms:
            build_balancing(parse_recipe(arm), dataset.schema.task_names)
        ranks.agree(lambda: check_values(dataset, ranks.rank, ranks.world_size))
        ranks.agree(lambda: check_both_classes(dataset) if ranks.is_first else None)
        plan = make_plan(config, dataset.schema, ranks)
        ranks.agree(lambda: open_run_directory(config) if ranks.is_first else None)
        if ranks.is_first:
            tables = describe_plan(plan)
            write_json(config.out / "plan.json", tables)
            write_json(
                config.out / "environment.json",
                describe_environment(versions, ranks.world_size, str(ranks.device)),
            )
            print(format_plan(tables), flush=True)
        yield Session(config, dataset, plan, ranks)
