"""What a power analysis begins with: the noise of every gain."""

from collections.abc import Sequence
from dataclasses import dataclass

from dlrm_mtl.statistics.power import Noise


@dataclass(frozen=True)
class GainNoise:
    """The noise of an arm's NE gain (%), on a task or averaged over tasks."""

    arm: str | None
    """None before any comparison."""
    task: str | None
    """None: the average over tasks."""
    noise: Noise
    rows_known: bool
    """Whether the noise of other rows is known."""
    rows: int | None
    """Evaluation rows for which the task is defined; of the average, the most of any task. None in a comparison whose
    seeds have no files, where the noise of other rows is not known either."""
    positives: int | None
    """Of a task, where known."""


@dataclass(frozen=True)
class Source:
    """Where the noise of gains is taken from."""

    heading: str
    notes: Sequence[str]
    """What was assumed, and what is not known."""
    seeds: int
    """That are planned."""
    gains: Sequence[GainNoise]
