"""Jobs of Slurm, from their submission to their end."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.entry_points.processes import environment
from tests.waiting import wait_for

LIMIT_S = 300
"""Upper limit in seconds of any wait."""
POLL_S = 0.1
ENDED = {"CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}


def call(where: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in a directory."""
    return subprocess.run(
        [str(word) for word in words], cwd=where, env=environment(), capture_output=True, text=True, timeout=LIMIT_S
    )


def output(where: Path, *words: str | Path) -> str:
    """Output of a command that must succeed."""
    process = call(where, *words)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


class Job:
    """A job submitted from a directory, which holds its logs.

    Args:
        number: its id in Slurm, with which a handle of TorchX ends.
    """

    def __init__(self, where: Path, number: str) -> None:
        self._where = where
        self.number = number.strip().rpartition("/")[2]
        self.handle = f"slurm://torchx/{self.number}"

    def facts(self, name: str) -> list[str]:
        """One of Slurm's facts about the job, by node for jobs of TorchX."""
        return re.findall(rf"\b{name}=(\S*)", output(self._where, "scontrol", "show", "job", self.number))

    @property
    def log(self) -> str:
        """The output of its script and tasks."""
        return "\n".join(path.read_text() for path in sorted(self._where.glob(f"slurm-{self.number}*")))

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition, which must come true before the job ends."""
        wait_for(condition, LIMIT_S, lambda: self.log, self.has_ended, POLL_S)

    def wait_for_accounting(self) -> None:
        """Waits until sacct, which TorchX uses, reports the job's end."""
        asking = ("sacct", "--allocations", "--noheader", "--parsable2", "--format=State", "-j", self.number)
        wait_for(lambda: ENDED.issuperset(output(self._where, *asking).split()), LIMIT_S, str, poll_s=POLL_S)

    def has_ended(self) -> bool:
        return ENDED.issuperset(self.facts("JobState"))

    def wait(self) -> tuple[set[str], set[str]]:
        """Waits for the job's end; its states and exit codes (``CODE:SIGNAL``)."""
        wait_for(self.has_ended, LIMIT_S, lambda: self.log, poll_s=POLL_S)
        return set(self.facts("JobState")), set(self.facts("ExitCode"))
