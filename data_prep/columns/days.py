"""Days of times, as text."""

import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from data_prep.columns.arrays import NULL, Integers

SECONDS_PER_DAY = 86_400

FROM, TO = datetime.date(1990, 1, 1), datetime.date(2100, 1, 1)
"""Numbers that all lie between these dates in one of the units below are times in that unit. The ranges of the units
do not overlap."""

PER_DAY = {"s": SECONDS_PER_DAY, "ms": SECONDS_PER_DAY * 10**3, "us": SECONDS_PER_DAY * 10**6}
PER_DAY |= {"ns": SECONDS_PER_DAY * 10**9}
"""Ticks per day of each unit; times count from 1970 in UTC."""

YYYYMMDD = "YYYYMMDD"
"""The unit of dates written as one number, such as 20240131."""


def find_unit(first: float, last: float) -> str | None:
    """The unit of times between two numbers, see ``FROM``; None: unknown."""
    for unit, per_day in PER_DAY.items():
        if day_number(FROM) * per_day <= first <= last < day_number(TO) * per_day:
            return unit
    low, high = (int(day.strftime("%Y%m%d")) for day in (FROM, TO))
    return YYYYMMDD if low <= first <= last < high else None


def days_of(times: npt.NDArray[np.int64] | npt.NDArray[np.float64], unit: str) -> pa.StringArray:
    """Days (B,) of times (B,) as ``2024-01-31``; null where a number is no date."""
    if unit == YYYYMMDD:
        return day_texts(to_days(times.astype(np.int64)))
    return day_texts(np.floor_divide(times, PER_DAY[unit]).astype(np.int64))


def day_texts(days: Integers) -> pa.StringArray:
    """Days since 1970 (B,) as ``2024-01-31``; null where they are ``NULL``."""
    distinct, inverse = np.unique(days, return_inverse=True)
    texts = [None if day == NULL else str(np.datetime64(day, "D")) for day in distinct.tolist()]
    return pa.array(texts, pa.string()).take(pa.array(inverse))


def to_days(dates: Integers) -> Integers:
    """Days since 1970 of dates written YYYYMMDD; ``NULL`` where there is no such date."""
    distinct, inverse = np.unique(dates, return_inverse=True)
    return np.array([_day(int(date)) for date in distinct], np.int64)[inverse]


def day_number(date: datetime.date) -> int:
    """Days since 1970."""
    return date.toordinal() - datetime.date(1970, 1, 1).toordinal()


def _day(date: int) -> int:
    try:
        return day_number(datetime.date(date // 10_000, date // 100 % 100, date % 100))
    except (ValueError, OverflowError):
        return NULL
