"""The schema of a data set that is encoded already, from its parquet files.

Every value is checked, then counted. Memory holds one row group, and 1 MiB for each categorical feature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.output.label_counts import LabelCounts, label_source
from data_prep.statistics.encoded_columns import Roles, provisional_schema
from data_prep.statistics.row_groups import with_progress
from dlrm_mtl.data.checks import check_values
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.files import sha256
from dlrm_mtl.mixing import U64, mix
from dlrm_mtl.model_schema import CategoricalFeature
from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.schema import SPLITS, Schema
from dlrm_mtl.segments import Segment, segment_column

BITS = 20
"""Bits of the hashes by which distinct ids are estimated."""

SPARSE = 10
"""A remark names tables with more rows than this per distinct id."""

SMALL_TABLE = 1_000
"""No remark names tables of at most so many rows."""


class IdRange:
    """Largest id, number of ids and estimated number of distinct ids of a categorical feature, over any number of
    tables. The estimate is linear counting with 2^20 buckets (Whang et al., 1990)."""

    def __init__(self, feature: CategoricalFeature) -> None:
        self._feature = feature
        self._hashes = np.zeros(1 << BITS, bool)
        self.largest = 0
        self.ids = 0

    def add(self, table: pa.Table) -> None:
        column = table[self._feature.name]
        ids = np.asarray(pc.list_flatten(column) if self._feature.multi_hot else column).astype(np.uint64)
        if len(ids):
            self.largest = max(self.largest, int(ids.max()))
            self._hashes[mix(ids) >> U64(64 - BITS)] = True
            self.ids += len(ids)

    @property
    def distinct(self) -> float:
        """Estimated number of distinct ids; infinite where they are too many for an estimate."""
        unused = len(self._hashes) - np.count_nonzero(self._hashes)
        return len(self._hashes) * float(np.log(len(self._hashes) / unused)) if unused else np.inf


def describe_encoded(directory: Path, name: str, roles: Roles) -> tuple[Schema, list[str]]:
    """The schema of the parquet files in the directories ``train`` and ``eval``, and remarks on likely mistakes.

    Integers and lists of integers are categorical features, floating-point numbers dense ones. The eval split may have
    a column ``cluster:NAME`` and columns ``segment:NAME``.

    Raises:
        ValueError: a file cannot be read or has other columns than the first one; a column is of another type, is
            missing, or holds a null, a negative id, a label that is not 0 or 1 or a number that is not finite; a task
            has one class only among the training rows. The message names file, column, row and value.
    """
    schema = provisional_schema(directory, name, roles)
    dataset = open_dataset(directory, schema=schema)
    labels = {split: {task.name: LabelCounts(task) for task in schema.tasks} for split in SPLITS}
    ranges = {split: [IdRange(feature) for feature in schema.categorical] for split in SPLITS}
    last_codes = dict.fromkeys(schema.segment_names, 0)
    for split, group in with_progress(dataset, "check"):
        check_values(replace(dataset, row_groups={split: (group,)}))
        codes = [segment_column(segment) for segment in last_codes] if split == "eval" else []
        table = dataset.read(group, [*dataset.columns, *codes])
        for counts in labels[split].values():
            counts.add(table)
        for ids in ranges[split]:
            ids.add(table)
        for segment in last_codes if codes and len(table) else ():
            last_codes[segment] = max(last_codes[segment], pc.max(table[segment_column(segment)]).as_py())
    cardinalities = _cardinalities(schema, ranges, roles)
    schema = replace(
        schema,
        categorical=tuple(
            replace(
                feature,
                cardinality=cardinalities[feature.table_name],
                mean_length=round(ranges["train"][i].ids / schema.rows("train"), 6) if feature.multi_hot else 1.0,
            )
            for i, feature in enumerate(schema.categorical)
        ),
        tasks=tuple(counts.learnt() for counts in labels["train"].values()),
        segments=tuple(Segment(name, tuple(map(str, range(last + 1)))) for name, last in last_codes.items()),
        splits={
            split: tuple(replace(shard, sha256=sha256(directory / shard.file)) for shard in shards)
            for split, shards in schema.splits.items()
        },
        source={
            "generator": "data_prep.schema",
            "ignored": list(roles.ignored),
            **label_source(labels),
        },
    )
    return schema, _remarks(schema, ranges)


def _cardinalities(schema: Schema, ranges: Mapping[str, Sequence[IdRange]], roles: Roles) -> dict[str, int]:
    """Rows of each embedding table."""
    needed = dict.fromkeys(schema.tables, 1)
    for split in SPLITS:
        for feature, ids in zip(schema.categorical, ranges[split], strict=True):
            needed[feature.table_name] = max(needed[feature.table_name], ids.largest + 1)
    for table, rows in (roles.cardinalities or {}).items():
        if table not in needed:
            raise ValueError(f"cardinalities {quote(table)}: no such table; expected {shorten(', '.join(needed))}")
        if rows < needed[table]:
            raise ValueError(f"cardinalities {table} {rows}: expected at least {needed[table]}, for the largest id")
        needed[table] = rows
    return needed


def _remarks(schema: Schema, ranges: Mapping[str, Sequence[IdRange]]) -> list[str]:
    remarks = []
    for feature, ids in zip(schema.categorical, ranges["train"], strict=True):
        if feature.cardinality > max(SPARSE * ids.distinct, SMALL_TABLE):
            remarks.append(
                f"feature {quote(feature.name)}: about {ids.distinct:,.0f} of {feature.cardinality:,} ids occur in"
                " training rows, and the table has a row for each; number the ids from 0 without gaps, or encode them"
                " by data_prep.parquet"
            )
        if feature.cardinality <= 2 and not feature.multi_hot:
            remarks.append(
                f"feature {quote(feature.name)} holds only 0 and 1: an outcome belongs in --tasks or --ignore, or the"
                " model reads its labels"
            )
    return remarks
