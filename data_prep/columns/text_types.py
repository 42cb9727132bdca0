"""Checks that equal values of one embedding table have equal texts, although files may store them in several types."""

import pyarrow as pa

from data_prep.columns.arrow_columns import family, is_narrow, item_type, value_type
from data_prep.columns.layout import Layout
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import quote, shorten


class TextTypes:
    """The types of the columns whose keys are texts."""

    def __init__(self, layout: Layout) -> None:
        self._table_of = {
            feature.column: table
            for table, features in layout.tables.items()
            for feature in features
            if feature.kind == "string"
        }
        self._found: dict[str, dict[pa.DataType, str]] = {table: {} for table in self._table_of.values()}

    def add(self, path: Location, schema: pa.Schema) -> None:
        """Adds the types of a file.

        Raises:
            ValueError: an equal value may have another text in a column that was added before.
        """
        for column in [name for name in schema.names if name in self._table_of]:
            whole = schema.field(column).type
            kind = value_type(whole) if pa.types.is_null(whole) else item_type(whole) or value_type(whole)
            place = f"{path}: column {quote(column)}"
            earlier = self._found[self._table_of[column]]
            for other, there in earlier.items():
                if len({family(kind), family(other)} - {"text", "nothing"}) > 1:
                    raise ValueError(
                        f"{place} is of type {shorten(str(kind))}, but {there} of type {shorten(str(other))}: one value"
                        " would have two keys; store it in one type"
                    )
            earlier.setdefault(kind, place)

    @property
    def with_narrow_fractions(self) -> set[str]:
        """Columns in which fractions of fewer than 64 bits are allowed, since no other type of theirs has fractions."""
        return {column for column, table in self._table_of.items() if self._has_one_width(table)}

    def _has_one_width(self, table: str) -> bool:
        fractions = [kind for kind in self._found[table] if _has_fractions(kind)]
        return len(fractions) < 2 or not any(map(is_narrow, fractions))


def _has_fractions(kind: pa.DataType) -> bool:
    is_whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale <= 0)
    return family(kind) in ("number", "text") and not is_whole
