"""Decide, the third stage of a step: the method turns the reduced statistic into coefficients."""

import torch

from dlrm_mtl.balancing.algebra.arrays import Array, like
from dlrm_mtl.balancing.algebra.finite import Truth, all_finite
from dlrm_mtl.balancing.kernels.cuda_graphs import CapturedStages
from dlrm_mtl.balancing.kernels.gradients import CutGradients
from dlrm_mtl.balancing.kernels.weighted_sum import bounded_coefficients, bounding_dtype
from dlrm_mtl.balancing.methods.balancer import Balancer
from dlrm_mtl.balancing.methods.replay import compute
from dlrm_mtl.balancing.methods.whole_gradients import adds_up_gradients
from dlrm_mtl.balancing.step import Decision, Measurement, Reduced


def decide(
    balancer: Balancer, measurement: Measurement, reduced: Reduced, cut: CutGradients, captured: CapturedStages
) -> Decision:
    """The coefficients of the cut's gradients, which the measurement is of. Advances the method's state."""
    bounds = balancer.measures_now == "gramian" and adds_up_gradients(balancer)
    return compute(
        _decision,
        balancer,
        captured,
        measurement.statistic,
        None if measurement.finite is True else measurement.finite,
        *reduced,
        bounded_in=bounding_dtype(cut) if bounds else None,
    )


def _decision(
    measured: Array,
    measured_finite: Truth | None,
    statistic: Array,
    losses: Array | None,
    fallback: Array | None,
    repeated: Array | None,
    balancer: Balancer,
    bounded_in: torch.dtype | None,
) -> Decision:
    """
    Args:
        measured: the statistic of the gradients that the coefficients will be applied to.
        measured_finite: whether they are finite; None if they are.
        statistic: this and the next three are a :class:`Reduced`.
        bounded_in: the dtype in which ``measured`` bounds each element of the balanced gradient, if it does.
    """
    finite: Truth = True if measured_finite is None else measured_finite
    if repeated is None:
        statistic_finite = all_finite(statistic)
        coefficients = balancer.update(statistic, losses, fallback, statistic_finite)
        if fallback is None and balancer.measures != "nothing":
            finite = statistic_finite
    else:
        coefficients = repeated
    weights = 1.0 * like(statistic, balancer.task_weights())
    if bounded_in is None:
        return Decision(statistic, coefficients, weights, coefficients, finite)
    applied = bounded_coefficients(coefficients, measured, finite, bounded_in)
    return Decision(statistic, coefficients, weights, applied, None)
