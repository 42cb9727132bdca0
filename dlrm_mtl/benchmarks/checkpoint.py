"""Cost of checkpoints: the seconds that one takes from training, and the share of QPS at one per minute."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dlrm_mtl.benchmarks.cases import CheckpointCase
from dlrm_mtl.benchmarks.markdown import INTERVAL, with_interval
from dlrm_mtl.benchmarks.session import ARMS, EVEN_READING, open_benchmark, read_environment
from dlrm_mtl.benchmarks.windows import Spread, format_spread, take_turns
from dlrm_mtl.distributed.checkpoint_directory import checkpoint_path
from dlrm_mtl.training.checkpoints import DIRECTORY, RunCheckpoints
from dlrm_mtl.training.session import ArmTrainer, Session

WANTED = 2.0
"""The claim: one checkpoint per minute lowers QPS by less than this, in percent."""

MINUTES = (1, 10)
"""Minutes between checkpoints: in the claim, and by default."""

WIDTH = 40
"""Width of the first column."""


@dataclass(frozen=True)
class CheckpointWindow:
    """Some turns of all arms, with or without a checkpoint at the beginning."""

    seconds: float
    """Seconds until all steps are done and the checkpoint is written."""
    copying: float = 0.0
    """Seconds that training waits while the state is copied."""
    late: bool = False
    """Whether the checkpoint was still being written when the steps were done."""
    bytes: int = 0
    """Size of the checkpoint in bytes."""


def measure_checkpoint(case: CheckpointCase) -> dict[str, Any]:
    """Seconds of windows with and without a checkpoint of all arms, the cost of a checkpoint from their differences,
    and the resulting loss of QPS. Collective; timed by the first rank's clock.

    Raises:
        ValueError: a data set that cannot be trained on.
        OSError: a checkpoint was not written.
    """
    with open_benchmark(case, case.directory, EVEN_READING) as session:
        trainers = {arm: session.trainer(arm, seed=0) for arm in ARMS}
        directory = session.ranks.broadcast(session.config.out)
        with RunCheckpoints(session, trainers, directory) as checkpoints:
            training = _Training(session, trainers, checkpoints, directory / DIRECTORY)
            turns = training.count_turns(case.seconds)
            windows = take_turns(
                {"without": partial(training.window, turns), "with": partial(training.window_with_checkpoint, turns)},
                case.windows,
            )
        environment = read_environment(session)
        steps = turns * session.config.log_every
    return {"environment": environment, "steps_per_arm": steps, **_summarize(windows["without"], windows["with"])}


def format_checkpoint(results: Mapping[str, Any]) -> str:
    """The results as a text table."""
    seconds, lost, loss = results["window_seconds"], results["lost_seconds"], results["qps_loss_percent"]
    window = f"{results['steps_per_arm']} steps of each arm"
    windows = {window: seconds["without"], f"{window}, and a checkpoint": seconds["with"]}
    lines = [
        f"{'seconds':{WIDTH}}  {'median':>8} {'P10':>8} {'P90':>8}",
        *(f"{name:{WIDTH}}  {format_spread(spread, '8.3f')}" for name, spread in windows.items()),
        "",
        *_differences(
            "seconds lost by a checkpoint",
            {
                "while the state is copied": lost["copying"],
                "while it is written, beside training": lost["writing"],
                "in all": lost["total"],
            },
        ),
        "",
        *_differences(
            "QPS lost, %", {f"one checkpoint every {minutes} min": loss[str(minutes)] for minutes in MINUTES}
        ),
        "",
        f"{results['late']} of {results['checkpoints']} checkpoints made their window wait until they were written.",
        f"A checkpoint per minute, of {results['checkpoint_bytes'] / 1e6:.1f} MB for {' and '.join(ARMS)}"
        f" (ranks: {results['environment']['world_size']}), costs {with_interval(loss['1'])} % of QPS;"
        f" wanted: less than {WANTED:g} %",
    ]
    return "\n".join(lines)


@dataclass(frozen=True)
class _Training:
    """Arms that take turns as in a comparison."""

    session: Session
    trainers: Mapping[str, ArmTrainer]
    checkpoints: RunCheckpoints
    directory: Path

    def count_turns(self, seconds: float) -> int:
        """Number of turns of all arms that fill a window, the same on every rank. Collective."""
        self.window(turns=1)  # the first steps take longer
        return self.session.ranks.broadcast(math.ceil(seconds / self.window(turns=1).seconds))

    def window(self, turns: int) -> CheckpointWindow:
        """Collective."""
        self.session.ranks.synchronize()
        start = time.perf_counter()
        self._train(turns)
        return CheckpointWindow(time.perf_counter() - start)

    def window_with_checkpoint(self, turns: int) -> CheckpointWindow:
        """Collective.

        Raises:
            OSError: the checkpoint was not written.
        """
        path = checkpoint_path(self.directory, next(iter(self.trainers.values())).step)
        self.session.ranks.synchronize()
        start = time.perf_counter()
        self.checkpoints.save({})
        copying = time.perf_counter() - start
        self._train(turns)
        late = not path.exists()
        self.checkpoints.wait()
        seconds = time.perf_counter() - start
        if not path.exists():  # the writer has said why
            raise OSError(f"{path}: was not written")
        return CheckpointWindow(seconds, copying, late, sum(file.stat().st_size for file in path.iterdir()))

    def _train(self, turns: int) -> None:
        for _ in range(turns):
            for trainer in self.trainers.values():
                trainer.train_window(self.session.config.log_every)
        self.session.ranks.synchronize()


def _summarize(without: list[CheckpointWindow], with_checkpoint: list[CheckpointWindow]) -> dict[str, Any]:
    before, after = (Spread.of([window.seconds for window in windows]) for windows in (without, with_checkpoint))
    copying = Spread.of([window.copying for window in with_checkpoint])
    total = after.minus(before)
    lost = {"total": total, "copying": copying, "writing": total.minus(copying)}
    loss = {str(m): Spread.of([100 * seconds / (60 * m) for seconds in total.windows]) for m in MINUTES}
    return {
        "window_seconds": {"without": asdict(before), "with": asdict(after)},
        "lost_seconds": {name: asdict(spread) for name, spread in lost.items()},
        "qps_loss_percent": {minutes: asdict(spread) for minutes, spread in loss.items()},
        "checkpoints": len(with_checkpoint),
        "late": sum(window.late for window in with_checkpoint),
        "checkpoint_bytes": with_checkpoint[-1].bytes,
        "wanted": WANTED,
    }


def _differences(title: str, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [f"{title:{WIDTH}}  {INTERVAL}", *(f"{name:{WIDTH}}  {with_interval(s, '.3f')}" for name, s in rows.items())]
