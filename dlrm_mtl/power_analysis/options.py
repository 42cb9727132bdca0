"""The options of the power analysis. Free of torch, so that ``--help`` is quick."""

import math
from dataclasses import dataclass
from pathlib import Path

from dlrm_mtl.config import require, require_directory_of
from dlrm_mtl.location import Location
from dlrm_mtl.task_weights import parse_task_weights


@dataclass(frozen=True)
class PowerOptions:
    """Says how many seeds and evaluation rows find an NE gain in four of five comparisons, per task and on average:
    from a finished comparison, or beforehand from a data set and assumptions."""

    run: Path | None = None
    """Run directory of dlrm_mtl.compare with at least two seeds, from which the noise is measured."""
    data: Location | None = None
    """Directory of a data set; only schema.json is read, and the noise is assumed."""
    effect: float = 0.05
    """The true NE gain to find, in percent; by default the one that the paper calls significant."""
    seeds: int | None = None
    """Number of planned seeds; by default that of the run, or 5."""
    arms: tuple[str, ...] = ()
    """Arms of the run; by default all but the control."""
    task_weights: tuple[str, ...] = ()
    """Weights of the average over tasks, as TASK=WEIGHT for every task; by default those of the run, or equal
    weights."""
    seed_spread: float = 6.0
    """Assumed with data: standard deviation of a task's NE gain over seeds, in percent, times the root of its positives
    in the evaluation split. The default is the median over the arms and tasks of this project's results on KuaiRand and
    Census-Income (docs/results/experiments), of which half lie between 3.5 and 10."""
    row_spread: float = 1.5
    """Assumed with data: the same over samples of rows, for the part shared by all seeds. The default is the median
    over the tasks of a run on KuaiRand's feeds (docs/results/statistics/power.json), where it is 1.3 to 3.8."""
    json: Path | None = None
    """File for all numbers, beside the table on stdout."""

    def __post_init__(self) -> None:
        sources = [name for name in ("run", "data") if getattr(self, name) is not None]
        require("run, data", sources, len(sources) == 1, "one of the two: a finished comparison or a data set")
        for name in ("effect", "seed_spread", "row_spread"):
            value = getattr(self, name)
            require(name, value, 0 < value < math.inf, "a positive number")
        require("seeds", self.seeds, self.seeds is None or self.seeds > 1, "two at least")
        require("arms", self.arms, self.run is not None or not self.arms, "none with a data set")
        require_directory_of(self.json)
        parse_task_weights(self.task_weights)
