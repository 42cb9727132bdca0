"""Labels and row weights: what a layout says about the columns that tasks predict, and about those that weigh rows."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_prep.columns.rows import LARGEST
from dlrm_mtl.quoting import quote

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelColumn:
    """A 0/1 label from one column: the column itself, its texts, or a range of its numbers."""

    name: str
    column: str = ""
    """Column of the log; by default the label's name."""
    positive: tuple[str, ...] = ()
    """Texts that count as 1."""
    negative: tuple[str, ...] = ()
    """Texts that count as 0; any other makes its row a bad one. Empty: all but ``positive`` count as 0."""
    at_least: float | None = None
    """Numbers from here on (and below ``below``) count as 1, others as 0."""
    below: float | None = None
    missing_is_negative: bool = False
    """Whether a missing value counts as 0; otherwise it makes its row a bad one."""

    def __post_init__(self) -> None:
        by_size = self.at_least is not None or self.below is not None
        if self.positive and by_size:
            raise ValueError(f"label {self.name!r} has positive texts and a range of numbers, expected either of them")
        if self.negative and not self.positive:
            raise ValueError(f"label {self.name!r} has negative texts, but no positive ones")
        both = sorted({*self.positive} & {*self.negative})
        if both:
            raise ValueError(f"label {self.name!r} has {both[0]!r} among its positive and its negative texts")
        if self.at_least is not None and self.below is not None and not self.at_least < self.below:
            raise ValueError(
                f"label {self.name!r} has at_least {self.at_least} and below {self.below}: no number is between"
            )

    @property
    def source(self) -> str:
        return self.column or self.name

    @property
    def use(self) -> str:
        """How the column is read."""
        if self.positive:
            return "string"
        return "binary" if self.at_least is None and self.below is None else "number"


@dataclass(frozen=True)
class RegressionLabel:
    """The label of regression tasks: x / divisor, or log(1 + x / divisor), where x is the number in a column."""

    name: str
    column: str = ""
    """Column of the log; by default the label's name."""
    transform: Literal["none", "log"] = "none"
    """``log``: log(1 + x / divisor), where x below 0 counts as 0."""
    divisor: float = 1.0
    """A number of the log's units, such as 1000 for milliseconds where the label is in seconds."""
    lowest: float | None = None
    """Numbers of the column below it count as it; they are counted."""
    highest: float | None = None
    """Numbers of the column above it count as it; they are counted."""
    missing_is_zero: bool = False
    """Whether a missing number counts as 0; otherwise it makes its row a bad one."""

    def __post_init__(self) -> None:
        _check_divisor(f"label {quote(self.name)}", self.divisor)
        low, high = self.range
        if not low < high:
            raise ValueError(f"label {quote(self.name)} has lowest {low} and highest {high}: no number is between")

    @property
    def source(self) -> str:
        return self.column or self.name

    @property
    def use(self) -> str:
        """How the column is read."""
        return "number"

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest number of the column that count as they are."""
        low = -math.inf if self.lowest is None else self.lowest
        return max(low, 0.0) if self.transform == "log" else low, math.inf if self.highest is None else self.highest

    @property
    def formula(self) -> str:
        """What the label is, in words."""
        value = self.source if self.divisor == 1.0 else f"{self.source} / {self.divisor!r}"
        formula = f"log(1 + {value})" if self.transform == "log" else value
        formula += "" if self.lowest is None else f", {self.source} at least {self.lowest!r}"
        return formula + ("" if self.highest is None else f", {self.source} at most {self.highest!r}")

    def values(self, numbers: Floats) -> tuple[Floats, int]:
        """Labels (B,) of numbers (B,), and how many numbers are out of range and count as its end. Raises ValueError
        where float32 does not hold a label."""
        inside = np.clip(numbers, *self.range)
        labels = _divided(f"label {quote(self.name)}", inside, self.divisor)
        return np.log1p(labels) if self.transform == "log" else labels, int(np.count_nonzero(inside != numbers))


@dataclass(frozen=True)
class WeightColumn:
    """Row weights of tasks: x / divisor, where x is the number in a column, at least 0."""

    column: str
    """Column of the log."""
    name: str = ""
    """Name of the data set's column; by default that of the log's."""
    divisor: float = 1.0
    """A number such as the mean of the column, so that weights are 1 on average."""

    def __post_init__(self) -> None:
        _check_divisor(f"weight {quote(self.weight)}", self.divisor)

    @property
    def weight(self) -> str:
        return self.name or self.column

    @property
    def source(self) -> str:
        return self.column

    @property
    def use(self) -> str:
        """How the column is read."""
        return "weight"

    def values(self, numbers: Floats) -> Floats:
        """Row weights (B,) of numbers (B,). Raises ValueError where float32 does not hold one."""
        return _divided(f"weight {quote(self.weight)}", numbers, self.divisor)


def _check_divisor(what: str, divisor: float) -> None:
    if not 0.0 < divisor < math.inf:
        raise ValueError(f"{what} has divisor {divisor}, expected a positive number")


def _divided(what: str, numbers: Floats, divisor: float) -> Floats:
    """Numbers (B,) / divisor. Raises ValueError where float32 does not hold one."""
    divided = numbers / divisor
    if (excess := np.abs(divided) > LARGEST).any():
        raise ValueError(f"{what}: {numbers[excess][0]} / {divisor} is beyond 32 bits, expected a larger divisor")
    return divided
