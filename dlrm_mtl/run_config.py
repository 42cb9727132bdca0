"""The configuration of a run: typed, documented, complete. Free of torch, so that ``--help`` is quick.

Every field can be set on the command line (``--model.interaction dcn``) and in a TOML or JSON file (``--config``)."""

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from dlrm_mtl.config import (
    CheckpointConfig,
    ModelConfig,
    OptimizerConfig,
    ReaderConfig,
    ShardingConfig,
    require,
    require_positive,
)
from dlrm_mtl.location import Location
from dlrm_mtl.task_times import TaskTimes
from dlrm_mtl.task_weights import parse_task_weights

OnBadShard = Literal["stop", "skip"]
Check = Literal["full", "footers", "none"]


@dataclass(frozen=True)
class TrainingConfig:
    """What all training has in common."""

    data: Location | tuple[Location, ...]
    """Data sets."""
    out: Path
    """Run directory: configuration, plan, environment, metrics, results."""
    batch_size: int = 1024
    """Rows of the global batch, over all ranks together; larger ones are for millions of rows."""
    segments: tuple[str, ...] = ()
    """Divisions of the evaluation rows that metrics are given for: those that the data set keeps, or categorical
    features of one id per row and at most 256 ids. By default all that it keeps."""
    log_every: int = 10
    """Steps of a window: one line of metrics.jsonl, one QPS value. In a comparison arms take turns by windows."""
    warmup_windows: int = 1
    """Windows at the start that QPS leaves out."""
    loss_reduction: Literal["batch", "defined"] = "batch"
    """A task's loss: its sum over the defined rows, by row weight, divided by all rows of the batch (the paper's
    definition) or by the weights of the defined rows of the global batch."""
    bf16: bool = False
    """Run the dense part under bfloat16 autocast."""
    tf32: bool = False
    """On a GPU, multiply float32 matrices in TF32."""
    on_bad_shard: OnBadShard = "stop"
    """What to do with a shard that is corrupt, missing or changed: stop the run, or leave its rows out, counted and
    reported."""
    check: Check = "full"
    """What is looked at before training. full: every value and byte of a shard, once; a run that goes on reads again
    only what has changed in size or time since. footers: rows and columns, by the files' footers. none: the same when
    a run begins, since rows are counted there, and nothing when it goes on."""
    cache: Path | None = None
    """Directory on the node's own disk for a copy of the data, which is made once and shared by the node's ranks."""
    max_nonfinite_steps: int = 10
    """Steps in a row skipped because a loss or gradient is not finite, after which the run stops."""
    show_plan: bool = False
    """Print where each table lies; by default a summary. plan.json has all of it."""
    timeout_s: int = 600
    """Seconds after which a collective that does not complete ends the job."""
    logger: str | None = None
    """MODULE:CLASS that gets the numbers of the logs, too: dlrm_mtl.monitoring.mlflow:MLflow, or one of your own."""
    prometheus: Path | None = None
    """FILE.prom to which the run's status is written, for node exporter's textfile collector."""
    mirror: Location | None = None
    """Directory or URI to which the run directory is copied as checkpoints become whole, and from which a node that has
    none restores it."""
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    sharding: ShardingConfig = field(default_factory=ShardingConfig)
    reader: ReaderConfig = field(default_factory=ReaderConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "log_every", "max_nonfinite_steps", "timeout_s")
        require("logger", self.logger, self.logger is None or ":" in self.logger, "MODULE:CLASS")
        valid = self.prometheus is None or self.prometheus.suffix == ".prom"
        require("prometheus", self.prometheus, valid, "a file FILE.prom; others are not collected")
        require("warmup_windows", self.warmup_windows, self.warmup_windows >= 0, "0 or more")

    def local_batch_size(self, world_size: int) -> int:
        """Rows of one rank's part of the global batch.

        Raises:
            ValueError: the ranks do not divide the batch.
        """
        valid = self.batch_size % world_size == 0
        require("batch_size", self.batch_size, valid, f"a multiple of the {world_size} ranks")
        return self.batch_size // world_size


@dataclass(frozen=True)
class RunConfig(TrainingConfig):
    """Passes over one data set. The defaults of batch size, model and optimizer were chosen for the control's NE on
    validation rows of three data sets, see docs/control.md."""

    data: Location
    """Directory of the data set."""
    epochs: int = 1
    """Passes over the training split."""
    max_steps: int | None = None
    """Stop after this many steps."""
    init_from: Path | None = None
    """A checkpoint (RUN/checkpoints/step-N) to start from, of a run that may have other tasks: everything shared and
    the tasks of the same names keep weights, optimizer and balancer state; steps, schedules and data begin anew."""
    eval_every: int | None = None
    """Steps between evaluations; there is one at the end in any case."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "epochs")
        for name in ("max_steps", "eval_every"):
            value = getattr(self, name)
            require(name, value, value is None or value > 0, "a positive number")


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Trains one arm."""

    arm: str = "multibalance"
    """Balancing method with options, METHOD:OPTION=VALUE,..."""
    seed: int = 0
    """Seed of initial weights and data order."""


@dataclass(frozen=True)
class SeedsConfig(TrainingConfig):
    """Trains from several seeds."""

    seeds: int = 3
    """Number of seeds."""
    task_weights: tuple[str, ...] = ()
    """Weights of the average over tasks, TASK=WEIGHT of every task; equal by default. They change no training."""
    keep_models: bool = False
    """Keep each seed's last checkpoint, which holds the trained models of all arms."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("seeds", self.seeds, self.seeds > 0, "at least 1")
        parse_task_weights(self.task_weights)


@dataclass(frozen=True)
class ArmsConfig(SeedsConfig):
    """Trains several arms, from the same initial weights and on the same rows."""

    arms: tuple[str, ...] = ("mean", "multibalance")
    """Balancing methods with options, METHOD:OPTION=VALUE,...; the first one is the control."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("arms", self.arms, len(self.arms) > 1, "the control and at least one other arm")
        require("arms", self.arms, len(set(self.arms)) == len(self.arms), "different arms")


@dataclass(frozen=True)
class CompareConfig(RunConfig, ArmsConfig):
    """Trains several arms side by side: same plan, initial weights and data order, interleaved window by window."""

    first_seed: int = 0
    """The first of the seeds first_seed, first_seed + 1, ...; separate jobs with other seeds, or other arms, are joined
    by dlrm_mtl.report."""
    planned_seeds: int | None = None
    """Where separate jobs train parts of the seeds 0, 1, ...: how many all of them will train. By default this job's
    seeds are all that is planned, and a join with others says that seeds were added."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("first_seed", self.first_seed, self.first_seed >= 0, "0 or more")
        if self.planned_seeds is not None:
            end = self.first_seed + self.seeds
            require("planned_seeds", self.planned_seeds, self.planned_seeds >= end, f"{end} or more, this job's seeds")

    @property
    def own_seeds(self) -> range:
        """The seeds that this job trains."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def seeds_planned(self) -> range:
        """The seeds that were planned, of this job and of those that are joined with it."""
        return self.own_seeds if self.planned_seeds is None else range(self.planned_seeds)


@dataclass(frozen=True)
class ExperimentConfig(RunConfig, SeedsConfig):
    """Runs an experiment: one or more comparisons, in folders of the run directory."""

    seeds: int = 5
    """Number of seeds: 0, 1, ..."""
    trials: int = 20
    """Random static weightings of the experiment ``search``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("trials", self.trials, self.trials > 0, "at least 1")

    def comparison(self, out: Path, arms: tuple[str, ...]) -> CompareConfig:
        """The comparison of some arms under these options."""
        return CompareConfig(**{**shared_options(self, CompareConfig), "out": out, "arms": arms})


@dataclass(frozen=True)
class StreamConfig(ArmsConfig):
    """Trains several arms day by day: each day's rows are evaluated, then trained on."""

    data: tuple[Location, ...]
    """Directories of the days' data sets (the split stream), in order; each continues the one before. More may be
    appended when the run has finished."""
    keep_models: bool = False
    """Keep the last checkpoints of every day; by default those of the newest."""
    task_begins: tuple[str, ...] = ()
    """First days of tasks, TASK=TIME: not in the days that start before."""
    task_ends: tuple[str, ...] = ()
    """Last days of tasks, TASK=TIME: not in the days that start later."""
    on_bad_day: OnBadShard = "stop"
    """What to do with a day whose data are bad, or on which an arm's losses or gradients stay not finite: stop the run,
    or go on without the day, from the models before it, reported."""
    publish: str | None = None
    """Arm whose model is exported after each day, with the changes since the day before (first seed)."""
    every: int = 7
    """Days from one full export to the next."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "every")
        require("data", self.data, len(self.data) > 0, "at least one data set")
        valid = self.publish is None or self.publish in self.arms
        require("publish", self.publish, valid, f"one of the arms {', '.join(self.arms)}")
        TaskTimes.of(self.task_begins, self.task_ends)
        for name, schedule in self.optimizer.schedules.items():
            for share in ("warmup_share", "decay_share"):
                value = getattr(schedule, share)
                require(f"optimizer.{name}.{share}", value, not value, "steps instead: a stream's length is not known")

    def day(self, data: Location, out: Path, tasks: Collection[str]) -> CompareConfig:
        """The run of one day: a comparison.

        Args:
            tasks: of the day, which alone have weights.
        """
        weights = {task: weight for task, weight in parse_task_weights(self.task_weights).items() if task in tasks}
        own = {
            "data": data,
            "out": out,
            "optimizer": self.optimizer.of_stream(),
            "task_weights": tuple(f"{task}={weight}" for task, weight in weights.items()),
        }
        return CompareConfig(**{**shared_options(self, CompareConfig), **own})


def shared_options(config: TrainingConfig, kind: type[TrainingConfig]) -> dict[str, Any]:
    """The options that another kind of configuration has, too."""
    return {item.name: getattr(config, item.name) for item in fields(kind) if hasattr(config, item.name)}
