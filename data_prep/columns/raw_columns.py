"""Features and labels from the columns of parsed rows."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrays import numbers, one_chunk
from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, Layout
from data_prep.columns.rows import EXPECTED, LABEL_MISSING, REGRESSION_LABEL_MISSING


def values_of(table: pa.Table, feature: CategoricalColumn) -> tuple[pa.Array, npt.NDArray[np.int32] | None]:
    """Values of a categorical feature. One-hot: (B,), and None. Multi-hot: the values of all rows (N,), and the length
    of each row's list (B,); a missing list is empty."""
    column = one_chunk(table[feature.column])
    if not feature.multi_hot:
        return column, None
    if feature.separator:
        empty = pc.equal(pc.fill_null(column, ""), "")
        lists = pc.split_pattern(pc.fill_null(column, ""), feature.separator)
        # An empty text splits into one empty value, but stands for an empty list.
        lists = pc.if_else(empty, pa.scalar([], lists.type), lists)
    else:
        lists = column
    lengths = numbers(pc.fill_null(pc.list_value_length(lists), 0), np.int32)
    values = pc.list_flatten(lists)
    if feature.kind == "hex":
        return values.cast(pa.uint32()), lengths
    return values.cast(pa.int64() if feature.kind == "integer" else pa.string()), lengths


def cleaned(texts: pa.StringArray, trim: bool, missing: Sequence[str]) -> pa.StringArray:
    """Texts (B,) of a log, null where they stand for a missing value.

    Args:
        trim, missing: as in a layout.
    """
    if trim:
        texts = pc.utf8_trim(texts, " ")
    is_missing = pc.is_in(texts, value_set=pa.array(missing, pa.string()))
    return pc.if_else(is_missing, pa.scalar(None, texts.type), texts)


def required_columns(layout: Layout) -> dict[str, str]:
    """The columns of labels and weights in which a missing value makes its row a bad one, and why."""
    required = {column.source: f"expected {EXPECTED[column.use]}" for column in layout.needed_weights}
    required |= {
        label.source: REGRESSION_LABEL_MISSING for label in layout.regression_labels if not label.missing_is_zero
    }
    return required | {label.source: LABEL_MISSING for label in layout.labels if not label.missing_is_negative}


def allowed_texts(layout: Layout) -> dict[str, list[str]]:
    """The texts that a label column may hold, for labels that list their negative texts."""
    allowed: dict[str, list[str]] = {}
    for label in layout.labels:
        if label.negative:
            texts = [*label.positive, *label.negative]
            allowed[label.source] = [text for text in allowed.get(label.source, texts) if text in texts]
    return allowed


class LabelReader:
    """The labels and row weights that the tasks of a layout name, as columns of a data set."""

    def __init__(self, layout: Layout) -> None:
        names = {name for task in layout.tasks for name in (task.label, task.given)}
        self._labels = [label for label in layout.labels if label.name in names]
        self._numbers = [label for label in layout.regression_labels if label.name in names]
        self._weights = layout.needed_weights
        self.names = [label.name for label in layout.all_labels if label.name in names]
        self.names += [column.weight for column in self._weights]
        """Of the columns."""
        self.clipped: Counter[str] = Counter()
        """Numbers out of the range of their label, by label, so far."""

    def read(self, table: pa.Table) -> dict[str, pa.Array]:
        """The columns (B,) of rows of the log: int8 0 or 1, and float32 numbers. Missing values count as 0. Raises
        ValueError where float32 does not hold a number."""
        columns = {label.name: pa.array(label_values(table, label)) for label in self._labels}
        for label in self._numbers:
            values, clipped = label.values(_numbers(table, label.source))
            columns[label.name] = pa.array(values.astype(np.float32))
            self.clipped[label.name] += clipped
        for column in self._weights:
            columns[column.weight] = pa.array(column.values(_numbers(table, column.source)).astype(np.float32))
        return columns


def _numbers(table: pa.Table, column: str) -> npt.NDArray[np.float64]:
    return one_chunk(table[column]).fill_null(0.0).to_numpy(zero_copy_only=False)


def label_values(table: pa.Table, label: LabelColumn) -> npt.NDArray[np.int8]:
    """A label (B,), 0 or 1; missing values count as 0."""
    column = one_chunk(table[label.source])
    if label.use == "binary":
        return numbers(column.cast(pa.int8()).fill_null(0), np.int8)
    if label.use == "string":
        is_positive = pc.is_in(column, value_set=pa.array(label.positive))
        return np.asarray(is_positive).astype(np.int8)
    values = column.to_numpy(zero_copy_only=False)
    low = -np.inf if label.at_least is None else label.at_least
    high = np.inf if label.below is None else label.below
    return ((values >= low) & (values < high)).astype(np.int8)
