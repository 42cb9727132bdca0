"""A training run by several jobs of Slurm, one after another."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.entry_points.launched import processes_of
from tests.faults.outcome import newest_step, read_outcome, read_starts

ROWS, BATCH, EPOCHS, EVERY = 2400, 48, 3, 10
OPTIONS = (
    f"--batch-size {BATCH} --epochs {EPOCHS} --log-every 5 --checkpoint.every-steps {EVERY} --timeout-s 60"
    " --model.head-mlp 16 --model.bottom-mlp 8 --reader.shuffle-rows 500 --arm multibalance:beta=0.1"
)


@dataclass(frozen=True)
class Run:
    """A run of 150 steps on two ranks.

    Attributes:
        where: the directory from which jobs are submitted, with the repository's components and launch files.
        undisturbed: the results of an uninterrupted run; empty for that run itself.
    """

    where: Path
    data: Path
    undisturbed: dict[str, Any]
    options: str = OPTIONS
    steps: int = EPOCHS * ROWS // BATCH

    @property
    def out(self) -> Path:
        return self.where / "run"

    @property
    def starts(self) -> list[dict[str, Any]]:
        return read_starts(self.out)

    @property
    def newest_step(self) -> int:
        """Step of its newest checkpoint."""
        return newest_step(self.out)

    def has_saved(self, start: int = 1) -> bool:
        """Whether it was started this many times and has written a checkpoint since."""
        return len(self.starts) == start and self.newest_step >= self.starts[-1]["step"] + EVERY

    def is_undisturbed(self) -> bool:
        return read_outcome(self.out) == self.undisturbed

    @property
    def processes(self) -> list[int]:
        """Process ids of its running launchers and ranks."""
        return processes_of(self.out)
