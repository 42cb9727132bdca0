"""Periods of times: the one that rows span, and the days or hours of a log."""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_prep.columns.arrays import NULL
from data_prep.columns.days import PER_DAY, SECONDS_PER_DAY, YYYYMMDD, to_days
from dlrm_mtl.continuation import Period

Every = Literal["day", "hour"]

SECONDS: dict[Every, int] = {"day": SECONDS_PER_DAY, "hour": 3600}


def period_of(first: float, last: float, unit: str | None) -> Period:
    """The period from a first to a last time: whole seconds (of dates, days) in UTC, or numbers without a unit.

    Args:
        unit: see :data:`data_prep.columns.days.PER_DAY`; None: unknown.
    """
    if unit is None:
        after = last + 1 if isinstance(last, int) else math.nextafter(last, math.inf)
        return Period(repr(first), repr(after))
    start, stop = seconds_of(np.array([first, last]), unit).tolist()
    return _period(start, stop + (SECONDS_PER_DAY if unit == YYYYMMDD else 1))


def seconds_of(times: npt.NDArray[np.int64] | npt.NDArray[np.float64], unit: str) -> npt.NDArray[np.int64]:
    """Whole seconds since 1970 (B,) of times (B,); NULL where a number is no date."""
    if unit == YYYYMMDD:
        days = to_days(times.astype(np.int64))
        return np.where(days == NULL, NULL, days * SECONDS_PER_DAY)
    return np.floor_divide(times, PER_DAY[unit] // SECONDS_PER_DAY).astype(np.int64)


def number_of(seconds: npt.NDArray[np.int64], every: Every) -> npt.NDArray[np.int64]:
    """Numbers (B,) of the days or hours since 1970 in which seconds since 1970 (B,) lie."""
    return np.floor_divide(seconds, SECONDS[every])


def numbered(number: int, every: Every) -> Period:
    """The day or hour of a number."""
    return _period(number * SECONDS[every], (number + 1) * SECONDS[every])


def name_of(number: int, every: Every) -> str:
    """The name of a day, 2022-04-25, or of an hour, 2022-04-25T07."""
    return numbered(number, every).start[: len("2022-04-25") if every == "day" else len("2022-04-25T07")]


def _period(start: int, stop: int) -> Period:
    return Period(str(np.datetime64(start, "s")), str(np.datetime64(stop, "s")))
