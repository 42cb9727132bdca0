"""XAUC: the share of pairs of rows with different labels that the predictions order rightly.

Notation: N rows, V different labels.
"""

import numpy as np
import numpy.typing as npt

from dlrm_mtl.metrics.estimates import Estimates, FloatArray, of_one, undefined
from dlrm_mtl.metrics.predictions.rows import LabelledRows, tenths
from dlrm_mtl.metrics.task_metrics import LabelDecile


def xauc(rows: LabelledRows) -> Estimates:
    """XAUC (Zhan et al., KDD 2022); undefined if all labels are equal. A pair weighs the product of its rows' weights
    and counts half if its predictions are equal.

    A row's influence is the deviation of its own pairs from the value.
    """
    values, places = np.unique(rows.labels, return_inverse=True)
    if len(values) < 2:
        return undefined(rows.num_buckets)
    with_label = np.bincount(places, rows.weights, len(values))
    pairs = rows.weights * (with_label.sum() - with_label[places])  # (N,)
    right = rows.weights * _ordered_rightly(rows, places)
    value = float(right.sum() / pairs.sum())
    return of_one(value, rows.influence(2 * (right - value * pairs) / pairs.sum()))


def label_deciles(rows: LabelledRows) -> tuple[LabelDecile, ...]:
    """Tenths of the rows, from the lowest predictions to the highest; fewer parts for fewer than ten rows."""
    order = np.argsort(rows.predictions, kind="stable")
    means = tenths(
        rows.predictions[order].astype(np.float64), rows.labels[order].astype(np.float64), rows.weights[order]
    )
    return tuple(LabelDecile(*of_part) for of_part in means)


def _ordered_rightly(rows: LabelledRows, places: npt.NDArray[np.int64]) -> FloatArray:
    """(N,) weight of the rows that each row is ordered rightly with, in O(N log N).

    Two labels differ first in one bit of their places, from the highest on, which says whose label is larger. Before
    each bit, rows that agree in all higher bits stand together, in the order of their predictions.
    """
    rows_at = np.argsort(rows.predictions, kind="stable")
    predictions, places, weights = rows.predictions[rows_at], places[rows_at], rows.weights[rows_at]
    right = np.zeros(len(rows_at))
    for bit in reversed(range(int(places.max()).bit_length())):
        larger = (places >> bit & 1).astype(bool)
        of_smaller, of_larger = (np.concatenate([[0.0], np.cumsum(weights * side)]) for side in (~larger, larger))
        higher_bits = places >> (bit + 1)
        new_group = higher_bits[1:] != higher_bits[:-1]
        groups, ties = _runs(new_group), _runs(new_group | (predictions[1:] != predictions[:-1]))
        # Of the rows with an equal prediction, one half counts as before and one half as after.
        before, rest = ((of[ties[:-1]] + of[ties[1:]]) / 2 for of in (of_smaller, of_larger))
        right += np.where(
            larger,
            np.repeat(before, np.diff(ties)) - np.repeat(of_smaller[groups[:-1]], np.diff(groups)),
            np.repeat(of_larger[groups[1:]], np.diff(groups)) - np.repeat(rest, np.diff(ties)),
        )
        order = np.concatenate([np.flatnonzero(~larger), np.flatnonzero(larger)])
        rows_at, predictions, places, weights, right = (
            each[order] for each in (rows_at, predictions, places, weights, right)
        )
    of_rows = np.empty_like(right)
    of_rows[rows_at] = right
    return of_rows


def _runs(changes: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Where runs of equal values start, and N, from (N - 1,) whether a value differs from the one before."""
    return np.flatnonzero(np.concatenate([[True], changes, [True]]))
