"""A world of known truth: a model's metrics on unlimited rows, by numerical integration.

A row of a task is positive with probability sigmoid(a + x + u): models know x, and u is an error shared by the rows of
a user; both are normal, x with variance 1. A model predicts the logit a + x + e with an error e of its own, normal over
rows with variance W. Every metric on unlimited rows is a function of W.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special
from scipy.optimize import brentq

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

LARGEST_VARIANCE = 4.0
"""The largest W with known metrics."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_STEP = 0.02
_STANDARD = np.arange(-8, 8, _STEP)
"""Quantiles of the standard normal distribution, for a model's logits."""
_DENSITY = np.exp(-(_STANDARD**2) / 2) / np.sqrt(2 * np.pi) * _STEP


def normal_mean(function: Function, mean: FloatArray | float, variance: float) -> FloatArray:
    """Expectation of a function of a normal variable, for each mean."""
    return function(np.asarray(mean)[..., None] + np.sqrt(variance) * _NODES) @ _WEIGHTS


@dataclass(frozen=True)
class Population:
    """One task on unlimited rows."""

    rate: float
    """Rate of positives."""
    user_error: float = 0.0
    """Standard deviation of u."""

    @functools.cached_property
    def intercept(self) -> float:
        """a."""
        return brentq(lambda a: float(normal_mean(special.expit, a, 1 + self.user_error**2)) - self.rate, -20, 20)

    def metrics(self, variances: FloatArray) -> dict[str, FloatArray]:
        """Metrics of models with these W, by interpolation."""
        grid, table = _tabulate(self)
        return {name: np.interp(variances, grid, values) for name, values in table.items()}

    def variance_for(self, ne: float) -> float:
        """W of a model with this NE."""
        grid, table = _tabulate(self)
        return float(np.interp(ne, table["ne"], grid))

    def metrics_at(self, variance: float) -> dict[str, float]:
        """Metrics of a model with this W."""
        a, rate = self.intercept, self.rate
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        # E[y (a + x)]: by Stein's lemma E[y x] is the mean slope of the sigmoid.
        slope = normal_mean(lambda z: special.expit(z) * special.expit(-z), a, 1 + self.user_error**2)
        of_positives = a * rate + float(slope)

        def ne(bias: float) -> float:
            softplus = normal_mean(lambda z: np.logaddexp(0, z), a + bias, 1 + variance)
            return float((softplus - of_positives - bias * rate) / entropy)

        def predicted(bias: float) -> float:
            return float(normal_mean(special.expit, a + bias, 1 + variance))

        # Of rows by their logit a + sqrt(1 + W) z: x given z is normal, too.
        x_given_z = a + _STANDARD / np.sqrt(1 + variance)
        positive = normal_mean(special.expit, x_given_z, variance / (1 + variance) + self.user_error**2)
        positives, negatives = _DENSITY * positive, _DENSITY * (1 - positive)
        below = np.cumsum(negatives) - negatives / 2
        above_positives = np.cumsum(positives[::-1])[::-1] - positives / 2
        above = np.cumsum(_DENSITY[::-1])[::-1] - _DENSITY / 2
        bias = brentq(lambda b: predicted(b) - rate, -5, 5)
        return {
            "ne": ne(0.0),
            "recalibrated_ne": ne(bias),
            "auc": float((positives * below).sum() / (rate * (1 - rate))),
            "auprc": float((positives * above_positives / above).sum() / rate),
            "calibration": predicted(0.0) / rate,
        }


@functools.cache
def _tabulate(population: Population) -> tuple[FloatArray, dict[str, FloatArray]]:
    grid = np.linspace(0, np.sqrt(LARGEST_VARIANCE), 101) ** 2
    rows = [population.metrics_at(float(variance)) for variance in grid]
    return grid, {name: np.array([row[name] for row in rows]) for name in rows[0]}
