"""Data sets of periods that are joined, and whether their ids stand for the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from dlrm_mtl.meaning import Meaning, find_difference
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import STREAM, Schema, read_schema


@dataclass(frozen=True)
class Day:
    """The data set of a period."""

    directory: Path
    schema: Schema

    @classmethod
    def open(cls, directory: Path) -> "Day":
        """Reads its schema. Raises ValueError unless it is a data set of the split stream."""
        schema = read_schema(directory)
        if STREAM not in schema.splits:
            raise ValueError(f"{directory}: has the splits {', '.join(schema.splits)}, expected {STREAM} alone")
        return cls(directory, schema)

    @property
    def meaning_before(self) -> Meaning:
        """The meaning of ids and dense values in the data set that this one continues, or its own."""
        meaning, continues = self.schema.meaning, self.schema.continues
        tables = {**meaning.tables, **(continues.tables if continues else {})}
        return Meaning(meaning.features, tables, meaning.dense)


def check_chain(days: Sequence[Day]) -> None:
    """Checks that each data set continues the one before it, and that all but the last keep the ids of those before.

    Raises:
        ValueError: one does not.
    """
    for before, day in pairwise(days):
        if difference := find_difference(before.schema.meaning, day.meaning_before):
            raise ValueError(
                f"{day.directory}: does not continue {before.directory}: its {difference.what} continues"
                f" {difference.now}, expected {difference.before}"
            )
        periods = before.schema.period, day.schema.period
        if periods[0] is not None and periods[1] is not None and not periods[0].is_before(periods[1]):
            raise ValueError(f"{day.directory}: period {periods[1]}, expected one after {periods[0]}")
    for day in days[1:-1]:
        if day.schema.continues is not None and day.schema.continues.reset:
            table = min(day.schema.continues.reset)
            raise ValueError(
                f"{day.directory}: ids of table {quote(table)} stand for other values than in {days[0].directory}, so"
                " their rows cannot be joined; prepare the periods without a capacity"
            )
