"""The options of the report. Free of torch, so that ``--help`` is quick."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from dlrm_mtl.config import require
from dlrm_mtl.task_weights import parse_task_weights


@dataclass(frozen=True)
class ReportOptions:
    """Renders a comparison, or joins comparisons and runs of dlrm_mtl.train that trained other seeds or arms on the
    same data with the same options."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories of dlrm_mtl.compare and dlrm_mtl.train."""
    out: Path | None = None
    """Directory for report.html, report.md and the joined comparison.json; by default that of the run, if there is only
    one."""
    control: str | None = None
    """The arm that the others are compared with; every comparison must have it. By default the control of the first
    run, which is its arm if dlrm_mtl.train trained it."""
    task_weights: tuple[str, ...] = ()
    """Weights of the average over tasks, as TASK=WEIGHT for every task; by default those of the runs."""
    pareto: tuple[str, str] | None = None
    """Two tasks of the Pareto view; by default those whose gains differ most between arms."""

    def __post_init__(self) -> None:
        parse_task_weights(self.task_weights)
        require("runs", self.runs, len(self.runs) > 0, "at least one run directory")
        same = [run.resolve() for run in self.runs]
        require("runs", [str(run) for run in self.runs], len(set(same)) == len(same), "different directories")
        if self.out is None:
            require("out", None, len(self.runs) == 1, "a directory, to join several runs")
            require("out", None, self.control is None, "a directory, to compare with another control")
            require("out", None, not self.task_weights, "a directory, to weigh tasks otherwise")
        else:
            free = not (self.out / "config.json").exists()
            require("out", str(self.out), free, "a directory that holds no run, whose comparison would be overwritten")
