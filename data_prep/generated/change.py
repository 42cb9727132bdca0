"""How the generative model changes from day to day.

Every day is a function of the options, the seed and its number. Notation: C ids, L latent dimensions, M tasks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_prep.columns.arrays import Integers
from data_prep.generated.categorical import CategoricalSource, draw_factors, power_law
from data_prep.generated.ground_truth import CHANGES, DAYS, Distribution, GroundTruth, Rows
from data_prep.ids.vocabulary import Floats
from dlrm_mtl.quoting import quote


@dataclass(frozen=True)
class Change:
    """Options of what changes from day to day."""

    drift: float = 0.03
    """How fast the hidden factors of ids turn, in radians per day: the standard deviation over ids of their speeds."""
    task_drift: float = 0.005
    """How fast the directions that tasks read turn, in radians per day: all tasks together, so that their conflict
    stays."""
    item_features: tuple[str, ...] = ("id_1", "list_0")
    """Categorical features of items that come and go; the ids of the others are the same on all days."""
    new_items: float = 0.03
    """Share of the items of such a feature that is replaced by new ones in a day."""
    half_life: float = 10.0
    """Days after which an item is half as popular as when it was new."""

    def validate(self, distribution: Distribution) -> None:
        """Raises ValueError where an option is out of its range, or names no feature or that of the users' ids."""
        for name in ("drift", "task_drift"):
            if not 0.0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} {getattr(self, name)}: expected a number from 0 on")
        if not 0.0 <= self.new_items <= 1.0:
            raise ValueError(f"new_items {self.new_items}: expected a share in [0, 1]")
        if not 0.0 < self.half_life < np.inf:
            raise ValueError(f"half_life {self.half_life}: expected a positive number of days")
        for name in self.item_features:
            if name not in distribution.feature_names:
                expected = ", ".join(distribution.feature_names)
                raise ValueError(f"item_features: no feature {quote(name)}; expected some of {expected}")
        if distribution.users and "id_0" in self.item_features:
            raise ValueError("item_features: 'id_0' is a property of the users, expected features of items")


@dataclass(frozen=True)
class Day:
    """The generative model of a day."""

    number: int
    """From 0."""
    truth: GroundTruth
    values: list[Integers]
    """(C,) for each feature: the ids as the log has them."""

    def rows(self, chunk: int, size: int) -> Rows:
        """Rows of a chunk. Their ids number ``values``."""
        return self.truth.rows(DAYS + self.number, chunk, size)


class ChangingTruth:
    """The generative model of each day of a log.

    Raises:
        ValueError: the features vary in fewer directions than there are tasks.
    """

    def __init__(self, distribution: Distribution, change: Change, seed: int) -> None:
        self.first = GroundTruth(distribution, seed)
        self._change = change
        sizes = distribution.cardinalities + distribution.multi_hot_cardinalities
        self._features = [
            _Feature(self.first, change, number, size, name in change.item_features)
            for number, (name, size) in enumerate(zip(distribution.feature_names, sizes, strict=True))
        ]

    def on(self, day: int) -> Day:
        """The model of a day."""
        features = [feature.on(day) for feature in self._features]
        u, v = self.first.side_covariances()
        angle = self._change.task_drift * day
        directions, product_directions = (
            turned(directions, covariance, angle, self.first.rng(CHANGES, len(self._features), number))
            for number, (directions, covariance) in enumerate(
                ((self.first.directions, u + v), (self.first.product_directions, u * v))
            )
        )
        truth = self.first.moved([source for source, _ in features], directions, product_directions)
        return Day(day, truth, [values for _, values in features])


class _Feature:
    """A categorical feature over time. It has C places of fixed popularity ranks; a place of a feature of items gets a
    new item at regular intervals, and each item has the factors of its place and generation."""

    def __init__(self, first: GroundTruth, change: Change, number: int, cardinality: int, has_items: bool) -> None:
        self._first = first
        self._number = number
        self._share = change.new_items if has_items else 0.0
        self._half_life = change.half_life
        self._ranked = power_law(cardinality, first.distribution.exponent)
        rng = self._rng(0)
        self._speeds = change.drift * rng.standard_normal(cardinality)[:, None]
        self._phases = rng.random(cardinality)
        self._numbers = rng.permutation(cardinality)
        self._turned_to = draw_factors(self._ranked, first.latent, rng)

    def on(self, day: int) -> tuple[CategoricalSource, Integers]:
        """The source of a day, and the ids (C,) that the log has for its places."""
        age = self._share * day + self._phases
        generation = age.astype(np.int64)
        factors = np.empty((len(age), self._first.latent))
        angle = self._speeds * day
        for which, (start, end) in self._factors(generation):
            of_which = generation == which
            turned = np.cos(angle) * start + np.sin(angle) * end
            factors[of_which] = turned[of_which]
        popularity = self._ranked
        if self._share:
            popularity = popularity * 0.5 ** ((age - generation) / self._share / self._half_life)
            popularity /= popularity.sum()
        return CategoricalSource(popularity, factors), generation * len(age) + self._numbers

    def _factors(self, generations: Integers) -> Iterator[tuple[int, tuple[Floats, Floats]]]:
        """The factors (C, L) of each generation of items on day 0, and a quarter turn later."""
        for which in np.unique(generations).tolist():
            if which == 0:
                yield which, (self._first.categorical[self._number].factors, self._turned_to)
            else:
                rng = self._rng(which)
                start, end = (draw_factors(self._ranked, self._first.latent, rng) for _ in range(2))
                yield which, (start, end)

    def _rng(self, generation: int) -> np.random.Generator:
        return self._first.rng(CHANGES, self._number, generation)


def turned(directions: Floats, covariance: Floats, angle: float, rng: np.random.Generator) -> Floats:
    """Directions (M, L), turned together by an angle in random planes of the whitened space of a covariance (L, L), so
    that the variances and correlations along them stay."""
    variances, axes = np.linalg.eigh(covariance)
    used = variances > 1e-9 * variances[-1]
    roots = np.sqrt(variances[used])
    basis, _ = np.linalg.qr(rng.standard_normal((len(roots), len(roots))))
    rotation = np.eye(len(roots))
    cosine, sine = np.cos(angle), np.sin(angle)
    for plane in range(0, len(roots) - 1, 2):
        rotation[plane : plane + 2, plane : plane + 2] = [[cosine, -sine], [sine, cosine]]
    return np.asarray(directions @ (axes[:, used] * roots) @ basis @ rotation @ basis.T @ (axes[:, used] / roots).T)
