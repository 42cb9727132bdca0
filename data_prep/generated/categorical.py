"""Ids of a generated categorical feature: how popular they are, and their hidden factors.

Notation: C ids, L latent dimensions.
"""

import numpy as np
import numpy.typing as npt

from data_prep.ids.vocabulary import Floats

Ids = npt.NDArray[np.int32]

TAIL_RANK = 100
"""Popularity rank from which the factors of an id shrink: ids too rare to be learnt carry little of the signal."""


class CategoricalSource:
    """Popularity and factors of one categorical feature's ids.

    Args:
        popularity: (C,) probabilities of the ids.
        factors: (C, L).
    """

    def __init__(self, popularity: Floats, factors: Floats) -> None:
        self._cumulative = np.cumsum(popularity)
        self._cumulative[-1] = 1.0
        self.factors = factors
        self.covariance: Floats = factors.T @ (popularity[:, None] * factors)
        """(L, L), of one id's factors; and, by Campbell's theorem, of a Poisson bag's sum over its mean length."""

    def sample(self, rng: np.random.Generator, size: int) -> Ids:
        return np.searchsorted(self._cumulative, rng.random(size), side="right").astype(np.int32)


def power_law(cardinality: int, exponent: float) -> Floats:
    """Popularity (C,) of ids, the most popular first."""
    popularity = (np.arange(cardinality) + 1.0) ** -exponent
    return np.asarray(popularity / popularity.sum())


def draw_factors(popularity: Floats, latent: int, rng: np.random.Generator) -> Floats:
    """Factors (C, L), mean 0 and variance 1 in every dimension over the ids as they occur. The most popular id is the
    first."""
    rank = np.arange(len(popularity))
    factors = rng.standard_normal((len(popularity), latent)) / np.sqrt(1.0 + rank / TAIL_RANK)[:, None]
    factors -= popularity @ factors
    factors /= np.sqrt(popularity @ factors**2)
    return factors
