"""Curves with their spread, from the windows of several seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from dlrm_mtl.reporting.runs.report_data import Record

FloatArray = npt.NDArray[np.float64]
Pick = Callable[[Record], float | None]
"""Takes a curve's value from a window; None if there is none."""


@dataclass(frozen=True)
class Curve:
    """(n,) training steps or days, and values with the ends of their band, such as the mean, the lowest and the highest
    value over seeds; NaN where there is none."""

    steps: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray

    @property
    def has_band(self) -> bool:
        return bool((self.low < self.high).any())

    @property
    def alone(self) -> npt.NDArray[np.bool_]:
        """(n,) whether a value has none beside it."""
        gaps = np.isnan(np.pad(self.mean, 1, constant_values=np.nan))
        return ~gaps[1:-1] & gaps[:-2] & gaps[2:]


def draw_curve(seeds: Sequence[Sequence[Record]], pick: Pick, points: int) -> Curve | None:
    """The curve of a value over the steps of all seeds; None without any value.

    A curve with more than ``points`` windows is thinned out: each of its points is the mean of
    :func:`windows_per_point` windows, at the step of the last one.
    """
    steps = sorted({window["step"] for windows in seeds for window in windows})
    if not steps:
        return None
    column = {step: index for index, step in enumerate(steps)}
    block = windows_per_point(len(steps), points)
    values = np.full((len(seeds), ceil(len(steps) / block) * block), np.nan)
    for row, windows in zip(values, seeds, strict=True):
        for window in windows:
            value = pick(window)
            if value is not None:
                row[column[window["step"]]] = value
    blocks = np.ma.masked_invalid(values).reshape(len(seeds), -1, block).mean(axis=2)
    if not blocks.count():
        return None
    mean, low, high = (np.ma.filled(reduce(axis=0), np.nan) for reduce in (blocks.mean, blocks.min, blocks.max))
    ends = np.array([*steps[block - 1 :: block], *([steps[-1]] if len(steps) % block else [])], dtype=np.float64)
    return Curve(ends, mean, low, high)


def windows_per_point(windows: int, points: int) -> int:
    """Number of windows averaged into one point of a curve with at most ``points`` points."""
    return ceil(windows / points)
