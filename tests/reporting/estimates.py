"""Made-up estimates of evaluations, for tests of the report."""

from collections.abc import Mapping, Sequence

import numpy as np

from dlrm_mtl.metrics.estimates import Estimates
from dlrm_mtl.metrics.evaluation import EvaluationEstimates, SegmentEvaluation


def drawn_estimates(
    nes: Mapping[str, Sequence[float]], error: float = 0.001, segments: Mapping[str, Sequence[str]] | None = None
) -> dict[str, EvaluationEstimates]:
    """By arm, from its NE of each task. The control has no error, so that a gain's error is ``100 * error``.

    Args:
        error: error of every NE over rows.
        segments: values by segment; each has the NE of all rows.
    """
    rng = np.random.default_rng(0)
    control = next(iter(nes))
    return {
        arm: EvaluationEstimates(
            {"ne": _estimates(rng, values, error if arm != control else 1e-9)},
            {
                name: {value: SegmentEvaluation(100, _estimates(rng, values, 10 * error, 100)) for value in of_segment}
                for name, of_segment in (segments or {}).items()
            },
        )
        for arm, values in nes.items()
    }


def _estimates(rng: np.random.Generator, values: Sequence[float], error: float, buckets: int = 1000) -> Estimates:
    influence = rng.standard_normal((buckets, len(values)))
    influence -= influence.mean(axis=0)
    influence *= error / np.sqrt(np.square(influence).sum(axis=0) * buckets / (buckets - 1))
    return Estimates(np.array(values, dtype=np.float64), influence)
