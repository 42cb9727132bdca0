"""The options of the power analysis. Free of torch, so that ``--help`` is quick."""

import math
from dataclasses import dataclass
from pathlib import Path

from dlrm_mtl.config import require
from dlrm_mtl.task_weights import parse_task_weights


@dataclass(frozen=True)
class PowerOptions:
    """Says how many seeds and how many evaluation rows an NE gain needs to be found in four of five comparisons, per
    task and on average: from a finished comparison, or from a data set and assumptions before any."""

    run: Path | None = None
    """Run directory of dlrm_mtl.compare with two seeds at least, whose noise is measured."""
    data: Path | None = None
    """Directory of a data set, of which only schema.json is read; the noise is assumed."""
    effect: float = 0.05
    """The true NE gain to be found, in percent; by default what the paper calls significant."""
    seeds: int | None = None
    """Seeds that are planned; by default those of the run, or 5."""
    arms: tuple[str, ...] = ()
    """Of the run; by default all but the control."""
    task_weights: tuple[str, ...] = ()
    """Weights of the average over tasks, as TASK=WEIGHT of every task; by default those of the run, or equal ones."""
    seed_spread: float = 5.4
    """Assumed with data: standard deviation of a task's NE gain over seeds, in percent, times the root of its positives
    in the evaluation split. The default is the median over the arms and tasks of this project's results on KuaiRand and
    Census-Income (docs/results/experiments), of which half lie between 3 and 9."""
    row_spread: float = 1.5
    """Assumed with data: the same over samples of rows, of what all seeds have in common. The default is the median
    over the tasks of a run on KuaiRand's feeds (docs/results/statistics/power.json), where it is 1.3 to 3.8."""
    json: Path | None = None
    """File for all figures, beside the table on stdout."""

    def __post_init__(self) -> None:
        sources = [name for name in ("run", "data") if getattr(self, name) is not None]
        require("run, data", sources, len(sources) == 1, "one of the two: a finished comparison or a data set")
        for name in ("effect", "seed_spread", "row_spread"):
            value = getattr(self, name)
            require(name, value, 0 < value < math.inf, "a positive number")
        require("seeds", self.seeds, self.seeds is None or self.seeds > 1, "two at least")
        require("arms", self.arms, self.run is not None or not self.arms, "none with a data set")
        if self.json is not None:
            require("json", str(self.json), self.json.parent.is_dir(), "a file in a directory that is there")
        parse_task_weights(self.task_weights)
