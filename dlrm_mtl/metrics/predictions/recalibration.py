"""NE after recalibration: NE once a constant bias of the logits is corrected."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, log_expit, logit

from dlrm_mtl.metrics.estimates import Estimates, FloatArray, of_one, undefined
from dlrm_mtl.metrics.predictions.rows import Rows


@dataclass(frozen=True)
class Recalibration:
    """NE on one half of the clusters, with a bias added to all logits that was fitted on the other half."""

    ne: Estimates
    bias: float | None
    """In log-odds; None, as NE is, if either half lacks a class."""


def recalibrate(rows: Rows, fitted: npt.NDArray[np.bool_]) -> Recalibration:
    """Fits the bias that makes the mean prediction equal the base rate, and evaluates it on the other rows.

    The influence of a row used for fitting is d NE / d bias times d bias / d weight.

    Args:
        fitted: (N,) bool, the rows to fit the bias on; all rows of a cluster or none.
    """
    rest = ~fitted
    of_fit, of_rest = rows.positive[fitted], rows.positive[rest]
    if any(half.all() or not half.any() for half in (of_fit, of_rest)):
        return Recalibration(undefined(rows.num_buckets), None)
    logits = rows.logits.astype(np.float64)
    fit_weights, weights = rows.weights[fitted], rows.weights[rest]
    bias = _bias(logits[fitted], fit_weights, float(np.average(of_fit, weights=fit_weights)))
    logits += bias
    to_fit, to_judge = logits[fitted], logits[rest]
    rate = np.average(of_rest, weights=weights)
    entropies = weights * np.where(of_rest, -np.log(rate), -np.log1p(-rate))
    losses = -weights * log_expit(np.where(of_rest, to_judge, -to_judge))
    ne = float(losses.sum() / entropies.sum())
    predicted = expit(to_fit)
    slope = (fit_weights * predicted * (1 - predicted)).sum()
    of_bias = (weights * (expit(to_judge) - of_rest)).sum() / entropies.sum() / slope
    influence = np.empty(len(logits))
    influence[fitted] = of_bias * fit_weights * (of_fit - predicted)
    influence[rest] = (losses - ne * entropies) / entropies.sum()
    return Recalibration(of_one(ne, rows.influence(influence)), bias)


def _bias(logits: FloatArray, weights: FloatArray, rate: float) -> float:
    """The bias that makes the mean prediction equal the rate, by root finding between bounds that enclose it."""
    target = float(logit(rate))
    low, high = target - float(logits.max()) - 1, target - float(logits.min()) + 1

    def excess(bias: float) -> float:
        return float(np.average(expit(logits + bias), weights=weights)) - rate

    return float(brentq(excess, low, high, xtol=1e-11, rtol=1e-13))
