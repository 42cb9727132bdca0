"""The parts of a configuration: model, optimizers, sharding, reader, checkpoints. Free of torch, so that ``--help`` is
quick."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from dlrm_mtl.model_parts import INTERACTIONS, RELATIONS, SHARING
from dlrm_mtl.quoting import MAX_LENGTH, quote

TableOptimizer = Literal["rowwise_adagrad", "adagrad", "sgd", "adam"]
DenseOptimizer = Literal["adam", "adamw", "adagrad", "sgd"]
ShardingKind = Literal["table_wise", "column_wise", "table_column_wise", "row_wise", "table_row_wise", "grid_shard"]
"""torchrec's sharding types without data_parallel: replicated tables would leave the fused table optimizer."""
Kernel = Literal["fused", "fused_uvm_caching"]
"""torchrec's table kernels: in the device's memory, or in the host's behind a cache in the GPU's."""

DECAY_SHARE = 0.4
"""Share of a run's steps, its last ones, over which rates fall by default."""


def require(name: str, value: object, valid: bool, expected: str) -> None:
    """Raises a ValueError that names an option, its value and what was expected, unless ``valid``."""
    if not valid:
        raise ValueError(f"{name} is {quote(value, MAX_LENGTH)}, expected {expected}")


def require_positive(options: object, *names: str) -> None:
    """Raises a ValueError that names an option which is not positive, or a tuple that is empty or not all positive."""
    for name in names:
        value = getattr(options, name)
        if isinstance(value, tuple):
            require(name, value, len(value) > 0 and min(value) > 0, "positive numbers, at least one")
        else:
            require(name, value, value > 0, "a positive number")


def require_directory_of(file: Path | None, name: str = "json") -> None:
    """Raises a ValueError if the directory of a file for results is missing."""
    if file is not None:
        require(name, str(file), file.parent.is_dir(), "a file in a directory that is there")


@dataclass(frozen=True)
class ModelConfig:
    """The ranker: tables and bottom MLP, interaction, what the tasks share above it, one head per task."""

    interaction: str = "low_rank_dcn"
    """How table and dense embeddings meet: dot (pairwise inner products, DLRM), concat (side by side), dcn or
    low_rank_dcn (cross network with full or low-rank kernels, DCN v2), deepfm, projection (product of two learned
    projections), or a class of your own, MODULE:CLASS."""
    embedding_dim: int = 16
    """Embedding dimension D of the tables and of the bottom MLP's output; a multiple of 4."""
    embedding_dims: dict[str, int] = field(default_factory=dict)
    """Other dimensions for some tables, by table name; not with dot and projection, which need one dimension."""
    bottom_mlp: tuple[int, ...] = (64,)
    """Hidden layer sizes of the bottom MLP over the dense features; its output layer has size embedding_dim."""
    numeric_frequencies: int = 0
    """Each dense feature also gets an embedding of its own, from sines and cosines of its value at so many learned
    frequencies; 0: none."""
    numeric_deviation: float = 3.0
    """Standard deviation of these frequencies at the start, in cycles per unit of the dense value."""
    cross_layers: int = 2
    """Cross layers of dcn and low_rank_dcn."""
    cross_rank: int = 64
    """Rank of low_rank_dcn's kernels."""
    deep_mlp: tuple[int, ...] = (256, 128)
    """Layer sizes of deepfm's deep part."""
    projection_sizes: tuple[int, int] = (8, 8)
    """Widths F1, F2 of projection's two branches, in embeddings."""
    over_mlp: tuple[int, ...] = ()
    """Layer sizes of a shared MLP behind the interaction; none by default."""
    sharing: str = "bottom"
    """What the tasks share between the interaction and their heads: bottom (all heads read the same vector), mmoe (they
    read mixtures of shared experts), cgc or ple (of shared experts and their own, in one or several levels), adatt (of
    all tasks' experts), stem (of shared experts and all tasks', with embedding tables of each task), cross_stitch (of
    all tasks' layers), or a class of your own, MODULE:CLASS."""
    shared_experts: int = 4
    """Experts that all tasks read: of mmoe and stem, and at each level of cgc and ple."""
    own_experts: int = 1
    """Experts of each task, of stem and at each level of cgc, ple and adatt."""
    expert_mlp: tuple[int, ...] = (256, 128)
    """Layer sizes of each expert, and of a task's layers in cross_stitch."""
    gate_mlp: tuple[int, ...] = ()
    """Hidden layer sizes of the gates; none: a gate is one linear layer and a softmax."""
    levels: int = 2
    """Levels of ple, adatt and cross_stitch."""
    relation: str = "independent"
    """How the tasks' probabilities are related: independent, esmm (a task given another one is trained on the product
    with it, over all rows), esm2 (the same, with two ways to some tasks), or a class of your own, MODULE:CLASS."""
    head_mlp: tuple[int, ...] = (64,)
    """Hidden layer sizes of each task's head."""

    def __post_init__(self) -> None:
        for name, value, names in (
            ("interaction", self.interaction, INTERACTIONS),
            ("sharing", self.sharing, SHARING),
            ("relation", self.relation, RELATIONS),
        ):
            require(f"model.{name}", value, value in names or ":" in value, f"{', '.join(names)} or MODULE:CLASS")
        for name, dim in [("embedding_dim", self.embedding_dim), *self.embedding_dims.items()]:
            require(f"model.{name}", dim, dim > 0 and dim % 4 == 0, "a positive multiple of 4")
        for name in ("bottom_mlp", "deep_mlp", "projection_sizes", "over_mlp", "expert_mlp", "gate_mlp", "head_mlp"):
            sizes = getattr(self, name)
            require(f"model.{name}", sizes, all(size > 0 for size in sizes), "positive layer sizes")
        for name in ("deep_mlp", "expert_mlp"):
            require(f"model.{name}", getattr(self, name), len(getattr(self, name)) > 0, "at least one layer")
        valid = 0 <= self.numeric_frequencies <= 1024
        require("model.numeric_frequencies", self.numeric_frequencies, valid, "0 to 1024")
        valid = math.isfinite(self.numeric_deviation) and self.numeric_deviation > 0
        require("model.numeric_deviation", self.numeric_deviation, valid, "a positive number")
        require("model.cross_rank", self.cross_rank, self.cross_rank > 0, "at least 1")
        for name in ("cross_layers", "shared_experts", "own_experts", "levels"):  # many take long to build
            require(f"model.{name}", getattr(self, name), 0 < getattr(self, name) <= 1024, "1 to 1024")
        if self.interaction in ("dot", "projection"):
            others = {name: dim for name, dim in self.embedding_dims.items() if dim != self.embedding_dim}
            require(
                "model.embedding_dims",
                others,
                not others,
                f"none that differs from embedding_dim={self.embedding_dim} with interaction {self.interaction};"
                " concat, dcn, low_rank_dcn and deepfm take one dimension per table",
            )


@dataclass(frozen=True)
class ScheduleConfig:
    """A learning-rate schedule: linear warm-up, constant, linear decay, each in steps or as a share of the run. By
    default the rate falls over the last 40 % of a run; in a stream it stays."""

    warmup_steps: int = 0
    """Steps over which the rate rises linearly to its full value."""
    decay_start: int = 0
    """Step at which the decay begins; after the warm-up."""
    decay_steps: int = 0
    """Steps over which the rate falls linearly to final_scale times its full value, and stays."""
    final_scale: float = 0.02
    """Rate after the decay, relative to the full rate."""
    warmup_share: float = 0.0
    """Instead of warmup_steps: share of the run's steps."""
    decay_share: float | None = None
    """Instead of decay_start and decay_steps: share of the run's steps, its last ones; 0: no decay. By default 0.4
    where decay_steps are not given, and 0 in a stream."""

    def __post_init__(self) -> None:
        for name in ("warmup_steps", "decay_start", "decay_steps"):
            require(f"schedule.{name}", getattr(self, name), getattr(self, name) >= 0, "0 or more")
        for name in ("final_scale", "warmup_share", "decay_share"):
            value = getattr(self, name)
            require(f"schedule.{name}", value, value is None or 0 <= value <= 1, "a value in [0, 1]")
        for share, names in (("warmup_share", ("warmup_steps",)), ("decay_share", ("decay_start", "decay_steps"))):
            for name in names:
                valid = not (getattr(self, share) and getattr(self, name))
                require(f"schedule.{name}", getattr(self, name), valid, f"0 beside {share}={getattr(self, share)}")
        valid = self.warmup_share + (self.decay_share or 0.0) <= 1
        expected = f"at most {1 - self.warmup_share:g} beside warmup_share={self.warmup_share}"
        require("schedule.decay_share", self.decay_share, valid, expected)
        if self.decay_start and self.decay_share is None:
            require("schedule.decay_steps", self.decay_steps, self.decay_steps > 0, "1 or more beside decay_start")
        if self.decay_steps:
            valid = self.decay_start >= self.warmup_steps
            require("schedule.decay_start", self.decay_start, valid, f"{self.warmup_steps} (warmup_steps) or more")

    @property
    def has_shares(self) -> bool:
        return self.warmup_share > 0 or bool(self.decay_share)

    def in_steps(self, steps: int) -> "ScheduleConfig":
        """The same in a run of so many steps: shares rounded to steps.

        Raises:
            ValueError: warm-up and decay, one of them given in steps, overlap.
        """
        warmup, start, decay = self.warmup_steps, self.decay_start, self.decay_steps
        if self.warmup_share:
            warmup = round(self.warmup_share * steps)
        if self.decay_share:
            decay = round(self.decay_share * steps)
        elif self.decay_share is None and not decay:
            decay = min(round(DECAY_SHARE * steps), max(steps - warmup, 0))
        if not self.decay_steps:
            start = steps - decay if decay else 0
        if self.warmup_share and decay:  # Two halves of an odd number of steps are both rounded up.
            warmup = min(warmup, start)
        changes = {"warmup_steps": warmup, "decay_start": start, "decay_steps": decay}
        try:
            return replace(self, warmup_share=0.0, decay_share=0.0, **changes)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"in a run of {steps} steps {error}") from None


@dataclass(frozen=True)
class OptimizerConfig:
    """Table optimizers run fused inside backward; dense optimizers after it."""

    table: TableOptimizer = "rowwise_adagrad"
    """Optimizer of the embedding tables. adam needs a GPU."""
    table_lr: float = 0.08
    """Learning rate of the tables."""
    table_eps: float = 1e-8
    """Epsilon of the tables' Adagrad or Adam."""
    dense: DenseOptimizer = "adam"
    """Optimizer of everything else."""
    dense_lr: float = 4e-3
    """Learning rate of everything else."""
    weight_decay: float = 0.0
    """Weight decay of the dense optimizer."""
    clip_norm: float | None = None
    """Clip the norm of all dense gradients together to this value."""
    table_schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Schedule of table_lr."""
    dense_schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Schedule of dense_lr."""

    def __post_init__(self) -> None:
        for name in ("table_lr", "dense_lr", "table_eps"):
            value = getattr(self, name)
            require(f"optimizer.{name}", value, math.isfinite(value) and value > 0, "a positive number")
        require("optimizer.weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        if self.clip_norm is not None:
            require("optimizer.clip_norm", self.clip_norm, self.clip_norm > 0, "a positive number")

    @property
    def schedules(self) -> dict[str, ScheduleConfig]:
        """By the names of their options."""
        return {"table_schedule": self.table_schedule, "dense_schedule": self.dense_schedule}

    def of_stream(self) -> "OptimizerConfig":
        """With rates that stay, unless a decay is stated in steps."""
        stay = {name: replace(each, decay_share=0.0) for name, each in self.schedules.items()}
        return replace(self, **stay)  # type: ignore[arg-type]

    def in_steps(self, steps: int) -> "OptimizerConfig":
        """With schedules in steps, see :meth:`ScheduleConfig.in_steps`."""
        return replace(self, **{name: schedule.in_steps(steps) for name, schedule in self.schedules.items()})  # type: ignore[arg-type]


@dataclass(frozen=True)
class CommsConfig:
    """In which precision pooled embeddings and their gradients travel between GPUs. Coarser ones would turn gradients
    that are not finite into numbers, and fp16 loses small gradients."""

    forward: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of pooled embeddings."""
    backward: Literal["fp32", "bf16"] = "fp32"
    """Precision of their gradients."""


@dataclass(frozen=True)
class ShardingConfig:
    """What the sharding planner may choose, and how the shards are served."""

    kinds: tuple[ShardingKind, ...] = ()
    """Sharding types allowed; by default those of the device under which training does not depend on the plan."""
    reserve: float = 0.15
    """Share of each device's memory that is kept free of tables."""
    min_partition: int = 16
    """Smallest width of a column-wise shard."""
    kernels: tuple[Kernel, ...] = ()
    """Table kernels allowed; by default fused, and on GPUs fused_uvm_caching for what does not fit."""
    cache_load_factor: float | None = None
    """Share of a table's rows that the GPU's cache holds under fused_uvm_caching; 0.2 by default."""
    prefetch: bool = False
    """Bring a batch's rows into that cache while the batch before is trained."""
    comms: CommsConfig = field(default_factory=CommsConfig)

    def __post_init__(self) -> None:
        require("sharding.reserve", self.reserve, 0 <= self.reserve < 1, "a value in [0, 1)")
        require("sharding.min_partition", self.min_partition, self.min_partition > 0, "a positive number")
        if self.cache_load_factor is not None:
            valid = 0 < self.cache_load_factor <= 1
            require("sharding.cache_load_factor", self.cache_load_factor, valid, "a value in (0, 1]")


@dataclass(frozen=True)
class ReaderConfig:
    """How batches are read."""

    workers: int | None = None
    """Reader processes per rank; 0 reads in the training process. By default 2 per GPU, and none on a CPU, where
    reading takes a few percent of a step."""
    prefetch: int = 4
    """Batches that each reader process prepares ahead."""
    shuffle_rows: int = 131_072
    """Rows shuffled among each other in memory, per reader; row groups are shuffled over the whole split."""

    def __post_init__(self) -> None:
        require("reader.workers", self.workers, self.workers is None or self.workers >= 0, "0 or more")
        require("reader.prefetch", self.prefetch, self.prefetch > 0, "at least 1")
        require("reader.shuffle_rows", self.shuffle_rows, self.shuffle_rows > 0, "at least 1")


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written: at the end of the window (in a comparison, of all arms' windows) in which one falls
    due. A run that is told to end by SIGTERM writes one, too."""

    every_steps: int | None = None
    """Steps between checkpoints."""
    every_minutes: float | None = 10.0
    """Minutes between checkpoints; whichever of the two is due first."""
    keep: int = 2
    """Number of checkpoints that are kept, the newest ones."""

    def __post_init__(self) -> None:
        require(
            "checkpoint.every_steps", self.every_steps, self.every_steps is None or self.every_steps > 0, "1 or more"
        )
        minutes = self.every_minutes
        valid = minutes is None or (math.isfinite(minutes) and minutes > 0)
        require("checkpoint.every_minutes", minutes, valid, "a positive number")
        require("checkpoint.keep", self.keep, self.keep > 0, "1 or more")
