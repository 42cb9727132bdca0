"""NE after recalibration: what is left of NE when a bias is put right that a later model, or a day's data, would."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, log_expit, logit

from dlrm_mtl.metrics.estimates import Estimates, FloatArray, of_one, undefined
from dlrm_mtl.metrics.ranking import Rows


@dataclass(frozen=True)
class Recalibration:
    """NE of one half of the clusters, after a bias was added to all logits that the other half has chosen."""

    ne: Estimates
    bias: float | None
    """In log-odds; None where a half lacks a class, and there is no NE either."""


def recalibrate(rows: Rows, fitted: npt.NDArray[np.bool_]) -> Recalibration:
    """Fits the bias with which the mean prediction is the base rate, and judges it.

    The influence of a row on which it is fitted goes by the bias: d NE / d bias times d bias / d weight.

    Args:
        fitted: (N,) which rows the bias is fitted on; all rows of a cluster, or none.
    """
    rest = ~fitted
    of_fit, of_rest = rows.positive[fitted], rows.positive[rest]
    if any(half.all() or not half.any() for half in (of_fit, of_rest)):
        return Recalibration(undefined(rows.num_buckets), None)
    logits = rows.logits.astype(np.float64)
    bias = _bias(logits[fitted], float(of_fit.mean()))
    logits += bias
    to_fit, to_judge = logits[fitted], logits[rest]
    rate = of_rest.mean()
    entropies = np.where(of_rest, -np.log(rate), -np.log1p(-rate))
    losses = -log_expit(np.where(of_rest, to_judge, -to_judge))
    ne = float(losses.sum() / entropies.sum())
    predicted = expit(to_fit)
    of_bias = (expit(to_judge) - of_rest).sum() / entropies.sum() / (predicted * (1 - predicted)).sum()
    influence = np.empty(len(logits))
    influence[fitted] = of_bias * (of_fit - predicted)
    influence[rest] = (losses - ne * entropies) / entropies.sum()
    return Recalibration(of_one(ne, rows.influence(influence)), bias)


def _bias(logits: FloatArray, rate: float) -> float:
    """The bias under which the mean prediction is the rate. At the ends all predictions are below it, or above."""
    target = float(logit(rate))
    low, high = target - float(logits.max()) - 1, target - float(logits.min()) + 1
    return float(brentq(lambda bias: float(expit(logits + bias).mean()) - rate, low, high, xtol=1e-11, rtol=1e-13))
