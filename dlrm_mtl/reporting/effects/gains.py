"""Gains of an arm over its control with one seed, in percent; positive if the arm is better."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from dlrm_mtl.metrics.estimates import Estimates, combine
from dlrm_mtl.metrics.evaluation import EvaluationEstimates

METRICS = ("auc", "auprc", "gauc", "uauc", "recalibrated_ne")
"""Metrics of binary tasks other than NE that have gains in comparison.json."""
REGRESSION_METRICS = ("xauc",)
"""The same of regressions."""
LOWER_IS_BETTER = ("ne", "recalibrated_ne")


@dataclass(frozen=True)
class Gains:
    """Gains on M tasks."""

    metrics: Mapping[str, Estimates]
    """``ne``, the normalized loss, and those :data:`METRICS` and :data:`REGRESSION_METRICS` that both arms have: 100
    times the difference. ``relative_ne``: the gain in the normalized loss in percent of the control's."""
    buckets: npt.NDArray[np.int64]
    """(M,) number of buckets with rows of each task."""
    segments: Mapping[str, Mapping[str, "SegmentGains"]] = field(default_factory=dict)
    """By segment and value."""
    products: "Gains | None" = None
    """Gains on P products of tasks; None if one of the arms has none."""


@dataclass(frozen=True)
class SegmentGains:
    """Gains on the evaluation rows of one segment value."""

    rows: int
    gains: Gains
    """``ne`` and ``relative_ne`` only."""


def gains_over(control: Mapping[str, Estimates], arm: Mapping[str, Estimates]) -> Gains:
    """Gains from the metrics of control and arm on the same rows, so that noise common to both models cancels in the
    error."""
    shared = [metric for metric in ("ne", *METRICS, *REGRESSION_METRICS) if metric in control and metric in arm]
    gains = {metric: _difference(metric, control[metric], arm[metric]) for metric in shared}
    return Gains({**gains, "relative_ne": _relative(control["ne"], arm["ne"])}, control["ne"].buckets())


def gains_of_seed(arms: Mapping[str, EvaluationEstimates], control: str) -> dict[str, Gains]:
    """Gains of all arms but the control, with one seed and the same evaluation rows."""
    baseline = arms[control]
    return {name: _with_segments(baseline, arm) for name, arm in arms.items() if name != control}


def _with_segments(control: EvaluationEstimates, arm: EvaluationEstimates) -> Gains:
    segments = {
        name: {
            value: SegmentGains(segment.rows, gains_over({"ne": control.segments[name][value].ne}, {"ne": segment.ne}))
            for value, segment in values.items()
        }
        for name, values in arm.segments.items()
    }
    products = None
    if control.product_estimates and arm.product_estimates:
        products = gains_over(control.product_estimates, arm.product_estimates)
    return replace(gains_over(control.estimates, arm.estimates), segments=segments, products=products)


def _difference(metric: str, control: Estimates, arm: Estimates) -> Estimates:
    sign = 100.0 if metric in LOWER_IS_BETTER else -100.0
    return combine([sign, -sign], [control, arm])


def _relative(control: Estimates, arm: Estimates) -> Estimates:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = arm.values / control.values
    return Estimates(100 * (1 - ratio), 100 * (ratio * control.influence - arm.influence) / control.values)
