"""stream.json: the results of a stream, by day and over the days. See docs/streaming.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm_mtl.files import write_json
from dlrm_mtl.records import MayHoldMore
from dlrm_mtl.reporting.runs.run_records import read_record
from dlrm_mtl.reporting.streams.day_file import DAY_FILE
from dlrm_mtl.reporting.streams.day_results import read_day
from dlrm_mtl.reporting.streams.over_days import summarize_days

Record = Mapping[str, Any]

FORMAT = 1
"""Version of the format that this code reads and writes."""

STREAM_FILE = "stream.json"
DAYS = "days"
"""Directory of the days' run directories, whose names begin with the day's number."""


@dataclass(frozen=True)
class StreamRun(MayHoldMore):
    """The part of the config.json of a stream that its results need."""

    arms: tuple[str, ...]
    seeds: int
    first_seed: int = 0
    task_weights: tuple[str, ...] = ()


def is_stream(run: Path) -> bool:
    """Whether a run directory is one of ``dlrm_mtl.stream``."""
    return (run / DAYS).is_dir()


class StreamResults:
    """The results of a stream. Each day is read once.

    Args:
        run: run directory of the stream.

    Raises:
        ValueError: its config.json is missing or malformed.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        config = read_record(run / "config.json", StreamRun)
        self._arms: list[str] = config["arms"]
        first = config.get("first_seed", 0)
        self._seeds = list(range(first, first + config["seeds"]))
        self._task_weights: list[str] = config.get("task_weights", [])
        self._days: dict[str, dict[str, Any]] = {}

    def write(self) -> dict[str, Any]:
        """Writes stream.json of the days that are over, and returns its content.

        Raises:
            ValueError: no day is over; a file of a day is missing or malformed. The message names it.
        """
        over = [file.parent for file in (self.run / DAYS).glob(f"*/{DAY_FILE}")]
        for day in sorted(over, key=lambda day: (_number(day), day.name)):
            if day.name not in self._days:
                self._days[day.name] = read_day(day, self._arms, self._seeds)
        days = list(self._days.values())
        if not days:
            raise ValueError(f"{self.run / DAYS}: no day is over yet")
        stream = {
            "format": FORMAT,
            "control": self._arms[0],
            "seeds": self._seeds,
            **summarize_days(days, self._arms, self._task_weights),
            "days": _with_changes(days),
        }
        write_json(self.run / STREAM_FILE, stream)
        return stream


def _number(day: Path) -> int:
    number = day.name.partition("-")[0]
    if not number.isdecimal():
        raise ValueError(f"{day}: expected the name of a day, such as 0000-NAME")
    return int(number)


def _with_changes(days: Sequence[Record]) -> list[dict[str, Any]]:
    """The days, with the tasks that are new on each and those that ended before it, against the last day that was
    trained on."""
    changed, before = [], None
    for day in days:
        tasks = day["tasks"]
        earlier = tasks if before is None else before
        changed.append(
            {
                **day,
                "new_tasks": [task for task in tasks if task not in earlier],
                "ended_tasks": [task for task in earlier if task not in tasks],
            }
        )
        if day["skipped"] is None:
            before = tasks
    return changed
