"""Options of predictions. Free of torch, so that ``--help`` is quick."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dlrm_mtl.config import ShardingConfig, require_positive
from dlrm_mtl.location import Location
from dlrm_mtl.run_config import Check


@dataclass(frozen=True)
class PredictOptions:
    """Writes the predictions of every task for every row of a split, in its order, to parquet files."""

    checkpoint: Path
    """A checkpoint (RUN/checkpoints/step-N), or a run directory, whose newest one is taken."""
    data: Location
    """Directory of the data set. Only the features of the split are read, and the columns to carry over: labels may be
    missing."""
    out: Path
    """Directory of the predictions: predictions.json and parts/part-00000.parquet, ... It appears when they are whole;
    until then they are in OUT.partial, from where the same command goes on."""
    arm: str | None = None
    """The arm of a comparison, as it was given to --arms; by default the only one, or the control."""
    split: Literal["eval", "train", "stream"] = "eval"
    """Split of the data set."""
    columns: tuple[str, ...] = ()
    """Columns of the data set's files to carry over, such as a row id, a time, a label or cluster:user."""
    rows_per_file: int = 1 << 18
    """Rows of a file, at least: it ends where a row group of the data set does."""
    batch_size: int = 4096
    """Rows that a rank predicts at once."""
    check: Check = "full"
    """What is looked at before predictions begin; see the same option of dlrm_mtl.train."""
    cache: Path | None = None
    """Directory on the node's own disk for a copy of the data, which is made once and shared by the node's ranks."""
    timeout_s: int = 600
    """Seconds after which a collective that does not complete ends the job."""
    sharding: ShardingConfig = field(default_factory=ShardingConfig)

    def __post_init__(self) -> None:
        require_positive(self, "rows_per_file", "batch_size", "timeout_s")
