"""How far the days of a stream have come, by the files in their run directories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlrm_mtl.data.dataset import open_recorded
from dlrm_mtl.data.shards import DataRecord
from dlrm_mtl.files import read_json, write_json
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import convert
from dlrm_mtl.reporting.streams.day_file import DAY_FILE, read_day_file
from dlrm_mtl.reporting.streams.stream_file import DAYS
from dlrm_mtl.run_config import StreamConfig
from dlrm_mtl.run_directory import open_run_directory
from dlrm_mtl.streaming.days import Day
from dlrm_mtl.training.run_data import DATA_RECORD

TASKS_FILE = "tasks.json"
"""File of a day's run directory with the tasks that it began with."""


@dataclass(frozen=True)
class OverDay:
    """A day that was trained on, or skipped."""

    tasks: tuple[str, ...]
    skipped: str | None
    """Why it was skipped; None: it was trained on."""


def day_directory(out: Path, day: Day) -> Path:
    """The run directory of a day."""
    return out / DAYS / day.name


def begin_day(directory: Path, day: Day) -> None:
    """Notes the tasks of a day before it is trained on."""
    write_json(directory / TASKS_FILE, list(day.tasks))


def open_stream(config: StreamConfig, days: Sequence[Day]) -> Mapping[int, OverDay]:
    """Begins the run directory of a stream, or goes on with the one that is there; days may have been appended.

    Returns:
        the days that are over, by number.

    Raises:
        ValueError: another run is there, or it began with other days: other names, tasks or shards.
    """
    begun = [path.name for path in (config.out / DAYS).glob("*") if path.is_dir()]
    names = [day.name for day in days]
    if others := sorted(set(begun) - set(names)):
        number = int(others[0].partition("-")[0]) if others[0].partition("-")[0].isdecimal() else len(names)
        found = quote(names[number]) if number < len(names) else "missing"
        raise ValueError(
            f"{config.out / DAYS / others[0]}: is a day of this run, in --data it is {found}; expected the days so far"
            " in their order, then new ones"
        )
    over = {day.number: state for day in days if (state := _state(config.out, day))}
    open_run_directory(config)
    return over


def _state(out: Path, day: Day) -> OverDay | None:
    """The state of a day that is over; None: it is not."""
    directory = day_directory(out, day)
    state = None
    if (file := directory / DAY_FILE).is_file():
        facts = read_day_file(file)
        state = OverDay(facts["tasks"], facts["skipped"])
        _check_tasks(file, state.tasks, day)
    elif (file := directory / TASKS_FILE).is_file():
        _check_tasks(file, convert(tuple[str, ...], read_json(file), str(file)), day)
    if state and state.skipped is None and (directory / DATA_RECORD).is_file():
        open_recorded(day.data, DataRecord.from_json(read_json(directory / DATA_RECORD)), day.schema)
    return state


def _check_tasks(file: Path, tasks: Sequence[str], day: Day) -> None:
    if tuple(tasks) != day.tasks:
        raise ValueError(
            f"{file}: the day began with the tasks {', '.join(tasks)}, now {day.data} has {', '.join(day.tasks)}; only"
            " later days may have other tasks"
        )
