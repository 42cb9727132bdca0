"""Facts that a checkpoint records about its run, checked before they are used."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm_mtl.config import require
from dlrm_mtl.data.position import Position
from dlrm_mtl.recipe import parse_recipe
from dlrm_mtl.records import MayHoldMore, build


@dataclass(frozen=True)
class PlannedShard:
    """A shard of a table: rows and columns."""

    rank: int
    offset: tuple[int, int]
    size: tuple[int, int]


@dataclass(frozen=True)
class PlannedTable:
    """How a table was sharded."""

    table: str
    sharding_type: str
    compute_kernel: str
    shards: tuple[PlannedShard, ...]

    def __post_init__(self) -> None:
        require("shards", self.shards, len(self.shards) > 0, "at least one")


@dataclass(frozen=True)
class LoopProgress(MayHoldMore):
    """Progress of the training loop, see :class:`dlrm_mtl.training.loop.Progress`."""

    rounds: int
    qps: Mapping[str, tuple[float, ...]]
    log_bytes: Mapping[str, int]
    end_to_end_qps: Mapping[str, tuple[float, ...]] | None = None
    """None in a checkpoint of an earlier version."""

    def __post_init__(self) -> None:
        require("rounds", self.rounds, self.rounds >= 0, "0 or more")
        for values in (*self.qps.values(), *(self.end_to_end_qps or {}).values()):
            require("qps", values, all(0 < value < math.inf for value in values), "positive numbers")
        for arm, length in self.log_bytes.items():
            require(f"log_bytes of {arm}", length, length >= 0, "0 or more")


@dataclass(frozen=True)
class RunFacts(MayHoldMore):
    """Raises ValueError for impossible values."""

    step: int
    arms: tuple[str, ...]
    tasks: tuple[str, ...]
    world_size: int
    position: Mapping[str, Any]
    plan: tuple[PlannedTable, ...]
    first_step: int = 0
    """Steps of the run before those on its data set; 0 in a checkpoint of an earlier version."""
    progress: LoopProgress | None = None
    """None if another loop than that of :mod:`dlrm_mtl.training.loop` trained."""

    def __post_init__(self) -> None:
        require("arms", self.arms, 0 < len(self.arms) == len(set(self.arms)), "different arms")
        for arm in self.arms:
            parse_recipe(arm)
        require("tasks", self.tasks, 0 < len(self.tasks) == len(set(self.tasks)), "different tasks")
        require("first_step", self.first_step, 0 <= self.first_step <= self.step, f"0 to the step, {self.step}")
        require("world_size", self.world_size, self.world_size > 0, "at least 1")
        Position.from_json(self.position)
        if self.progress is not None:
            for name in ("qps", "log_bytes", "end_to_end_qps"):
                by_arm = getattr(self.progress, name)
                valid = by_arm is None or by_arm.keys() == set(self.arms)
                require(f"progress.{name}", by_arm, valid, "an entry for each arm")


def check_facts(path: Path, manifest: Mapping[str, Any]) -> None:
    """Checks the parts of a checkpoint's manifest that a run needs to continue or start from it.

    Raises:
        ValueError: something is missing or malformed.
    """
    try:
        build(RunFacts, manifest, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
