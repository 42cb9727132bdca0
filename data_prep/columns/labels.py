"""Labels: what a layout says about the columns that tasks predict."""

from dataclasses import dataclass


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
