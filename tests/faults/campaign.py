"""Faults at random moments of training runs, compared with runs without faults."""

import os
import random
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dlrm_mtl.files import read_json
from tests.faults.outcome import read_outcome
from tests.faults.rank import Faults
from tests.faults.run import FaultyRun, Watcher, kill_all

ROWS, BATCH, EPOCHS = 2400, 48, 2
STEPS_PER_EPOCH = ROWS // BATCH
STEPS = EPOCHS * STEPS_PER_EPOCH
EVERY = 4
"""Steps between checkpoints."""
TERMINATED, REFUSED, FAILED = 143, 2, 1
"""Exit codes after SIGTERM, after a user error, and after any other error."""

OPTIONS = (
    *("--batch-size", str(BATCH), "--epochs", str(EPOCHS), "--log-every", "2", "--timeout-s", "30"),
    *("--checkpoint.every-steps", str(EVERY), "--model.head-mlp", "16", "--model.bottom-mlp", "8"),
    *("--optimizer.dense-schedule.warmup-steps", "20", "--reader.shuffle-rows", "500"),
    *("--arm", "multibalance:beta=0.1"),
)


@dataclass
class Tally:
    """Outcomes of the faults of one kind."""

    tried: int = 0
    survived: int = 0
    refused: int = 0
    """Ended by a clear message, as expected."""
    failures: list[str] = field(default_factory=list)


@dataclass
class Report:
    tallies: dict[str, Tally] = field(default_factory=dict)
    miscounted_rows: int = 0
    ne_difference: float = 0.0
    """Largest difference of a task's NE between a run with faults and the run without."""
    differences: list[str] = field(default_factory=list)
    """Runs whose outcome differs from that of the run without faults."""

    @property
    def tried(self) -> int:
        return sum(tally.tried for tally in self.tallies.values())

    @property
    def failures(self) -> list[str]:
        return [failure for tally in self.tallies.values() for failure in tally.failures]

    @property
    def succeeded(self) -> bool:
        return not self.failures and not self.miscounted_rows and not self.differences

    def __str__(self) -> str:
        lines = [f"{'fault':28} {'tried':>6} {'survived':>9} {'refused':>8} {'failed':>7}"]
        rows = [*self.tallies.items(), ("total", self._total())]
        lines += [f"{kind:28} {t.tried:6} {t.survived:9} {t.refused:8} {len(t.failures):7}" for kind, t in rows]
        lines.append(f"rows lost or doubled: {self.miscounted_rows}")
        lines.append(f"largest difference of an NE from the run without faults: {self.ne_difference:g}")
        lines.append(f"metrics, weights or states that differ from those without faults: {len(self.differences)}")
        return "\n".join([*lines, *self.differences, *self.failures])

    def _total(self) -> Tally:
        tallies = self.tallies.values()
        return Tally(self.tried, sum(t.survived for t in tallies), sum(t.refused for t in tallies), self.failures)


class Campaign:
    """Runs of one world size with faults, each against a run without any.

    Args:
        directory: for the runs, and for a copy of the data set that faults may damage.
        readers: reader processes of each rank in runs with faults: at most one, which gives the same batches as none.
    """

    def __init__(self, directory: Path, data: Path, seed: int, report: Report, readers: int = 0) -> None:
        self._options = (*OPTIONS, "--reader.workers", str(readers))
        self._directory = directory
        self._data = data
        self._random = random.Random(seed)
        self._report = report

    def run(self, world_sizes: Sequence[int], faults: int, kinds: Sequence[str]) -> None:
        """Injects faults of each kind in turn at random moments of runs, and lets the runs end.

        Args:
            world_sizes: world sizes of the starts, chosen at random. With several, batches differ from those without
                faults, and only rows are counted.
        """
        directory = self._directory / f"ranks-{'-'.join(map(str, world_sizes))}"
        plain, nan = None, None
        if len(world_sizes) == 1:
            [ranks] = world_sizes
            nan = (self._random.randrange(ranks), self._random.randrange(STEPS), self._random.randrange(3))
            plain = FaultyRun(directory / "plain", self._data, OPTIONS, nan)
            self._count("not a number", plain.start(ranks).finished and _skipped(plain) == 1, plain)
        order: list[str] = []
        number = 0
        while faults > 0:
            data = Path(shutil.copytree(self._data, directory / f"data-{number}"))
            struck = FaultyRun(directory / f"struck-{number}", data, self._options, nan)
            while faults > 0 and struck.step < STEPS - 2 * EVERY:
                order = order or self._random.sample(kinds, len(kinds))
                strike = (STRIKES | READER_STRIKES)[kind := order.pop()]
                strike(self, kind, struck, self._random.choice(world_sizes))
                faults -= 1
            if not struck.attempts or not struck.attempts[-1].finished:
                ended = struck.start(self._random.choice(world_sizes)).finished
                self._count("last start", ended, struck, fault=False)
            self._report.miscounted_rows += struck.miscounted_rows(ROWS, STEPS_PER_EPOCH)
            if plain is not None:
                self._compare(plain, struck)
            number += 1

    # Faults. Each starts the run once or twice and tells whether it ended as expected.

    def kill_one(self, kind: str, run: FaultyRun, world_size: int) -> None:
        attempt = run.start(world_size, Faults(kill=(self._rank(world_size), self._step(run))))
        self._count(kind, -9 in attempt.codes and 0 not in attempt.codes, run)

    def kill_all_ranks(self, kind: str, run: FaultyRun, world_size: int) -> None:
        step = self._step(run)
        attempt = run.start(world_size, watcher=_when(lambda: any(_trained(run, step)), kill_all))
        self._count(kind, attempt.codes == [-9] * world_size, run)

    def kill_while_saving(self, kind: str, run: FaultyRun, world_size: int) -> None:
        partial, before, delay = run.out / "checkpoints", run.step, self._random.random() * 0.03
        attempt = run.start(
            world_size,
            watcher=_when(lambda: run.step > before + EVERY and any(partial.glob(".step-*.partial")), kill_all, delay),
        )
        self._count(kind, attempt.codes == [-9] * world_size, run)

    def terminate(self, kind: str, run: FaultyRun, world_size: int) -> None:
        step = self._step(run)
        attempt = run.start(world_size, Faults(terminate=(self._rank(world_size), step)))
        ended = attempt.codes == [TERMINATED] * world_size and step < run.step <= step + 2
        # In the last window the run only finishes.
        self._count(kind, ended or (attempt.finished and step >= STEPS - 2), run)

    def kill_reader(self, kind: str, run: FaultyRun, world_size: int) -> None:
        step = self._step(run)
        attempt = run.start(
            world_size,
            watcher=_when(
                lambda: any(_trained(run, step)) and bool(run.readers),
                lambda ranks: os.kill(self._random.choice(run.readers), signal.SIGKILL),
            ),
        )
        *_, last_line = ["", *attempt.output.splitlines()]
        failed = attempt.codes == [FAILED] * world_size and "was killed by SIGKILL" in last_line
        # A reader that has read everything may end unnoticed.
        self._count(kind, failed or (attempt.finished and step >= STEPS - 2 * EVERY), run)

    def terminate_while_readers_start(self, kind: str, run: FaultyRun, world_size: int) -> None:
        attempt = run.start(world_size, watcher=_when(lambda: len(run.readers) == world_size, _terminate_all))
        self._count(kind, attempt.codes == [TERMINATED] * world_size, run)

    def full_disk(self, kind: str, run: FaultyRun, world_size: int) -> None:
        first = run.step + self._random.randrange(1, 2 * EVERY)
        faults = Faults(
            full_disk=(first, first + 2 * EVERY),
            kill=(self._rank(world_size), min(first + 5 * EVERY, STEPS - 1)),
        )
        attempt = run.start(world_size, faults)
        said = "checkpoint NOT written, training goes on" in attempt.output
        self._count(kind, said and -9 in attempt.codes, run)

    def damaged_checkpoint(self, kind: str, run: FaultyRun, world_size: int) -> None:
        if len(run.checkpoints) < 2:
            return self.kill_one("killed rank", run, world_size)
        newest = run.checkpoints[-1]
        file = self._random.choice(sorted(newest.iterdir()))
        damages: list[Callable[[Path], None]] = [_flip_a_bit, _truncate, Path.unlink]
        self._random.choice(damages)(file)
        attempt = run.start(world_size, Faults(kill=(self._rank(world_size), self._step(run) - EVERY)))
        said = f"damaged checkpoint skipped: {newest}" in attempt.output
        self._count(kind, said and -9 in attempt.codes, run)
        return None

    def corrupt_shard(self, kind: str, run: FaultyRun, world_size: int) -> None:
        shard = self._random.choice(sorted(run.data.glob("*/*.parquet")))
        content = shard.read_bytes()
        _flip_a_bit(shard)
        attempt = run.start(world_size)
        shard.write_bytes(content)
        named = str(shard) in attempt.output and "Traceback" not in attempt.output
        self._count(kind, attempt.codes == [REFUSED] * world_size and named, run, refused=True)

    def vanished_shard(self, kind: str, run: FaultyRun, world_size: int) -> None:
        shard = self._random.choice(sorted(run.data.glob("*/*.parquet")))
        faults = Faults(vanish=(self._rank(world_size), run.step + 1, str(shard)))
        attempt = run.start(world_size, faults)
        gone = shard.with_name(f"{shard.name}.gone")
        gone.rename(shard)
        if attempt.finished:  # it had been read before
            self._count(kind, True, run)
            return
        named = str(shard) in attempt.output and "Traceback" not in attempt.output
        self._count(kind, attempt.codes == [REFUSED] * world_size and named, run, refused=True)

    def _rank(self, world_size: int) -> int:
        return self._random.randrange(world_size)

    def _step(self, run: FaultyRun) -> int:
        """A step soon after the newest checkpoint."""
        return min(run.step + self._random.randrange(1, 5 * EVERY), STEPS - 1)

    def _count(self, kind: str, right: bool, run: FaultyRun, refused: bool = False, fault: bool = True) -> None:
        tally = self._report.tallies.setdefault(kind, Tally())
        tally.tried += fault
        tally.survived += right and fault and not refused
        tally.refused += right and fault and refused
        if not right:
            attempt = run.attempts[-1]
            tally.failures.append(
                f"{kind}: {run.directory}, attempt {len(run.attempts) - 1}, exit codes {attempt.codes}:\n"
                f"{attempt.output}"
            )

    def _compare(self, plain: FaultyRun, struck: FaultyRun) -> None:
        expected, found = read_outcome(plain.out), read_outcome(struck.out)
        for mine, theirs in zip(_nes(found), _nes(expected), strict=True):
            self._report.ne_difference = max(self._report.ne_difference, abs(mine - theirs))
        for key, value in expected.items():
            if found[key] != value:
                self._report.differences.append(f"{struck.directory}: {key} differ from those of {plain.directory}")


Strike = Callable[[Campaign, str, FaultyRun, int], None]

STRIKES: dict[str, Strike] = {
    "killed rank": Campaign.kill_one,
    "all ranks killed": Campaign.kill_all_ranks,
    "killed while saving": Campaign.kill_while_saving,
    "SIGTERM": Campaign.terminate,
    "full disk": Campaign.full_disk,
    "damaged checkpoint": Campaign.damaged_checkpoint,
    "corrupt shard": Campaign.corrupt_shard,
    "vanished shard": Campaign.vanished_shard,
}

READER_STRIKES: dict[str, Strike] = {
    "killed reader": Campaign.kill_reader,
    "SIGTERM while readers start": Campaign.terminate_while_readers_start,
}
"""Faults that need reader processes."""


def _when(condition: Callable[[], bool], act: Callable[[Sequence[BaseProcess]], Any], delay: float = 0.0) -> Watcher:
    def watch(processes: Sequence[BaseProcess]) -> bool:
        if not condition():
            return False
        if delay:
            processes[0].join(delay)
        act(processes)
        return True

    return watch


def _terminate_all(ranks: Sequence[BaseProcess]) -> None:
    for rank in ranks:
        rank.terminate()


def _trained(run: FaultyRun, step: int) -> list[Path]:
    """Traces of the present attempt in which a step was trained."""
    present = run.directory.glob(f"trace-{len(run.attempts):04d}-*.jsonl")
    return [trace for trace in present if f"\n[{step}," in f"\n{trace.read_text()}"]


def _skipped(run: FaultyRun) -> int:
    [arm] = read_json(run.out / "result.json")["arms"].values()
    return int(arm["skipped_steps"])


def _nes(outcome: dict[str, Any]) -> list[float]:
    [arm] = outcome["result"]["arms"].values()
    return [task["ne"] for task in arm["tasks"].values()]


def _flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
