"""A prepared data set's features as columns for LightGBM.

Notation: N rows, C columns, M tasks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dlrm_mtl.data.assembly import concatenate
from dlrm_mtl.data.batch import MultiTaskBatch
from dlrm_mtl.data.context import Context
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.data.inspection import inspect_values
from dlrm_mtl.data.order import Order
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.location import Location
from dlrm_mtl.model_schema import CategoricalFeature
from dlrm_mtl.module_names import escape
from dlrm_mtl.schema import Schema
from dlrm_mtl.studies.trees.case import TreesCase
from dlrm_mtl.studies.trees.rates import outcomes_of, parts_of, rates, sums_by_id, training_rates

Matrix = npt.NDArray[np.float32]
Pair = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""A column, or several, of training and of evaluation rows."""


@dataclass(frozen=True)
class Features:
    """The columns of both splits."""

    train: Matrix
    """(N, C)."""
    evaluation: Matrix
    """(N, C)."""
    categorical: tuple[int, ...]
    """Columns that are categories."""
    description: dict[str, Any]
    """The kinds of columns and the features that they are made of."""


def read_rows(directory: Location, schema: Schema, split: str, context: Context | None = None) -> MultiTaskBatch:
    """All rows of a split, in order.

    Raises:
        ValueError: a file or a value is not as the schema says.
    """
    dataset = open_dataset(directory, schema=schema.of_split(split))
    inspect_values(dataset, "stop", rank=0, world_size=1)
    parts = Order(dataset.row_groups[split]).parts(0, schema.rows(split))
    piece = RowSource(dataset).read(parts, context)
    rows = concatenate(dataset.schema, [piece], context)
    return rows.batch(0, len(rows))


def build_features(case: TreesCase, schema: Schema, train: MultiTaskBatch, evaluation: MultiTaskBatch) -> Features:
    """The columns: ids of small tables as categories, numbers of ids and the most frequent ids of multi-hot features,
    dense values, rates."""
    lists = [feature for feature in schema.categorical if feature.multi_hot]
    single = [feature for feature in schema.categorical if not feature.multi_hot]
    small = [feature for feature in single if feature.cardinality <= case.categories]
    large = [feature for feature in single if feature.cardinality > case.categories]
    columns: list[Pair] = [(ids_of(train, feature)[0], ids_of(evaluation, feature)[0]) for feature in small]
    columns += [_of_lists(ids_of(train, feature), ids_of(evaluation, feature), feature, case) for feature in lists]
    columns.append((train.dense.numpy(), evaluation.dense.numpy()))
    if case.rates != "none":
        columns += [_rates(case, train, evaluation, feature) for feature in large]
    of_train, of_evaluation = zip(*columns, strict=True)
    return Features(
        np.column_stack(of_train).astype(np.float32),
        np.column_stack(of_evaluation).astype(np.float32),
        categorical=tuple(range(len(small))),
        description={
            "categories": [feature.name for feature in small],
            "lists": [feature.name for feature in lists],
            "dense": list(schema.dense),
            "rates": [feature.name for feature in large] if case.rates != "none" else [],
            "left_out": [feature.name for feature in large] if case.rates == "none" else [],
            "evaluation_rows_of_new_ids": {
                feature.name: int((~np.isin(ids_of(evaluation, feature)[0], ids_of(train, feature)[0])).sum())
                for feature in large
            },
        },
    )


def ids_of(batch: MultiTaskBatch, feature: CategoricalFeature) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All ids of a feature, and the number of ids of each of the N rows."""
    bags = batch.sparse[escape(feature.name)]
    return bags.values().numpy().astype(np.int64), bags.lengths().numpy().astype(np.int64)


def _of_lists(
    train: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    evaluation: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    feature: CategoricalFeature,
    case: TreesCase,
) -> Pair:
    """(N, 1 + top ids): number of ids, and whether the row has each of the most frequent ones."""
    frequency = np.bincount(train[0], minlength=feature.cardinality)
    top = np.argsort(-frequency, kind="stable")[: case.top_ids]
    column = np.full(feature.cardinality, -1)
    column[top] = 1 + np.arange(len(top))

    def columns(ids: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Matrix:
        rows, places = np.repeat(np.arange(len(lengths)), lengths), column[ids]
        made = np.zeros((len(lengths), 1 + len(top)), dtype=np.float32)
        made[:, 0] = lengths
        made[rows[places > 0], places[places > 0]] = 1
        return made

    return columns(*train), columns(*evaluation)


def _rates(case: TreesCase, train: MultiTaskBatch, evaluation: MultiTaskBatch, feature: CategoricalFeature) -> Pair:
    outcomes = outcomes_of(train.labels.numpy(), train.weights.numpy())
    parts = parts_of(len(train), case.parts, case.rates)
    ids = ids_of(train, feature)[0]
    return (
        training_rates(ids, outcomes, parts, feature.cardinality, case.rates, case.smoothing),
        rates(sums_by_id(ids, outcomes, feature.cardinality), ids_of(evaluation, feature)[0], case.smoothing),
    )
