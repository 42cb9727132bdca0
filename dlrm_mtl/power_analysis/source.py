"""The input of a power analysis: the noise of every gain."""

from collections.abc import Sequence
from dataclasses import dataclass

from dlrm_mtl.statistics.power import Noise


@dataclass(frozen=True)
class GainNoise:
    """The noise of an arm's NE gain (%), on a task or averaged over tasks."""

    arm: str | None
    """Name of the arm; None before any comparison."""
    task: str | None
    """Name of the task; None for the average over tasks."""
    noise: Noise
    rows_known: bool
    """Whether the noise of other rows is known."""
    rows: int | None
    """Evaluation rows for which the task is defined; for the average, the maximum over tasks. None if the comparison
    kept no files of its seeds; then the noise over rows is unknown too."""
    positives: int | None
    """Positives of a task, if known."""


@dataclass(frozen=True)
class Source:
    """Where the noise of gains is taken from."""

    heading: str
    notes: Sequence[str]
    """What was assumed, and what is unknown."""
    seeds: int
    """Number of planned seeds."""
    gains: Sequence[GainNoise]
