"""Mean and deviation of dense features and of regression labels, learnt from training rows alone."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.ids.vocabulary import Floats

Scale = tuple[float, float]
"""Mean and deviation."""


@dataclass(frozen=True)
class Scaler:
    """The scale of a standardised dense feature."""

    mean: float
    deviation: float
    """1 where all values are equal or there are none."""
    has_missing: bool
    """Whether values were missing among the training rows."""

    @property
    def scale(self) -> Scale:
        return self.mean, self.deviation


class Moments:
    """Mean and standard deviation of values over any number of batches; NaN is a missing value."""

    def __init__(self) -> None:
        self.count: float = 0
        """Number of values, or the sum of their weights."""
        self._missing = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, values: Floats, weights: npt.NDArray[np.integer] | Floats | None = None) -> None:
        """Counts each value once, or by its weight, at least 0."""
        weights = np.ones(len(values), np.int64) if weights is None else weights
        known = ~np.isnan(values)
        self._missing += int(weights[~known].sum())
        values, weights = values[known], weights[known]
        count = weights.sum().item()
        if count:
            mean = float(np.average(values, weights=weights))
            self._combine(count, mean, float(np.sum(weights * (values - mean) ** 2)))

    def merge(self, other: "Moments") -> None:
        """Adds the counts of another."""
        self._missing += other._missing
        self._combine(other.count, other.mean, other._squares)

    def as_record(self) -> list[float]:
        """The counts, for JSON."""
        return [self.count, self._missing, self.mean, self._squares]

    @staticmethod
    def from_record(record: list[float]) -> "Moments":
        moments = Moments()
        moments.count, missing, moments.mean, moments._squares = record
        moments._missing = int(missing)
        return moments

    def _combine(self, count: float, mean: float, squares: float) -> None:
        # Chan et al., 1983: merges means and sums of squares without cancellation of large sums.
        if count == 0:
            return
        total = self.count + count
        shift = mean - self.mean
        self.mean += shift * count / total
        self._squares += squares + shift**2 * self.count * count / total
        self.count = total

    @property
    def deviation(self) -> float:
        """Population standard deviation; 0 without values."""
        return float(np.sqrt(self._squares / self.count)) if self.count else 0.0

    def scaler(self) -> Scaler:
        deviation = self.deviation
        # The deviation of equal values is a rounding error, not a divisor.
        if deviation <= 1e-9 * max(abs(self.mean), 1.0):
            deviation = 1.0
        return Scaler(self.mean, deviation, self._missing > 0)
