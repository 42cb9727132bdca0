"""The generative model of the synthetic data set: features, a shared latent representation, tasks.

Notation: B rows, L latent dimensions, M tasks, S sources (each categorical feature, and all dense features
together). The formulas stand in docs/data.md; every symbol there is an attribute here.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from data_prep.generated.categorical import CategoricalSource, Ids, draw_factors, power_law
from data_prep.generated.users import UserNumbers, Users
from data_prep.ids.vocabulary import Floats

TABLES, TRAIN, EVAL, CALIBRATION, USERS, CHANGES, DAYS = range(7)
"""Streams of random numbers: every generator is seeded by (seed, stream, index) and by nothing else. ``DAYS`` and the
numbers after it are the rows of the days of a log."""

LATENT = 8
"""Latent dimensions, or the number of tasks where that is larger."""

WATCH, WATCH_MEAN = "watch", 2.0
"""The regression task, and the mean of its label."""

CALIBRATION_ROWS = 1 << 16
"""Rows of the sample on which the biases are set."""


@dataclass(frozen=True)
class Distribution:
    """Options of the generative model."""

    cardinalities: tuple[int, ...] = (20_000, 5_000, 2_000, 500, 100, 50, 20, 10)
    """Number of ids of each one-hot feature."""
    multi_hot_cardinalities: tuple[int, ...] = (5_000, 500)
    """Number of ids of each multi-hot feature."""
    mean_length: float = 5.0
    """Mean number of ids in a multi-hot value; the numbers are Poisson, so some values are empty."""
    dense: int = 8
    """Number of dense features, standard normal."""
    exponent: float = 1.1
    """Popularity of ids: the probability of the r-th most popular one is proportional to r ** -exponent."""
    rates: tuple[float, ...] = (0.3, 0.05)
    """Positive rate of each unconditional task. The first is the click, the second the like."""
    conversion_rate: float = 0.1
    """Positive rate of the conversion among clicked rows; 0 leaves this task out."""
    watch_noise: float = 0.0
    """Standard deviation of the noise in the regression task watch, whose label is a logit and the noise; 0 leaves this
    task out."""
    signal: float = 2.0
    """Standard deviation of the logits (geometric mean over tasks): the larger, the lower the Bayes NE."""
    interaction: float = 0.2
    """Share of the logits' variance that is products of two features' factors, in [0, 1]."""
    conflict: float = 0.5
    """0: all tasks need the same direction of the representation, and their logits have correlation 1; 1: the tasks are
    as opposed as M tasks can be, correlation -1 / (M - 1); linear in between."""
    imbalance: float = 2.0
    """Standard deviation of the first task's logits over that of the last; geometric in between."""
    users: int = 0
    """Number of users. Each row is one user's, and all rows of a user have the same id of the first one-hot feature.
    The user is no feature, but the cluster of the evaluation rows. 0: no users, rows are independent."""
    user_effect: float = 1.0
    """Standard deviation over users of an effect on the logits of all of a user's rows, which no feature shows; drawn
    for each task independently. Unused without users."""

    def validate(self) -> None:
        """Raises ValueError where an option is out of its range."""
        for name, sizes in (
            ("cardinalities", self.cardinalities),
            ("multi_hot_cardinalities", self.multi_hot_cardinalities),
        ):
            if any(size < 2 for size in sizes):
                raise ValueError(f"{name} {sizes}: expected at least 2 ids in each feature")
        if not self.cardinalities:
            raise ValueError("cardinalities: expected at least one one-hot feature")
        if not 0.0 <= self.watch_noise < np.inf:
            raise ValueError(f"watch_noise {self.watch_noise}: expected a number from 0 on")
        for name in ("dense", "users"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 0")
        if not 0.0 <= self.user_effect < np.inf:
            raise ValueError(f"user_effect {self.user_effect}: expected a number from 0 on")
        if len(self.cardinalities) + len(self.multi_hot_cardinalities) + (self.dense > 0) < 2:
            raise ValueError("cardinalities: one feature has none to interact with; give a second one")
        if not self.rates or not all(0.0 < rate < 1.0 for rate in self.rates):
            raise ValueError(f"rates {self.rates}: expected at least one, each strictly between 0 and 1")
        if not 0.0 <= self.conversion_rate < 1.0:
            raise ValueError(f"conversion_rate {self.conversion_rate}: expected a value in [0, 1)")
        for name in ("interaction", "conflict"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} {getattr(self, name)}: expected a value in [0, 1]")
        for name in ("mean_length", "exponent", "signal", "imbalance"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} {getattr(self, name)}: expected a positive number")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One-hot features, then multi-hot ones."""
        one_hot = [f"id_{i}" for i in range(len(self.cardinalities))]
        return (*one_hot, *(f"list_{i}" for i in range(len(self.multi_hot_cardinalities))))

    @property
    def task_names(self) -> tuple[str, ...]:
        """Unconditional tasks in the order of their rates, the regression, then the conversion."""
        unconditional = [("click", "like")[i] if i < 2 else f"task_{i}" for i in range(len(self.rates))]
        unconditional += [WATCH] if self.watch_noise else []
        return (*unconditional, "conversion") if self.conversion_rate > 0.0 else tuple(unconditional)


@dataclass(frozen=True)
class Rows:
    """B generated rows."""

    one_hot: list[Ids]
    """Each feature's ids, (B,)."""
    multi_hot: list[tuple[Ids, Ids]]
    """Each feature's offsets (B + 1,) and ids (offsets[-1],)."""
    dense: npt.NDArray[np.float32]
    """(B, dense)."""
    labels: npt.NDArray[np.int8]
    """(B, M). A conversion is 1 only where the click is. Undefined for the regression."""
    probabilities: Floats
    """(B, M) true probabilities, given the features and the user, if any; for the conversion also given the click.
    Undefined for the regression."""
    users: UserNumbers | None = None
    """(B,); None where there are none."""
    watch: Floats | None = None
    """(B,) labels of the regression; None where there is none."""
    expected_watch: Floats | None = None
    """(B,) their true means, given the features and the user, if any."""


class GroundTruth:
    """The generative model with all its hidden factors, a function of the (valid) options and the seed.

    Raises:
        ValueError: the features vary in fewer directions than there are tasks.
    """

    def __init__(self, distribution: Distribution, seed: int) -> None:
        self.distribution = distribution
        self.seed = seed
        self.tasks = len(distribution.task_names)
        self.latent = max(LATENT, self.tasks)
        sizes = distribution.cardinalities + distribution.multi_hot_cardinalities
        popularity = [power_law(size, distribution.exponent) for size in sizes]
        self.categorical = [
            CategoricalSource(of_ids, draw_factors(of_ids, self.latent, self.rng(TABLES, index)))
            for index, of_ids in enumerate(popularity)
        ]
        rng = self.rng(TABLES, len(sizes))
        projection = rng.standard_normal((distribution.dense, self.latent))
        self.projection: Floats = projection / np.maximum(np.linalg.norm(projection, axis=0), 1e-12)
        """(dense, L), columns of norm 1."""
        self.weights = source_weights(sizes, distribution.dense > 0)
        """(S,), squares sum to 1."""
        correlation = 1.0 - distribution.conflict * self.tasks / max(self.tasks - 1, 1)
        u, v = self.side_covariances()
        self.directions = task_directions(u + v, self.tasks, correlation, rng)
        """(M, L): what each task reads from the representation."""
        # The two sides are independent and have mean 0.
        self.product_directions = task_directions(u * v, self.tasks, correlation, rng)
        """(M, L): what each task reads from the products of factors."""
        self.scales = logit_scales(self.tasks, distribution.signal, distribution.imbalance)
        """(M,) standard deviations of the logits."""
        self.users = self._draw_users() if distribution.users else None
        self.biases = self._calibrate()
        """(M,)"""

    def rows(self, stream: int, index: int, size: int) -> Rows:
        """Rows of a chunk: a function of the model, the stream, the chunk's index and its size alone."""
        rng = self.rng(stream, index)
        one_hot, multi_hot, dense, scores, users = self._sample(rng, size)
        logits = scores + self.biases
        probabilities = sigmoid(logits)
        labels = rng.random(probabilities.shape) < probabilities
        if self.distribution.conversion_rate > 0.0:
            labels[:, -1] &= labels[:, 0]
        rows = Rows(one_hot, multi_hot, dense.astype(np.float32), labels.astype(np.int8), probabilities, users)
        if not self.distribution.watch_noise:
            return rows
        expected = logits[:, self.distribution.task_names.index(WATCH)]
        watch = expected + self.distribution.watch_noise * rng.standard_normal(size)
        return replace(rows, watch=watch.astype(np.float32).astype(np.float64), expected_watch=expected)

    def moved(
        self, categorical: Sequence[CategoricalSource], directions: Floats, product_directions: Floats
    ) -> "GroundTruth":
        """The same features and tasks with other factors and directions; the tasks keep their rates."""
        moved = copy.copy(self)
        moved.categorical = list(categorical)
        moved.directions, moved.product_directions = directions, product_directions
        moved.biases = moved._calibrate()
        return moved

    def rng(self, stream: int, *index: int) -> np.random.Generator:
        """The generator of random numbers of a stream's part."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(stream, *index)))

    def _draw_users(self) -> Users:
        rng = self.rng(USERS, 0)
        distribution = self.distribution
        first_ids = self.categorical[0].sample(rng, distribution.users)
        return Users(first_ids, distribution.user_effect * rng.standard_normal((distribution.users, self.tasks)))

    def _sample(
        self, rng: np.random.Generator, size: int
    ) -> tuple[list[Ids], list[tuple[Ids, Ids]], Floats, Floats, UserNumbers | None]:
        """Features of ``size`` rows, their logits without biases (B, M), and their users (B,)."""
        distribution = self.distribution
        users = self.users.sample(rng, size) if self.users is not None else None
        sources: list[Floats] = []
        one_hot: list[Ids] = []
        multi_hot: list[tuple[Ids, Ids]] = []
        for source in self.categorical[: len(distribution.cardinalities)]:
            is_first = not one_hot
            ids = self.users.first_ids[users] if self.users is not None and is_first else source.sample(rng, size)
            one_hot.append(ids)
            sources.append(source.factors[ids])
        for source in self.categorical[len(distribution.cardinalities) :]:
            lengths = rng.poisson(distribution.mean_length, size)
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            ids = source.sample(rng, int(offsets[-1]))
            multi_hot.append((offsets, ids))
            sources.append(bag_sums(source.factors[ids], offsets) / np.sqrt(distribution.mean_length))
        # Rounded as they are stored, so that the probabilities belong to the features that a model sees.
        dense = rng.standard_normal((size, distribution.dense)).astype(np.float32).astype(np.float64)
        if distribution.dense:
            sources.append(dense @ self.projection)
        scores = self.scores(sources)
        if self.users is not None:
            scores += self.users.effects[users]
        return one_hot, multi_hot, dense, scores, users

    def scores(self, sources: Sequence[Floats]) -> Floats:
        """Logits without biases (B, M), from the S sources' factors (B, L) each."""
        weighted = [weight * source for weight, source in zip(self.weights, sources, strict=True)]
        u, v = np.sum(weighted[0::2], axis=0), np.sum(weighted[1::2], axis=0)
        share = self.distribution.interaction
        linear, bilinear = (u + v) @ self.directions.T, (u * v) @ self.product_directions.T
        return np.asarray(self.scales * (np.sqrt(1.0 - share) * linear + np.sqrt(share) * bilinear))

    def side_covariances(self) -> tuple[Floats, Floats]:
        """Covariances (L, L) of the two sides of the products: the even sources, and the odd ones."""
        covariances = [source.covariance for source in self.categorical]
        if self.distribution.dense:
            covariances.append(self.projection.T @ self.projection)
        weighted = [weight**2 * covariance for weight, covariance in zip(self.weights, covariances, strict=True)]
        return np.sum(weighted[0::2], axis=0), np.sum(weighted[1::2], axis=0)

    def _calibrate(self) -> Floats:
        """Biases at which the tasks have the requested rates, on a sample of its own."""
        scores = self._sample(self.rng(CALIBRATION, 0), CALIBRATION_ROWS)[3]
        distribution = self.distribution
        biases = np.zeros(self.tasks)
        for task, rate in enumerate(distribution.rates):
            biases[task] = calibrated_bias(scores[:, task], rate, np.ones(len(scores)))
        if distribution.watch_noise:
            watch = distribution.task_names.index(WATCH)
            biases[watch] = WATCH_MEAN - scores[:, watch].mean()
        if distribution.conversion_rate > 0.0:
            clicks = sigmoid(scores[:, 0] + biases[0])
            biases[-1] = calibrated_bias(scores[:, -1], distribution.conversion_rate, clicks)
        return biases


def source_weights(cardinalities: Sequence[int], has_dense: bool) -> Floats:
    """Weight of each source, (S,), squares summing to 1. A table of C ids gets a variance proportional to
    1 / (1 + log10 C)^2, the dense features 1: what can be learnt from few rows carries most of the signal."""
    variances = [(1.0 + np.log10(size)) ** -2 for size in cardinalities] + [1.0] * has_dense
    return np.asarray(np.sqrt(np.array(variances) / np.sum(variances)))


def task_directions(covariance: Floats, tasks: int, correlation: float, rng: np.random.Generator) -> Floats:
    """Directions t (M, L), otherwise random, along which a vector of the covariance (L, L) has variance 1 and the
    same correlation between any two: t @ covariance @ t.T = (1 - c) I + c 1 1'.

    Raises:
        ValueError: the covariance has a smaller rank than there are tasks.
    """
    variances, axes = np.linalg.eigh(covariance)
    used = variances > 1e-9 * variances[-1]
    rank = int(used.sum())
    if rank < tasks:
        raise ValueError(
            f"cardinalities: features as few and small as these vary in {rank} directions, expected at least one for"
            f" each of {tasks} tasks"
        )
    whitening = axes[:, used] / np.sqrt(variances[used])
    rotation, _ = np.linalg.qr(rng.standard_normal((rank, rank)))
    # Square root of (1 - c) I + c 1 1': its eigenvalue is 1 + (M - 1) c along 1, and 1 - c across it.
    along = np.sqrt(max(1.0 + (tasks - 1) * correlation, 0.0))
    across = np.sqrt(max(1.0 - correlation, 0.0))
    root = across * np.eye(tasks) + (along - across) / tasks
    return np.asarray(root @ rotation[:tasks] @ whitening.T)


def logit_scales(tasks: int, signal: float, imbalance: float) -> Floats:
    """(M,) from signal * sqrt(imbalance) down to signal / sqrt(imbalance), geometrically."""
    position = np.linspace(0.5, -0.5, tasks) if tasks > 1 else np.zeros(1)
    return np.asarray(signal * imbalance**position)


def bag_sums(values: Floats, offsets: Ids) -> Floats:
    """Sums (B, L) of the slices of ``values`` (N, L) that ``offsets`` (B + 1,) delimit; an empty slice sums to 0."""
    sums = np.zeros((len(offsets) - 1, values.shape[1]))
    filled = offsets[1:] > offsets[:-1]
    if filled.any():
        sums[filled] = np.add.reduceat(values, offsets[:-1][filled], axis=0)
    return sums


def calibrated_bias(scores: Floats, rate: float, weights: Floats) -> float:
    """The bias b at which the weighted mean of sigmoid(scores + b) is ``rate``, by bisection."""
    low, high = -50.0 - float(np.abs(scores).max()), 50.0 + float(np.abs(scores).max())
    while high - low > 1e-9:
        middle = (low + high) / 2
        if np.average(sigmoid(scores + middle), weights=weights) < rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def sigmoid(x: Floats) -> Floats:
    """Logistic function, by the form that does not overflow on either side."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, e) / (1.0 + e)
