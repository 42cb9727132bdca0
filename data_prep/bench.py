"""``python -m data_prep.bench``: the speed of this project's preparation of Criteo logs, compared with other ways.

Contestants take turns in processes of their own, and are compared by the ratios of their rates within a round. A
contestant of one worker is held to one CPU. The log is generated once and kept under ``--out``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from data_prep.benchmark.ratios import format_results, summarize
from dlrm_mtl import cli
from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.run_directory import describe_environment
from dlrm_mtl.schema import read_schema

SEED = 0

MIN_COUNT = 4
MAX_IDS = 1_000_000
"""Of this project's contestants; the one with pandas has as many ids."""

PACKAGES = ("numpy", "pandas", "pyarrow", "torch", "torchrec")


@dataclass(frozen=True)
class Options:
    """Compares ways to read or prepare Criteo logs."""

    out: Path
    """Directory for the generated logs, which are kept, and for what the contestants write, which is not."""
    rows: int = 10_000_000
    """Rows of the log."""
    torchrec_rows: int = 200_000
    """Rows for torchrec's own preparation, which holds all of them in memory as Python objects."""
    pandas_rows: int = 1_000_000
    """Rows for the preparation with pandas."""
    rounds: int = 3
    """Turns of each contestant."""
    json: Path | None = None
    """File for the results, beside the table on stdout."""

    def validate(self) -> None:
        """Raises ValueError where an option is out of its range."""
        for name in ("rows", "torchrec_rows", "pandas_rows", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 1")
        if self.json is not None and not self.json.parent.is_dir():
            raise ValueError(f"json {self.json}: expected a file in an existing directory")


@dataclass(frozen=True)
class Contestant:
    """A way to read or prepare a log."""

    name: str
    log: Path
    rows: int
    workers: int = 1
    ids: str = ""
    """``--ids`` of this project's; empty: a contestant of ``data_prep.benchmark.contestants``."""

    def command(self, out: Path) -> list[str | Path]:
        """The process that reads the log and writes to the empty directory ``out``."""
        python = [sys.executable, "-m"]
        if not self.ids:
            return [*python, "data_prep.benchmark.contestants", self.name, out, self.log]
        counts = ["--min-count", str(MIN_COUNT)] if self.ids == "vocabulary" else []
        options = ["--ids", self.ids, *counts, "--max-ids", str(MAX_IDS), "--workers", str(self.workers)]
        return [*python, "data_prep.criteo", "--raw", self.log, "--out", out / "data", *options]


def run(options: Options) -> dict[str, Any]:
    """Measures all contestants.

    Raises:
        ValueError: an option is out of its range, or a contestant fails or loses rows.
    """
    options.validate()
    options.out.mkdir(parents=True, exist_ok=True)
    contestants = line_up(options)
    turns: dict[str, list[dict[str, float]]] = {contestant.name: [] for contestant in contestants}
    for number in range(1, options.rounds + 1):
        for contestant in contestants:
            turn = measure(contestant, options.out)
            turns[contestant.name].append(turn)
            rate = contestant.rows / turn["seconds"]
            print(f"round {number}: {contestant.name}: {rate:,.0f} rows/s", file=sys.stderr, flush=True)
    return {
        "options": cli.as_dict(options),
        "environment": describe_environment(versions(), world_size=1, device="cpu"),
        "contestants": summarize({c.name: (c.rows, c.workers) for c in contestants}, turns),
    }


def line_up(options: Options) -> list[Contestant]:
    """The contestants, in the order of their turns; pandas only where it is installed."""
    log = generated_log(options.out, options.rows)
    few = min(options.torchrec_rows, options.rows)
    contestants = [
        Contestant("read_inferred", log, options.rows),
        Contestant("read_typed", log, options.rows),
        Contestant("torchrec", generated_log(options.out, few), few),
    ]
    if find_spec("pandas") is not None:
        fewer = min(options.pandas_rows, options.rows)
        contestants.append(Contestant("pandas", generated_log(options.out, fewer), fewer))
    for ids in ("hash", "vocabulary"):
        contestants.append(Contestant(ids, log, options.rows, ids=ids))
    for ids in ("hash", "vocabulary"):
        contestants.append(Contestant(f"{ids}_2_workers", log, options.rows, workers=2, ids=ids))
    return contestants


def generated_log(directory: Path, rows: int) -> Path:
    """The generated log of so many rows; a valid existing one is reused."""
    log, note = directory / f"criteo-{rows}.tsv", directory / f"criteo-{rows}.json"
    if log.is_file() and note.is_file() and read_json(note) == note_of(log, rows):
        return log
    log.unlink(missing_ok=True)
    # In a process of its own: what this one had in memory would count as its children's peak (see ``measure``).
    subprocess.run(
        [sys.executable, "-m", "data_prep.criteo_log", "--out", log, "--rows", str(rows), "--seed", str(SEED)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    write_json(note, note_of(log, rows))
    return log


def note_of(log: Path, rows: int) -> dict[str, int]:
    return {"rows": rows, "seed": SEED, "bytes": log.stat().st_size}


def measure(contestant: Contestant, directory: Path) -> dict[str, float]:
    """Seconds of a turn, and the peak resident memory of its largest process in MiB.

    The seconds are those of the process, with start-up and imports, or, for ``data_prep.benchmark.contestants``, those
    that it reports, without. Linux counts what the parent has in memory when it starts a process as that process's
    peak as well, so this module imports nothing large.

    Raises:
        ValueError: the contestant fails, or handles another number of rows than the log has.
    """
    warm(contestant.log)
    with (
        tempfile.TemporaryDirectory(dir=directory, prefix="turn-") as out,
        tempfile.TemporaryFile("w+") as stdout,
        tempfile.TemporaryFile("w+") as stderr,
    ):
        start = time.perf_counter()
        code, peak_kib = execute(contestant.command(Path(out)), contestant.workers, stdout, stderr)
        seconds = time.perf_counter() - start
        if code != 0:
            raise ValueError(f"{contestant.name}: failed with exit code {code}: {last_line(stderr)}")
        if contestant.ids:
            schema = read_schema(Path(out) / "data")
            rows = sum(schema.rows(split) for split in schema.splits)
        else:
            report = json.loads(last_line(stdout))
            rows, seconds = report["rows"], report["seconds"]
    if rows != contestant.rows:
        raise ValueError(f"{contestant.name}: {rows} rows came out of {contestant.rows}")
    return {"seconds": seconds, "peak_rss_mib": peak_kib / 1024}


def execute(command: Sequence[str | Path], cpus: int, stdout: IO[str], stderr: IO[str]) -> tuple[int, int]:
    """Runs a process on so many CPUs, where there are as many, with one thread for each library that asks; returns its
    exit code, and the peak resident memory in KiB of the largest of it and its children."""
    allowed = os.sched_getaffinity(0)
    # Children inherit the CPUs of a process.
    os.sched_setaffinity(0, set(sorted(allowed)[:cpus]))
    try:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([str(part) for part in command], stdout=stdout, stderr=stderr, env=environment)
    finally:
        os.sched_setaffinity(0, allowed)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss


def warm(log: Path) -> None:
    """Reads a file once, so that the page cache has it."""
    with log.open("rb") as file:
        while file.read(1 << 20):
            pass


def last_line(output: IO[str]) -> str:
    output.seek(0)
    lines = output.read().strip().splitlines()
    return lines[-1] if lines else ""


def versions() -> dict[str, str]:
    """Versions of the packages that are installed."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def main() -> None:
    options = cli.parse(Options, "data_prep.bench")
    results = run(options)
    print(f"\n{format_results(results)}", flush=True)
    if options.json is not None:
        write_json(options.json, results)
        print(f"results: {options.json}", flush=True)


if __name__ == "__main__":
    cli.run("bench", main)
