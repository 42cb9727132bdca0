"""Cuts a log into periods, and prepares each as a data set that continues the one before."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.columns.arrays import NULL
from data_prep.columns.periods import SECONDS, Every, name_of, numbered
from data_prep.encoding.extending import Previous, read_previous
from data_prep.engine.options import IdOptions
from data_prep.engine.preparation import Preparation, key_of
from data_prep.engine.prepare import at_work, run_preparation
from data_prep.engine.segments import lines_before, run_part
from data_prep.engine.stages import Records, StageRunner
from data_prep.engine.work_directory import WorkDirectory
from data_prep.engine.workers import Workers
from data_prep.periods.cut_pass import CutPass, cut_file
from data_prep.periods.period_log import CutSegment, PeriodLog
from dlrm_mtl.files import read_object, write_json
from dlrm_mtl.location import RemotePath
from dlrm_mtl.schema import Schema, read_schema

FINISHED = ".periods.json"
"""File beside the data sets: the plan, and their names."""


@dataclass(frozen=True)
class CutLog:
    """The data sets of a log that was cut into periods."""

    data_sets: Mapping[Path, Schema]
    """By directory, in order."""
    empty: tuple[str, ...] = ()
    """Periods without rows between the first and the last one."""
    rows_before: int = 0
    """Rows that are no later than the data set that the first one continues."""


def prepare_periods(preparation: Preparation, generator: str, every: Every, workers: Workers) -> CutLog:
    """Prepares the periods of a log, or resumes; a finished period is left alone.

    Args:
        preparation: of the whole log, whose directory gets a data set for each period.
        generator: name of the entry point, for the schemas.

    Raises:
        ValueError: rows have no times, or times of which the day is unknown; there is no row later than the data set
            that is continued; the directory holds something else, or periods of other rows or options.
    """
    out, previous = preparation.directory.out, preparation.previous
    if isinstance(out, RemotePath):
        raise ValueError(f"out {out}: expected a path of a file system, where a log is cut into several data sets")
    if preparation.times is None:
        raise ValueError(f"every {every}: expected time_column, too")
    first = None if previous is None else _first_after(previous, every)
    _check_directory(out)
    plan = json.loads(json.dumps({**preparation.plan(), "every": every}))
    if (done := _finished(out, plan)) is not None:
        preparation.directory.clear_after(plan)
        return done
    if previous is None and (out / FINISHED).is_file():
        raise ValueError(
            f"{out}: holds periods of other rows or options; extend the last one, or give another directory"
        )

    def cut_and_prepare(runner: StageRunner) -> CutLog:
        records = runner.over_segments("cut", partial(run_part, preparation, CutPass(every, first)))
        cut = CutLog(
            dict(_prepare_all(preparation, out, generator, every, workers, records)), *_left_out(every, records)
        )
        if preparation.directory.replica.rank == 0:
            write_json(out / FINISHED, {"plan": plan, "periods": [path.name for path in cut.data_sets]})
            preparation.directory.clear()
        return cut

    cut = at_work(preparation, plan, workers, cut_and_prepare, lambda: _finished(out, plan) is not None)
    return cut or _finished(out, plan) or CutLog({})


def _prepare_all(
    preparation: Preparation, place: Path, generator: str, every: Every, workers: Workers, records: Records
) -> Iterator[tuple[Path, Schema]]:
    """Prepares period after period, each in a directory of ``place``."""
    directory, has_texts = preparation.directory, preparation.source.has_texts
    place.mkdir(exist_ok=True)
    before = lines_before(preparation, records)
    numbers = _numbers(preparation, records)
    # What lies in a segment without any time belongs to the first period.
    timeless = {
        key: min(map(int, record["rows"]), default=None if record["before"] else numbers[0])
        for key, record in records.items()
    }
    for number in numbers:
        blocks = {
            key: tuple(
                block
                for block, period in enumerate(record["periods"])
                if number == (timeless[key] if period == NULL else period)
            )
            for key, record in records.items()
        }
        parts = {key: CutSegment(of_part, before.get(key, 0)) for key, of_part in blocks.items() if of_part}
        out = place / name_of(number, every)
        of_period = replace(
            preparation,
            files=tuple(cut_file(preparation, key_of(*key)) for key in parts),
            log_names=tuple(preparation.names[file] for file, _ in parts),
            directory=WorkDirectory(out, directory.replica),
            open_source=partial(PeriodLog, segments=tuple(parts.values()), has_texts=has_texts),
            passed_over=0,
            period=numbered(number, every),
            reader_version=_checksum([records[key] for key in parts]),
        )
        yield out, run_preparation(of_period, generator, workers, replaces=False)
        previous = read_previous(out, "log", place)
        preparation = replace(preparation, previous=previous, ids=IdOptions().going_on(previous, preparation.layout))


def _checksum(records: Sequence[Mapping[str, Any]]) -> str:
    """Of the files of cut segments."""
    checksums = [checksum for record in records for checksum in record["files"].values()]
    return hashlib.sha256(" ".join(checksums).encode()).hexdigest()


def _numbers(preparation: Preparation, records: Records) -> list[int]:
    """The periods that have rows."""
    units = sorted({unit for record in records.values() for unit in record["units"]})
    if len(units) > 1:
        raise ValueError(f"time column {preparation.layout.time_column!r}: times in {' and in '.join(units)}")
    numbers = sorted({int(number) for record in records.values() for number in record["rows"]})
    if not numbers:
        previous = preparation.previous
        later = "" if previous is None else f" from {previous.period.stop if previous.period else ''} on"
        raise ValueError(f"no row{later} in {', '.join(map(str, preparation.files))}")
    return numbers


def _left_out(every: Every, records: Records) -> tuple[tuple[str, ...], int]:
    """Periods without rows, and the number of rows before the first one."""
    numbers = {int(number) for record in records.values() for number in record["rows"]}
    empty = [name_of(number, every) for number in range(min(numbers), max(numbers)) if number not in numbers]
    return tuple(empty), sum(record["before"] for record in records.values())


def _first_after(previous: Previous, every: Every) -> int:
    """The first period that begins when another data set ends or later."""
    directory, period = previous.reused.directory, previous.period
    try:
        stop = np.datetime64("" if period is None else period.stop, "s").astype(np.int64)
    except ValueError:
        stop = np.int64(NULL)
    if stop == NULL:
        raise ValueError(f"{directory}: has the period {period}, expected one of dates, which periods can follow")
    return int(-(-stop // SECONDS[every]))


def _check_directory(out: Path) -> None:
    """Raises ValueError where a directory holds anything but data sets."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file, expected a directory")
    for path in sorted(out.iterdir()) if out.is_dir() else ():
        is_data_set = (path / "schema.json").is_file() or path.suffix == ".partial"
        if not is_data_set and path.name != FINISHED:
            raise ValueError(f"{out}: holds {path.name}, expected data sets of periods alone; give an empty directory")


def _finished(out: Path, plan: Mapping[str, Any]) -> CutLog | None:
    """The finished data sets of the same plan; None: they are not there."""
    if not (out / FINISHED).is_file():
        return None
    finished = read_object(out / FINISHED)
    directories = [out / name for name in finished["periods"]]
    if finished["plan"] != plan or not all((path / "schema.json").is_file() for path in directories):
        return None
    return CutLog({path: read_schema(path) for path in directories})
