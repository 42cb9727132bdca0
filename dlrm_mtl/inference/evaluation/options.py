"""The options of an evaluation. Free of torch, so that ``--help`` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dlrm_mtl.config import ShardingConfig, require, require_positive
from dlrm_mtl.location import Location
from dlrm_mtl.run_config import Check


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluates trained models on a data set: the metrics of a comparison for each task, with intervals over rows, and
    the gains of every further model over the first."""

    checkpoint: tuple[Path, ...]
    """One or two checkpoints: RUN (its newest), RUN/seed-S or RUN/checkpoints/step-N."""
    data: Location
    """Directory of the data set."""
    out: Path
    """File for all numbers, beside the tables on stdout: JSON."""
    arm: tuple[str, ...] = ()
    """Arms, as they were given to the run; by default its first. Of one checkpoint any number is evaluated; of two, one
    arm of each, or the same of both."""
    split: Literal["eval", "train", "stream"] = "eval"
    """The rows to evaluate on. Those of the train split have no users, and no segments but --segments."""
    segments: tuple[str, ...] = ()
    """Divisions of the rows that NE is given for: those that the data set keeps, or categorical features of one id per
    row and at most 256 ids. By default all that it keeps."""
    batch_size: int = 2048
    """Rows that a rank predicts at a time."""
    check: Check = "full"
    """What is looked at before the evaluation; see the same option of dlrm_mtl.train."""
    cache: Path | None = None
    """Directory on the node's own disk for a copy of the data, which is made once and shared by the node's ranks."""
    timeout_s: int = 600
    """Seconds after which a collective that does not complete ends the job."""
    sharding: ShardingConfig = field(default_factory=ShardingConfig)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "timeout_s")
        require("checkpoint", [str(path) for path in self.checkpoint], len(self.checkpoint) in (1, 2), "one or two")
        models = [f"{path}: {arm or 'its first arm'}" for path, arm in self.models]
        require("checkpoint, arm", models, len(set(models)) == len(models), "different models")
        if len(self.checkpoint) == 2:
            require("arm", self.arm, len(self.arm) < 3, "at most one arm of each of the two checkpoints")

    @property
    def models(self) -> tuple[tuple[Path, str | None], ...]:
        """Checkpoint and arm of each model; None: the checkpoint's first arm."""
        arms: tuple[str | None, ...] = self.arm or (None,)
        if len(self.checkpoint) == 1:
            return tuple((self.checkpoint[0], arm) for arm in arms)
        first, second = self.checkpoint
        return (first, arms[0]), (second, arms[-1])
