"""Curves over training steps: means, spreads, thinning."""

import numpy as np
import pytest

from dlrm_mtl.reporting.figures.curves import draw_curve
from dlrm_mtl.reporting.figures.panels import curve_panel, look
from dlrm_mtl.reporting.runs.report_data import Record


def windows(values: list[float | None]) -> list[Record]:
    return [{"step": 10 * (index + 1), "qps": value} for index, value in enumerate(values)]


def pick(window: Record) -> float | None:
    value: float | None = window["qps"]
    return value


def test_mean_and_spread_over_seeds() -> None:
    curve = draw_curve([windows([1, 2]), windows([3, 6]), windows([5, 1])], pick, 300)
    assert curve is not None
    assert curve.has_band
    assert curve.steps.tolist() == [10, 20]
    assert curve.mean.tolist() == [3, 3]
    assert curve.low.tolist() == [1, 1]
    assert curve.high.tolist() == [5, 6]


def test_what_is_missing_is_a_gap() -> None:
    curve = draw_curve([windows([1, None, None]), windows([3, 4, None])], pick, 300)
    assert curve is not None
    assert curve.mean[:2].tolist() == [2, 4]
    assert np.isnan(curve.mean[2])
    assert not curve.alone.any()
    gaps = draw_curve([windows([1, None, 3, 4])], pick, 300)
    assert gaps is not None
    assert gaps.alone.tolist() == [True, False, False, False]
    assert draw_curve([windows([None, None])], pick, 300) is None
    assert draw_curve([], pick, 300) is None


@pytest.mark.parametrize(("count", "points"), [(300, 300), (301, 151), (1000, 250), (899, 300)])
def test_long_curves_are_thinned_out(count: int, points: int) -> None:
    values = np.arange(count, dtype=float)
    curve = draw_curve([windows(values.tolist())], pick, 300)
    assert curve is not None
    assert len(curve.steps) == len(curve.mean) == points
    assert curve.steps[-1] == 10 * count
    block = -(-count // 300)
    assert curve.steps[0] == 10 * block
    assert curve.mean[0] == values[:block].mean()
    assert curve.mean[-1] == values[(points - 1) * block :].mean()


@pytest.mark.parametrize(
    ("low", "high", "tick"), [(0.0001, 1.0, "0.01"), (0.9, 1.1, "1"), (2.1, 4.9, "5"), (5.3, 9.8, "1e+01")]
)
def test_a_logarithmic_axis_of_any_span_has_ticks(low: float, high: float, tick: str) -> None:
    curve = draw_curve([windows([low, high])], pick, 300)
    assert curve is not None
    drawn = curve_panel("norms", "norms", [(look(0), curve)], unit="norm", limits=(low, high), logarithmic=True)
    assert f"<!-- {tick} -->" in drawn
