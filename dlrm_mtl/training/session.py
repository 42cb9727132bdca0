"""Preparation before the first step: checks, sharding plan, records."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torchrec.distributed.types import ShardingPlan

from dlrm_mtl.arms import SINGLE_TASK, check_arm, check_level
from dlrm_mtl.config import OptimizerConfig
from dlrm_mtl.data.context import Context
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.distributed.checkpoint_directory import read_manifest
from dlrm_mtl.distributed.plan_records import describe_plan, format_plan, summarize_plan
from dlrm_mtl.distributed.processes import Ranks, process_group
from dlrm_mtl.distributed.quiet import silence_known_warnings
from dlrm_mtl.distributed.topology import cluster_of
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.files import write_json
from dlrm_mtl.location import Location
from dlrm_mtl.models.dense_memory import memory_of
from dlrm_mtl.models.option_reads import OptionReads
from dlrm_mtl.models.ranker import DenseModules
from dlrm_mtl.monitoring.mirror import Mirror
from dlrm_mtl.monitoring.monitor import Monitor, monitored
from dlrm_mtl.quoting import quote
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.run_config import RunConfig
from dlrm_mtl.run_directory import describe_environment, open_run_directory
from dlrm_mtl.schema import SPLITS, Schema
from dlrm_mtl.training.arm import make_plan
from dlrm_mtl.training.machine import check_dense_memory, check_machine, machine_of
from dlrm_mtl.training.run_data import DATA_RECORD, BadDataError, inspect_run_data, open_run_data
from dlrm_mtl.training.single_task import SingleTaskTrainers
from dlrm_mtl.training.state.checkpoint_facts import check_facts
from dlrm_mtl.training.state.init_from import Start, fit_start, keep_label_units
from dlrm_mtl.training.trainer import Trainer
from dlrm_mtl.training_length import TrainingLength

ArmTrainer = Trainer | SingleTaskTrainers


@dataclass(frozen=True)
class Session:
    """A checked data set, a plan and a process group: all that trainers need."""

    config: RunConfig
    """With schedules in steps."""
    source: RowSource
    """The data set, to be read from."""
    plan: ShardingPlan
    ranks: Ranks
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Versions, machine and command of this start."""
    changed_options: Mapping[str, Any] = field(default_factory=dict)
    """Options that changed since the run began."""
    monitor: Monitor = field(default_factory=Monitor)

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.source.dataset.schema.task_names

    @property
    def length(self) -> TrainingLength:
        return TrainingLength.of(self.config, self.source.dataset.schema, self.ranks.world_size)

    def trainer(self, arm: str, seed: int) -> ArmTrainer:
        """The trainer of one arm. Collective."""
        recipe = parse_recipe(arm)
        if recipe.method == SINGLE_TASK:
            return SingleTaskTrainers(self.config, seed, self.source, self.plan, self.ranks)
        return Trainer(self.config, recipe, seed, self.source, self.plan, self.ranks)


@contextmanager
def open_session(config: RunConfig, arms: Sequence[str], mirror: Mirror | None = None) -> Iterator[Session]:
    """A session in a process group of its own, see :func:`prepare`."""
    check_versions()
    with process_group(config.timeout_s) as ranks, monitored(config, ranks, mirror) as monitor:
        yield prepare(config, arms, ranks, monitor=monitor)


def prepare(
    config: RunConfig,
    arms: Sequence[str],
    ranks: Ranks,
    splits: Sequence[str] = SPLITS,
    starts: Sequence[Start] = (),
    tasks: Collection[str] | None = None,
    monitor: Monitor | None = None,
) -> Session:
    """Checks everything that can be checked before work begins, plans, and opens the run directory. Collective.

    Args:
        splits: that the data set must have.
        starts: checkpoints from which the arms will start, beside ``init_from``.
        tasks: of the data set, those to train; by default all.
        monitor: of the job; by default nothing is seen of it but its files.

    Raises:
        ValueError: on every rank, for wrong versions, options, arms, data or run directory.
    """
    versions = check_versions()
    silence_known_warnings()
    ranks.run_on_all(lambda: check_machine(config, machine_of(ranks.device)))
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    dataset, began = open_run_data(
        config.data, config.out / DATA_RECORD, config.on_bad_shard, ranks, cache=config.cache
    )
    for split in splits:
        dataset.schema.shards_of(split)
    dataset = dataset if tasks is None else dataset.of_tasks(tasks)
    model = OptionReads.of(config.model)
    with torch.device("meta"):
        modules = DenseModules(dataset.schema, model)
    if ranks.is_first:
        for option, value in model.unread().items():
            print(f"model.{option}={value} has no effect: no part of this model reads it", flush=True)
    for recipe in map(parse_recipe, arms):
        check_level(recipe, any(True for _ in modules.shared.interaction.parameters()))
        check_arm(recipe, dataset.schema.task_names)
    Context.of(dataset.schema, config.segments)
    # Checkpoint, schedules and memory come before the data are read, which takes long.
    old_tasks = set[str]()
    for start in filter(None, (*starts, Start.of(config))):
        manifest = read_manifest(start.checkpoint)
        check_facts(start.checkpoint, manifest)
        # What cannot be compared is said when the checkpoint is loaded.
        fit_start(start, manifest, config.data, dataset.schema, arms)
        schema = keep_label_units(start.checkpoint, manifest, config.data, dataset.schema)
        dataset = replace(dataset, schema=schema)
        old_tasks |= set(manifest["tasks"])
    _check_new_tasks(config.data, dataset.schema, old_tasks)
    config.optimizer.in_steps(TrainingLength.of(config, dataset.schema, ranks.world_size).steps)
    plan = make_plan(config, dataset.schema, ranks)
    memory = cluster_of(ranks).usable_memory(reserve=0)
    available = memory.get("hbm", memory["ddr"])
    dense = memory_of(modules, config.optimizer.dense)
    ranks.run_on_all(lambda: check_dense_memory(dense, len(arms), config.optimizer.dense, available))
    dataset, record = inspect_run_data(dataset, began, config.check, config.on_bad_shard, ranks)
    # Bad shards make the run shorter.
    length = TrainingLength.of(config, dataset.schema, ranks.world_size)
    optimizer = config.optimizer.in_steps(length.steps)
    changed = ranks.run_on_all(lambda: open_run_directory(config) if ranks.is_first else {})
    environment = describe_environment(versions, ranks.world_size, str(ranks.device))
    if ranks.is_first:
        tables = describe_plan(plan)
        write_json(config.out / DATA_RECORD, record.as_json())
        write_json(config.out / "plan.json", tables)
        if not (config.out / "environment.json").exists():
            write_json(config.out / "environment.json", environment)
        print(format_plan(tables) if config.show_plan else summarize_plan(tables), flush=True)
        for line in _schedules(config.optimizer, optimizer, length.steps):
            print(line, flush=True)
        if warning := length.warning():
            print(warning, flush=True)
    source = RowSource(dataset, config.on_bad_shard)
    return Session(
        replace(config, optimizer=optimizer), source, plan, ranks, environment, changed, monitor or Monitor()
    )


def _schedules(stated: OptimizerConfig, in_steps: OptimizerConfig, steps: int) -> Iterator[str]:
    """A line for each schedule that was not stated in steps, but follows from the length of the run."""
    for name, schedule in in_steps.schedules.items():
        if replace(stated.schedules[name], decay_share=0.0) != schedule:
            parts = (f"{part} {getattr(schedule, part):,}" for part in ("warmup_steps", "decay_start", "decay_steps"))
            yield f"optimizer.{name}: {', '.join(parts)} of {steps:,} steps"


def _check_new_tasks(data: Location, schema: Schema, old_tasks: Collection[str]) -> None:
    """Raises BadDataError where a new task has one class only: there would be nothing to learn."""
    for task in schema.tasks:
        if task.name not in old_tasks and not task.labels_differ:
            raise BadDataError(
                f"{data}: task {quote(task.name)}, which is new, has base rate {task.base_rate}, expected both classes"
            )
