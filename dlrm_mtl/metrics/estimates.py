"""Metrics with the influence of each bucket of evaluation rows, from which their errors follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dlrm_mtl.statistics.effect import Effect, Interval

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimates:
    """A metric of M tasks, measured on rows in K buckets. All rows of a cluster are in one bucket, so buckets are
    independent.

    If bucket k's rows counted ``1 + e`` times, a value would change by ``e * influence[k]`` to first order (the
    infinitesimal jackknife, Efron 1982). :func:`combine` adds estimates over the same rows, so that common errors
    cancel.
    """

    values: FloatArray
    """(M,); NaN if the metric is undefined."""
    influence: FloatArray
    """(K, M), sums to 0 over buckets; 0 in buckets without a defined row."""

    def variance(self) -> FloatArray:
        """(M,) variance of the values over rows; NaN for a task with rows in fewer than two buckets."""
        buckets = self.buckets()
        squares = np.square(self.influence).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(buckets > 1, squares * buckets / (buckets - 1), np.nan)

    def buckets(self) -> npt.NDArray[np.int64]:
        """(M,) number of buckets with rows of each task."""
        return np.count_nonzero(self.influence, axis=0)

    def of_task(self, task: int) -> "Estimates":
        """The estimates of one task."""
        return self.of_tasks([task])

    def of_tasks(self, tasks: slice | Sequence[int]) -> "Estimates":
        """The estimates of some tasks."""
        chosen = tasks if isinstance(tasks, slice) else list(tasks)
        return Estimates(self.values[chosen], self.influence[:, chosen])

    def weighted(self, weights: Sequence[float]) -> "Estimates":
        """The weighted sum of M tasks' values, as one task; tasks of weight 0 need no value."""
        used = np.flatnonzero(weights)
        column = np.asarray(weights, dtype=np.float64)[used, None]
        return Estimates(self.values[used] @ column, self.influence[:, used] @ column)


def combine(weights: Sequence[float], estimates: Sequence[Estimates]) -> Estimates:
    """A weighted sum of estimates over the same rows: a difference of arms, a mean over seeds."""
    return Estimates(
        values=sum(w * e.values for w, e in zip(weights, estimates, strict=True)),  # type: ignore[arg-type]
        influence=sum(w * e.influence for w, e in zip(weights, estimates, strict=True)),  # type: ignore[arg-type]
    )


def over_rows(estimates: Estimates) -> Interval | None:
    """95 % interval of one task's value for other rows; None if it has fewer than two buckets."""
    variance, buckets = float(estimates.variance()[0]), int(estimates.buckets()[0])
    return Effect.over([float(estimates.values[0])], variance, buckets).over_rows()


def on_buckets(estimates: Estimates, chosen: npt.NDArray[np.bool_]) -> Estimates:
    """The estimates on the rows of some buckets only, to first order; buckets have about equal numbers of rows. NaN for
    a task without rows in them.

    Args:
        chosen: (K,) bool, the buckets to use.
    """
    there = estimates.influence != 0
    own = there & chosen[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = estimates.influence * (there.sum(axis=0) / own.sum(axis=0))  # how much more each bucket counts
        total = np.where(own, grown, 0.0).sum(axis=0)
        total[there.any(axis=0) & ~own.any(axis=0)] = np.nan
        # Must sum to 0 over the chosen buckets, which now hold all rows.
        centred = np.where(own, grown - total / own.sum(axis=0), 0.0)
    return Estimates(estimates.values + total, centred)


def join_metrics(parts: Sequence[Mapping[str, Estimates]]) -> dict[str, Estimates]:
    """By metric, the tasks of all parts in one, which are over the same buckets. A metric that a part lacks, as its
    tasks are of another kind, is undefined there."""

    def of_part(part: Mapping[str, Estimates], metric: str) -> Estimates:
        buckets, tasks = next(iter(part.values())).influence.shape
        return part[metric] if metric in part else undefined(buckets, tasks)

    metrics = dict.fromkeys(metric for part in parts for metric in part)
    return {metric: join([of_part(part, metric) for part in parts]) for metric in metrics}


def join(estimates: Sequence[Estimates]) -> Estimates:
    """The tasks of all estimates in one; buckets must hold the same clusters."""
    return Estimates(
        np.concatenate([each.values for each in estimates]),
        np.concatenate([each.influence for each in estimates], axis=1),
    )


def where_finite(values: FloatArray, influence: FloatArray) -> Estimates:
    """Estimates from (M,) values and (K, M) influence; undefined where either is not finite."""
    finite = np.isfinite(values) & np.isfinite(influence).all(axis=0)
    return Estimates(np.where(finite, values, np.nan), np.where(finite, influence, 0.0))


def of_one(value: float, influence: FloatArray) -> Estimates:
    """Estimates of one task, from (K,) influence."""
    return where_finite(np.array([value]), influence[:, None])


def undefined(buckets: int, tasks: int = 1) -> Estimates:
    """Estimates of tasks without a value."""
    return Estimates(np.full(tasks, np.nan), np.zeros((buckets, tasks)))


def bucket_totals(values: FloatArray, buckets: npt.NDArray[np.int64], num_buckets: int) -> FloatArray:
    """(K,) sums by bucket of (N,) values."""
    return np.asarray(np.bincount(buckets, values, num_buckets), dtype=np.float64)
