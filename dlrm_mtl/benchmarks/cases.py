"""The options of each benchmark. Free of torch, so that ``--help`` is quick."""

import math
from dataclasses import dataclass
from pathlib import Path

from dlrm_mtl.config import require


@dataclass(frozen=True)
class Case:
    """What the benchmarks have in common: contenders take turns, one window each."""

    data: Path
    """Directory of the data set."""
    batch_size: int = 2048
    """Rows of a batch."""
    windows: int = 10
    """Timed windows of each contender, after one that is not counted."""
    seconds: float = 2.0
    """Length of a window in seconds."""
    json: Path | None = None
    """File for the results, beside the table on stdout."""

    def __post_init__(self) -> None:
        require("batch_size", self.batch_size, self.batch_size > 0, "a positive number")
        require("windows", self.windows, self.windows > 0, "at least 1")
        require("seconds", self.seconds, math.isfinite(self.seconds) and self.seconds > 0, "a positive number")
        if self.json is not None:
            require("json", str(self.json), self.json.parent.is_dir(), "a file in a directory that is there")


@dataclass(frozen=True)
class ReaderCase(Case):
    """The reader alone, in this process, against the default model's training step fed from memory: how many times
    what the trainer consumes does one core read?"""

    seconds: float = 2.0
    """Length of a window in seconds; it should hold several of the reader's shuffles, of 131,072 rows each."""


@dataclass(frozen=True)
class CheckpointCase(Case):
    """Training of two arms while a checkpoint is written, against the same without: what share of QPS do checkpoints
    cost? Under torchrun, of all ranks together."""

    batch_size: int = 2048
    """Rows of the global batch, over all ranks together."""
    windows: int = 30
    """Timed windows with a checkpoint, and as many without, after one of each that is not counted."""
    seconds: float = 1.5
    """Length of a window in seconds, in whole turns of the arms. A checkpoint should be written within it: a window
    ends only when its checkpoint is written, too."""
    directory: Path = Path(".")
    """Checkpoints are written below it, to the disk that it is on, and removed in the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("directory", str(self.directory), self.directory.is_dir(), "a directory that is there")
