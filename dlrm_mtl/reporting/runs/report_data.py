"""Run directories of ``dlrm_mtl.compare`` as plain data, for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dlrm_mtl.file_names import file_names
from dlrm_mtl.files import parse_json
from dlrm_mtl.metrics.evaluation import EvaluationEstimates
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import build
from dlrm_mtl.reporting.runs.comparison_records import read_comparison
from dlrm_mtl.reporting.runs.run_records import (
    LoggedWindow,
    RecordedData,
    RecordedShard,
    RunConfig,
    RunEnvironment,
    Seed,
    read_record,
    read_seed_estimates,
)

Record = Mapping[str, Any]

RESULT = "result.json"
"""File with the results of a run of ``dlrm_mtl.train``."""


@dataclass(frozen=True)
class Run:
    """The run directory of a comparison, or of a run of ``dlrm_mtl.train``."""

    results: Path
    """comparison.json, or :data:`RESULT`."""
    comparison: Record
    config: Record
    environment: Record
    shards: Sequence[Record] | None
    """Checksums of the data; None if the directory has no data.json."""
    seeds: Sequence[Record]
    """Summaries of the seeds that have a seed-S.json."""
    estimates: Mapping[int, Mapping[str, EvaluationEstimates]]
    """By seed and arm, for seeds that have a seed-S.npz."""
    windows: Mapping[str, Mapping[int, Sequence[Record]]]
    """Training windows from metrics.jsonl by arm and seed, oldest first; pairs without the file are left out."""

    @property
    def control(self) -> str:
        return str(self.comparison["control"])

    @property
    def arms(self) -> list[str]:
        return list(self.comparison["arms"])

    @property
    def directory(self) -> Path:
        return self.results.parent

    @property
    def is_alone(self) -> bool:
        """Whether ``dlrm_mtl.train`` trained its arm by itself."""
        return self.results.name == RESULT

    def estimates_file(self, seed: int) -> Path:
        """The file that :attr:`estimates` of a seed are from."""
        return self.results.with_suffix(".npz") if self.is_alone else self.directory / f"seed-{seed}.npz"


@dataclass(frozen=True)
class ReportData:
    """A comparison of one or several runs, with what else the report shows."""

    name: str
    """Name of the data set."""
    comparison: Record
    runs: Sequence[Run]

    @classmethod
    def of(cls, runs: Sequence[Run], comparison: Record) -> "ReportData":
        """Runs and the comparison over them; the data set's name is that of its directory unless given."""
        name = runs[0].comparison.get("data_set") or Path(runs[0].config["data"]).name
        return cls(str(name), comparison, runs)

    @property
    def control(self) -> str:
        return str(self.comparison["control"])

    @property
    def tasks(self) -> list[str]:
        return list(self.comparison["tasks"])

    @property
    def arms(self) -> list[str]:
        return list(self.comparison["arms"])

    @property
    def treatments(self) -> list[str]:
        return [arm for arm in self.arms if arm != self.control]

    def windows(self, arm: str) -> list[Sequence[Record]]:
        """Training windows of an arm, one sequence per seed, from the first run that has arm and seed."""
        by_seed: dict[int, Sequence[Record]] = {}
        for run in self.runs:
            by_seed = {**run.windows.get(arm, {}), **by_seed}
        return [by_seed[seed] for seed in sorted(by_seed)]


def read_run(directory: Path) -> Run:
    """Reads a run directory.

    Raises:
        ValueError: the directory holds no finished comparison, or a file cannot be read; the message names it.
    """
    comparison = read_comparison(directory / "comparison.json")
    seeds = {seed for arm in comparison["arms"].values() for seed in arm["seeds"]}
    summaries = [file for seed in sorted(seeds) if (file := directory / f"seed-{seed}.json").is_file()]
    seed_summaries = [_read_seed(file, comparison["tasks"]) for file in summaries]
    estimates = {
        summary["seed"]: read_seed_estimates(file.with_suffix(".npz"), summary["arms"], comparison["tasks"])
        for file, summary in zip(summaries, seed_summaries, strict=True)
    }
    present = {seed: arms for seed, arms in estimates.items() if arms is not None}
    folders = {seed: directory / f"seed-{seed}" for seed in sorted(seeds)}
    return read_files(directory / "comparison.json", comparison, seed_summaries, present, folders)


def read_files(
    results: Path,
    comparison: Record,
    seeds: Sequence[Record],
    estimates: Mapping[int, Mapping[str, EvaluationEstimates]],
    folders: Mapping[int, Path],
) -> Run:
    """Reads the files that comparisons and runs of ``dlrm_mtl.train`` have in common.

    Args:
        results: see :attr:`Run.results`.
        folders: where the arms' logs are, by seed.

    Raises:
        ValueError: a file cannot be read; the message names it.
    """
    directory = results.parent
    data = directory / "data.json"
    windows: dict[str, dict[int, Sequence[Record]]] = {}
    for arm, name in file_names(comparison["arms"]).items():
        logs = {seed: folder / name / "metrics.jsonl" for seed, folder in folders.items()}
        windows[arm] = {seed: read_windows(log) for seed, log in logs.items() if log.is_file()}
    return Run(
        results,
        comparison,
        config=read_record(directory / "config.json", RunConfig),
        environment=read_record(directory / "environment.json", RunEnvironment),
        shards=_read_shards(data) if data.is_file() else None,
        seeds=seeds,
        estimates=estimates,
        windows=windows,
    )


def _read_shards(file: Path) -> list[Record] | None:
    """Checksums of the shards; None unless all have one."""
    shards = read_record(file, RecordedData)["shards"]
    if not all(shard["sha256"] for shard in shards):
        return None
    return [{item.name: shard[item.name] for item in fields(RecordedShard)} for shard in shards]


def _read_seed(file: Path, tasks: Sequence[str]) -> Record:
    summary = read_record(file, Seed)
    if file.name != f"seed-{summary['seed']}.json":
        raise ValueError(f"{file}: is of seed {summary['seed']}")
    for name, arm in summary["arms"].items():
        if arm["tasks"].keys() != set(tasks):
            raise ValueError(
                f"{file}: arm {quote(name)} has tasks {quote(list(arm['tasks']))}, expected those of the run"
            )
    return summary


def read_windows(path: Path) -> list[Record]:
    """The training windows of a metrics.jsonl, oldest first. Raises ValueError for a line of another form."""
    windows: list[Record] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        where = f"{path}: line {number}"
        try:
            record = parse_json(line.decode(), where)
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: not valid JSON ({error.reason})") from None
        if not isinstance(record, dict) or "kind" not in record:
            raise ValueError(f"{where}: {quote(record)}, expected an object with a kind")
        if record["kind"] == "train":
            build(LoggedWindow, record, where)
            windows.append({item.name: record.get(item.name) for item in fields(LoggedWindow)})
    return windows
