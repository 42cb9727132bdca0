"""A chain of small days: the table of users grows, and some of its ids get another value."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_prep.output.continued import Continued
from data_prep.output.writer import DatasetWriter
from dlrm_mtl.continuation import Period
from dlrm_mtl.meaning import Fingerprints, TableFingerprint
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import STREAM
from tests.datasets import CATEGORICAL, DENSE, FINGERPRINTS, TASKS, make_table

SIZES = (30, 36, 36, 41, 41)
"""Users of each day."""
RESET = ((), (), (3, 7), (), (2,))
"""Users of each day that have another value than on the day before."""
ROWS = 150
START = np.datetime64("2024-01-01")


def users(day: int) -> TableFingerprint:
    """The table of users on a day."""
    return TableFingerprint("vocabulary", SIZES[day], sha256=f"{day:x}" * 64)


def fingerprints(day: int) -> Fingerprints:
    return replace(FINGERPRINTS, tables={**FINGERPRINTS.tables, "user": users(day)})


def make_day(
    directory: Path,
    day: int,
    tasks: Sequence[Task] = TASKS,
    price: float | None = None,
    rows: Callable[[int, int], pa.Table] = make_table,
) -> Path:
    """Writes the data set of a day, which continues that of the day before.

    Args:
        price: of all rows; by default as in other test data.
        rows: gives the rows, by their number and a seed.
    """
    categorical = (replace(CATEGORICAL[0], cardinality=SIZES[day]), *CATEGORICAL[1:])
    table = rows(ROWS, 10 + day).to_pydict()
    table["user"] = [user % SIZES[day] for user in table["user"]]
    if price is not None:
        table["price"] = [price] * ROWS
    before = None
    if day:
        reset = {"user": np.array(RESET[day], np.int64)}
        before = Continued(f"day {day - 1}", fingerprints(day - 1).tables, reset)
    with DatasetWriter(
        directory, f"day {day}", categorical, DENSE, tasks, 64, fingerprints=fingerprints(day), splits=[STREAM]
    ) as writer:
        writer.write(STREAM, pa.table(table))
        period = Period(str(START + day), str(START + day + 1))
        writer.finish(source={}, period=period, continued=before)
    return directory


def make_days(directory: Path, count: int, tasks: Sequence[Sequence[Task]] = ()) -> tuple[Path, ...]:
    """Writes days as the folders a, b, ...

    Args:
        tasks: of each day; by default the same.
    """
    of_days = [tasks[day] if tasks else TASKS for day in range(count)]
    return tuple(make_day(directory / "abcdefgh"[day], day, of_days[day]) for day in range(count))
