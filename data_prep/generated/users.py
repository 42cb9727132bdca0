"""Users of the synthetic data set, whose rows depend on each other.

Notation: B rows, U users, M tasks.
"""

import numpy as np
import numpy.typing as npt

from data_prep.generated.categorical import Ids
from data_prep.ids.vocabulary import Floats

UserNumbers = npt.NDArray[np.int64]


class Users:
    """A population of users. Each row belongs to one user; all users are equally likely.

    Args:
        first_ids: (U,) id of the first one-hot feature, which all rows of a user have.
        effects: (U, M) effect of a user on the logits of all their rows, which no feature shows.
    """

    def __init__(self, first_ids: Ids, effects: Floats) -> None:
        self.first_ids = first_ids
        self.effects = effects

    def sample(self, rng: np.random.Generator, size: int) -> UserNumbers:
        """Users (B,) of rows."""
        return rng.integers(len(self.first_ids), size=size)
