"""Simulated comparisons of arms of known truth: drawn logits and labels, through the functions that write
comparison.json."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import special
from scipy.optimize import brentq

from dlrm_mtl.data.context import Context
from dlrm_mtl.metrics.evaluation import Evaluation
from dlrm_mtl.metrics.evaluator import Evaluator
from dlrm_mtl.mixing import mix
from dlrm_mtl.models.ranker import Predictions
from dlrm_mtl.reporting.comparison import compare_seeds
from dlrm_mtl.reporting.effects.gains import LOWER_IS_BETTER, gains_of_seed
from dlrm_mtl.reporting.seed_summary import summarize_seed
from dlrm_mtl.segments import Segment
from dlrm_mtl.training.loop import ArmResult
from tests.metrics.kinds import binary_tasks
from tests.statistics.population import FloatArray, Population

FEATURES = 8
"""Number of features of a row or its user, on which the models' errors depend linearly."""
CONTROL = "control"


@dataclass(frozen=True)
class World:
    """The distribution of a comparison. A model's error e on a task is w' f: f are standard normal features of rows,
    half of them of their users; w is a vector shared by all seeds of an arm, in a random direction, plus noise of each
    seed."""

    rows: int
    seeds: int
    rates: tuple[float, ...] = (0.3,)
    """Rates of positives, by task."""
    arms: int = 1
    """Number of arms beside the control."""
    gains: tuple[float, ...] = (0.0,)
    """True NE gains (%) of every arm, by task."""
    common: float = 0.3
    """Length of the control's shared vector: the error of all seeds."""
    seed_noise: float = 0.2
    """Standard deviation of the error that each seed adds."""
    rows_per_user: int = 1
    user_error: float = 0.0
    """Standard deviation of the users' errors in the labels, in log-odds."""
    clustered: bool = True
    """Whether the evaluation knows users."""
    segments: int = 0
    """Number of values of a segment unrelated to the labels."""
    windows: int = 0
    """Timed windows per seed; 0 for no QPS."""
    qps_change: float = 0.0
    """True change of the arms' QPS (%)."""
    qps_noise: tuple[float, float] = (1.0, 2.0)
    """Standard deviations over seeds and windows, in percent."""

    @property
    def tasks(self) -> list[str]:
        return [f"task{index}" for index in range(len(self.rates))]

    @functools.cached_property
    def populations(self) -> list[Population]:
        return [Population(rate, self.user_error) for rate in self.rates]

    @functools.cached_property
    def lengths(self) -> FloatArray:
        """(2, M) lengths of the shared vectors of the control and of every arm."""
        return np.array(
            [
                [self.common, self._length_of(population, population.metrics(self._variances(self.common)), gain)]
                for population, gain in zip(self.populations, self.gains, strict=True)
            ]
        ).T

    @functools.cached_property
    def true_gains(self) -> dict[str, FloatArray]:
        """(M,) by metric, in percent: expected gain of other seeds on other rows."""
        gains: dict[str, list[float]] = {}
        for population, (control, arm) in zip(self.populations, self.lengths.T, strict=True):
            before, after = (population.metrics(self._variances(length)) for length in (control, arm))
            for metric in before:
                sign = 1 if metric in LOWER_IS_BETTER else -1
                gain = 100 * sign * float(before[metric].mean() - after[metric].mean())
                gains.setdefault(metric, []).append(gain)
            gains.setdefault("relative_ne", []).append(100 * float(1 - (after["ne"] / before["ne"]).mean()))
        return {metric: np.array(values) for metric, values in gains.items()}

    def true_gain(self, metric: str, task: int) -> float:
        """Also for user metrics, whose truth is known for equal arms only."""
        if metric not in self.true_gains and self.gains[task] == 0:
            return 0.0
        return float(self.true_gains[metric][task])

    def _length_of(self, population: Population, control: Mapping[str, FloatArray], gain: float) -> float:
        if gain == 0:
            return self.common
        target = float(control["ne"].mean()) - gain / 100

        def missing(length: float) -> float:
            return float(population.metrics(self._variances(length))["ne"].mean()) - target

        return brentq(missing, 0.0, 1.0)

    def _variances(self, length: float) -> FloatArray:
        """Errors of many seeds over rows, with a shared vector of this length."""
        vectors = self.seed_noise * np.random.default_rng(0).standard_normal((5000, FEATURES)) / np.sqrt(FEATURES)
        vectors[:, 0] += length
        return np.square(vectors).sum(axis=1)


@dataclass(frozen=True)
class Drawn:
    """One comparison of a world."""

    world: World
    comparison: Mapping[str, Any]
    gains_of_these_models: FloatArray
    """(A, M) true NE gain (%) of the drawn models on unlimited rows, averaged over seeds."""
    gains_on_these_rows: FloatArray
    """(A, M) NE gain (%) on the drawn rows, averaged over many other seeds; NaN unless requested."""
    calibrations: Mapping[str, FloatArray]
    """(S, M) calibration of each arm's models on unlimited rows."""


def draw(world: World, generator: np.random.Generator, other_seeds: int = 0) -> Drawn:
    """Draws rows and models, and compares them."""
    tasks, arms = len(world.rates), [CONTROL, *(f"arm{index}" for index in range(1, world.arms + 1))]
    rows = _draw_rows(world, generator)
    directions = generator.standard_normal((len(arms), FEATURES, tasks))
    lengths = world.lengths[[0] + [1] * world.arms, None]
    common = lengths * directions / np.linalg.norm(directions, axis=1, keepdims=True)

    def models(seeds: int) -> FloatArray:
        """(seeds, A + 1, FEATURES, M)."""
        noise = generator.standard_normal((seeds, *common.shape)) / np.sqrt(FEATURES)
        return common + world.seed_noise * noise

    vectors = models(world.seeds)
    summaries, gains = [], {}
    for seed in range(world.seeds):
        qps = _draw_qps(world, len(arms), generator)
        results = {
            name: ArmResult(rows.evaluate(vectors[seed, index]), qps[index], skipped_steps=0, rows_lost=0)
            for index, name in enumerate(arms)
        }
        summaries.append(summarize_seed(seed, world.tasks, results))
        gains[seed] = gains_of_seed({name: result.evaluation for name, result in results.items()}, CONTROL)
    variances = np.square(vectors).sum(axis=2)  # (S, A + 1, M)
    true = [population.metrics(variances[..., task]) for task, population in enumerate(world.populations)]
    ne = np.stack([of_task["ne"] for of_task in true], axis=2).mean(axis=0)
    others = np.full(ne.shape, np.nan)
    if other_seeds:
        others = np.mean([rows.normalized_entropy(models(1)[0]) for _ in range(other_seeds)], axis=0)
    return Drawn(
        world,
        compare_seeds(world.tasks, summaries, {}, gains=gains),
        100 * (ne[0] - ne[1:]),
        100 * (others[0] - others[1:]),
        {name: np.stack([t["calibration"][:, index] for t in true], axis=1) for index, name in enumerate(arms)},
    )


@dataclass(frozen=True)
class _Rows:
    """N evaluation rows."""

    world: World
    features: FloatArray
    """(N, FEATURES)."""
    offsets: FloatArray
    """(N, M) logits of a model without error."""
    labels: FloatArray
    """(N, M)."""
    context: torch.Tensor
    """(N, 1 + S)."""

    def evaluate(self, vectors: FloatArray) -> Evaluation:
        """Evaluates a model with this (FEATURES, M), by the package's code."""
        logits = torch.from_numpy(self.offsets + self.features @ vectors).float()
        labels = torch.from_numpy(self.labels).float()
        values = tuple(map(str, range(self.world.segments)))
        context = Context("user" if self.world.clustered else "", (Segment("segment", values),) if values else ())
        evaluator = Evaluator(binary_tasks(logits.shape[1]), context, len(labels), torch.device("cpu"))
        evaluator.update(Predictions(logits, labels, torch.ones_like(labels), torch.arange(len(labels)), self.context))
        return evaluator.evaluate()

    def normalized_entropy(self, vectors: FloatArray) -> FloatArray:
        """(A + 1, M) NE of models with these (A + 1, FEATURES, M), in float64."""
        logits = self.offsets + self.features @ vectors
        rate = self.labels.mean(axis=0)
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
        return (np.logaddexp(0, logits) - self.labels * logits).mean(axis=1) / entropy


def _draw_rows(world: World, generator: np.random.Generator) -> _Rows:
    users = np.arange(world.rows) // world.rows_per_user
    count, tasks = int(users[-1]) + 1, len(world.rates)
    features = generator.standard_normal((world.rows, FEATURES))
    features[:, : FEATURES // 2] = generator.standard_normal((count, FEATURES // 2))[users]
    offsets = generator.standard_normal((world.rows, tasks)) + [
        population.intercept for population in world.populations
    ]
    of_users = world.user_error * generator.standard_normal((count, tasks))[users]
    labels = (generator.random((world.rows, tasks)) < special.expit(offsets + of_users)).astype(np.float64)
    keys = users if world.clustered else np.arange(world.rows)
    codes = generator.integers(max(world.segments, 1), size=(world.rows, min(world.segments, 1)))
    mixed = mix(keys.astype(np.uint64) + generator.integers(1 << 60, dtype=np.uint64)).view(np.int64)
    context = torch.from_numpy(np.column_stack([mixed, codes]))
    return _Rows(world, features, offsets, labels, context)


def _draw_qps(world: World, arms: int, generator: np.random.Generator) -> Sequence[Sequence[float]]:
    """Windows of each arm; the machine's noise is shared within a pair."""
    machine = 1000 * np.exp(np.cumsum(0.1 * generator.standard_normal(world.windows)))
    of_seed, of_window = (noise / 100 for noise in world.qps_noise)
    change = np.full((arms, 1), world.qps_change / 100) + of_seed * generator.standard_normal((arms, 1))
    change[0] = 0
    noise = np.exp(of_window * generator.standard_normal((arms, world.windows)))
    windows: list[list[float]] = (machine * (1 + change) * noise).tolist()
    return windows
