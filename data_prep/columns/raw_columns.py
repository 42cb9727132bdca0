"""Features and labels from the columns of parsed rows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrays import numbers, one_chunk
from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, Layout


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


def needed_labels(layout: Layout) -> list[LabelColumn]:
    """The labels that tasks name, each once."""
    names = {name for task in layout.tasks for name in (task.label, task.given)}
    return [label for label in layout.labels if label.name in names]


def required_labels(layout: Layout) -> set[str]:
    """Label columns in which a missing value makes its row a bad one."""
    return {label.source for label in layout.labels if not label.missing_is_negative}


def allowed_texts(layout: Layout) -> dict[str, list[str]]:
    """The texts that a label column may hold, for labels that list their negative texts."""
    allowed: dict[str, list[str]] = {}
    for label in layout.labels:
        if label.negative:
            texts = [*label.positive, *label.negative]
            allowed[label.source] = [text for text in allowed.get(label.source, texts) if text in texts]
    return allowed


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
