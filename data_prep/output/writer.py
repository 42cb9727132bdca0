"""Writes a data set shard by shard: parquet files, then the ``schema.json`` that marks it as complete."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.encoding.encoding import Encoding, of_encoded
from data_prep.encoding.files import vocabulary_files, write_encoding
from data_prep.ids.assignment import write_vocabulary
from data_prep.ids.scaling import Scale
from data_prep.output.continued import Continued
from data_prep.output.label_counts import LabelCounts
from data_prep.output.shards import ROW_GROUP_ROWS, ShardWriter, arrow_schema, context_fields, label_types
from dlrm_mtl.continuation import Period
from dlrm_mtl.files import publish
from dlrm_mtl.meaning import Fingerprints
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.schema import SPLITS, Schema, Shard, keeps_context, write_schema
from dlrm_mtl.segments import Segment
from dlrm_mtl.storage.publishing import check_destination

SHARD_ROWS = 1 << 20
"""Rows of a parquet file."""

UNKNOWN = Fingerprints()


class DatasetWriter:
    """Streams record batches into a data set; memory holds one row group per split.

    ::

        with DatasetWriter(out, "name", features, dense, tasks) as writer:
            writer.write("train", table)          # any number of rows, any number of times
            writer.write("eval", table)
            schema = writer.finish(source={...})  # without it, nothing appears under ``out``

    A data set of a period has the split ``stream`` alone (``splits=[STREAM]``).

    Everything is written to ``OUT.partial`` and renamed as a whole, so that ``OUT`` is a complete data set or
    does not exist. Base rates, mean lengths and row counts are counted on the way.

    Args:
        directory: where the data set goes. Must not exist, or be an empty directory, or hold a data set
            (a ``schema.json``), which is then replaced.
        tasks: base rates, means and deviations are filled in.
        fingerprints: what ids and dense values stand for; by default unknown.
        cluster: raw column whose value the rows of a cluster share; empty: none. Its keys are a column
            ``cluster:NAME`` of the splits eval and stream.
        segments: of the same splits; their codes are columns ``segment:NAME``.
        splits: of the data set.

    Raises:
        ValueError: ``directory`` holds something that is not a data set.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        categorical: Sequence[CategoricalFeature],
        dense: Sequence[str],
        tasks: Sequence[Task],
        row_group_rows: int = ROW_GROUP_ROWS,
        shard_rows: int = SHARD_ROWS,
        fingerprints: Fingerprints = UNKNOWN,
        cluster: str = "",
        segments: Sequence[Segment] = (),
        splits: Sequence[str] = SPLITS,
    ) -> None:
        check_destination(directory)
        directory = directory.absolute()
        self._directory = directory
        self._partial = directory.with_name(directory.name + ".partial")
        self._name = name
        self._categorical = tuple(categorical)
        self._dense = tuple(dense)
        self._fingerprints = fingerprints
        self._cluster = cluster
        self._segments = tuple(segments)
        columns = arrow_schema(categorical, dense, label_types(tasks))
        context = context_fields(cluster, [segment.name for segment in segments])
        self._arrow_schemas = {
            split: pa.schema([*columns, *context]) if keeps_context(split) else columns for split in splits
        }
        self._ids = dict.fromkeys((f.name for f in categorical), 0)
        self._labels = {task.name: LabelCounts(task) for task in tasks}
        self._splits = {
            split: _SplitWriter(self._partial, split, self._arrow_schemas[split], row_group_rows, shard_rows)
            for split in splits
        }

    def __enter__(self) -> "DatasetWriter":
        shutil.rmtree(self._partial, ignore_errors=True)
        for split in self._splits:
            (self._partial / split).mkdir(parents=True)
        return self

    def __exit__(self, *error: object) -> None:
        for split in self._splits.values():
            split.abandon()
        shutil.rmtree(self._partial, ignore_errors=True)

    def write(self, split: str, table: pa.Table) -> None:
        """Appends rows. Columns are taken by name and cast to the data set's types; a cast that would lose a
        value raises."""
        schema = self._arrow_schemas[split]
        table = table.select(schema.names).cast(schema)
        if split != "eval":
            self._count(table)
        self._splits[split].write(table)

    def finish(
        self,
        source: dict[str, Any],
        bayes_ne: dict[str, float] | None = None,
        encoding: Encoding | None = None,
        vocabularies: Mapping[str, pa.Table] | None = None,
        period: Period | None = None,
        continued: Continued | None = None,
        for_next: Mapping[str, pa.Table] | None = None,
        scales: Mapping[str, Scale] | None = None,
    ) -> Schema:
        """Closes the last shards, writes encoding and schema, and moves the data set into place.

        Args:
            encoding: what has encoded the rows; by default they are raw rows, which hold ids and dense values.
            vocabularies: of the encoding's tables: columns ``value`` and ``count``, in the order of the ids.
            period: of the rows' times, for the split stream.
            continued: the data set that this one continues, for the split stream.
            for_next: by file, the values that the data set that continues this one needs.
            scales: by task, mean and deviation of regression labels; by default those of the rows.

        Raises:
            ValueError: a split is empty, or the labels of a task are all equal.
        """
        splits = {name: split.close() for name, split in self._splits.items()}
        rows = sum(shard.rows for split, shards in splits.items() for shard in shards if split != "eval")
        schema = Schema(
            name=self._name,
            categorical=tuple(
                replace(feature, mean_length=round(self._ids[feature.name] / max(rows, 1), 6))
                if feature.multi_hot
                else feature
                for feature in self._categorical
            ),
            dense=self._dense,
            tasks=tuple(
                replace(counts.learnt((scales or {}).get(name)), bayes_ne=(bayes_ne or {}).get(name))
                for name, counts in self._labels.items()
            ),
            splits=splits,
            source=source,
            fingerprints=self._fingerprints,
            cluster=self._cluster,
            segments=self._segments,
            period=period,
            continues=None if continued is None else continued.write(self._partial),
        )
        files = vocabulary_files(vocabularies or {})
        for table, vocabulary in (vocabularies or {}).items():
            write_vocabulary(vocabulary, self._partial / files[table])
        for file, values in (for_next or {}).items():
            write_vocabulary(values, self._partial / file)
        write_encoding(encoding or of_encoded(schema), self._partial, files)
        write_schema(schema, self._partial)
        publish(self._partial, self._directory)
        return schema

    def _count(self, table: pa.Table) -> None:
        for feature in self._categorical:
            if feature.multi_hot:
                self._ids[feature.name] += pc.sum(pc.list_value_length(table[feature.name])).as_py() or 0
        for counts in self._labels.values():
            counts.add(table)


class _SplitWriter:
    """Shards of one split."""

    def __init__(self, root: Path, split: str, schema: pa.Schema, row_group_rows: int, shard_rows: int) -> None:
        self._root = root
        self._split = split
        self._schema = schema
        self._row_group_rows = row_group_rows
        self._shard_rows = shard_rows
        self._shards: list[Shard] = []
        self._open: ShardWriter | None = None

    def write(self, table: pa.Table) -> None:
        while len(table):
            if self._open is None:
                self._open = ShardWriter(self._root / self._shard_name, self._schema, self._row_group_rows)
            room = self._shard_rows - self._open.rows
            self._open.write(table.slice(0, room))
            table = table.slice(room)
            if self._open.rows == self._shard_rows:
                self._close_shard(self._open)

    def close(self) -> tuple[Shard, ...]:
        if self._open is not None:
            self._close_shard(self._open)
        return tuple(self._shards)

    def abandon(self) -> None:
        if self._open is not None:
            self._open.abandon()
            self._open = None

    @property
    def _shard_name(self) -> str:
        return f"{self._split}/part-{len(self._shards):05d}.parquet"

    def _close_shard(self, shard: ShardWriter) -> None:
        written = shard.close()
        self._shards.append(Shard(self._shard_name, written["rows"], written["sha256"]))
        self._open = None
