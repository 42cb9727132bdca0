"""The stages ``context`` and ``evaluation``, for evaluation rows with clusters or segments: the first finds the values
of each segment and the known clusters, the second writes the shards of the split eval or stream.

A cluster is known if it has training rows: those of the split stream are the rows of the data sets before. Memory holds
the distinct keys of the evaluation clusters while the keys of training rows are read, one log segment at a time (of the
data sets before, all); then each worker maps the known keys, 8 MB per million.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.columns.arrays import one_chunk
from data_prep.columns.days import days_of, find_unit
from data_prep.columns.layout import DAY, USER
from data_prep.encoding.extending import CLUSTERS
from data_prep.engine.preparation import Preparation, key_of
from data_prep.engine.stages import Records
from data_prep.ids.assignment import write_vocabulary
from data_prep.output.raw_context import RawContext, distinct_keys
from data_prep.output.segment_values import SegmentValueCounter, are_among, encode, known_or_new
from data_prep.output.shards import ShardWriter, context_fields
from data_prep.output.time_spans import join_spans
from dlrm_mtl.files import sha256, write_whole
from dlrm_mtl.schema import Shard
from dlrm_mtl.segments import Segment, cluster_column, segment_column

Keys = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EvaluationSplit:
    """Shards, segments and counts of the evaluation rows."""

    shards: tuple[Shard, ...]
    segments: tuple[Segment, ...]
    source: dict[str, Any]
    """Entries of the schema's ``source``: clusters, how many of them are known and how many rows have none; of each
    segment, the rows of each value and how many values are in ``other``."""


@dataclass(frozen=True)
class EvaluationRows:
    """The evaluation rows that the stage ``encode`` has left in the work directory."""

    preparation: Preparation
    context: RawContext
    parts: Sequence[str]
    """Log segments that have evaluation rows, by their keys."""
    time_unit: str | None
    """Unit of the rows' times; None: there are no times, or their unit is unknown."""

    @staticmethod
    def of(preparation: Preparation, context: RawContext, encoded: Records) -> "EvaluationRows":
        """From the records of the stage ``encode``."""
        split = preparation.split.evaluated
        parts = [key_of(*part) for part, record in encoded.items() if split in record["shards"]]
        spans = join_spans(record["times"] for record in encoded.values())
        unit = None
        if context.times is not None and split in spans:
            unit = find_unit(*spans[split]) if context.times.are_numbers else "ns"
        return EvaluationRows(preparation, context, parts, unit)

    @property
    def segments(self) -> list[str]:
        """Names of the segments: those of raw columns, then ``day`` and ``user``."""
        by_themselves = [DAY] * (self.time_unit is not None) + [USER] * bool(self.context.cluster)
        return list(dict.fromkeys([*self.context.segments, *by_themselves]))

    def describe(self, number: int) -> Iterator[dict[str, Any]]:
        """The stage ``context``: finds the values of the segments and the known clusters."""
        directory, key = self.preparation.directory, f"{number:03d}"
        if record := directory.finished("context", key):
            yield record
            return
        clusters, known = self._find_known()
        path = directory.file("context", "known.npy")
        with write_whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, known, allow_pickle=False)
        files = [path, *self._write_clusters(clusters)]
        counters = {name: SegmentValueCounter(name) for name in self.segments}
        rows_without = 0
        for part in self.parts:
            table = self._read(part)
            if self.context.cluster:
                rows_without += table[cluster_column(self.context.cluster)].null_count
            for name, counter in counters.items():
                counter.add(self._texts(name, table, known))
        values = {name: counter.values() for name, counter in counters.items()}
        record = {
            "segments": {name: counted.as_record() for name, counted in values.items()},
            "clusters": {"evaluated": len(clusters), "of_which_known": len(known), "rows_without": rows_without},
        }
        directory.finish("context", key, record, {path: sha256(path) for path in files})
        yield record

    def write(self, number: int) -> Iterator[dict[str, Any]]:
        """One piece of the stage ``evaluation``: writes one shard."""
        directory, key = self.preparation.directory, f"{number:03d}"
        if record := directory.finished("evaluation", key):
            yield record
            return
        known = np.load(directory.file("context", "known.npy"), mmap_mode="r", allow_pickle=False)
        segments = self._described[0]
        raw = {field.name for field in self.context.fields}
        path = directory.data / self.preparation.split.evaluated / f"part-{self.parts[number]}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetFile(self.preparation.evaluation_file(self.parts[number])) as file:
            fields = [field for field in file.schema_arrow if field.name not in raw]
            schema = pa.schema([*fields, *context_fields(self.context.cluster, self.segments)])
            writer = ShardWriter(path, schema)
            try:
                for group in range(file.num_row_groups):
                    directory.leave_if_orphaned()
                    table = file.read_row_group(group, use_threads=False)
                    columns = {field.name: table[field.name] for field in schema if field.name in table.column_names}
                    for segment in segments:
                        codes = encode(segment, self._texts(segment.name, table, known))
                        columns[segment_column(segment.name)] = pa.array(codes)
                    writer.write(pa.table(columns).select(schema.names).cast(schema))
                shard = writer.close()
            except BaseException:
                writer.abandon()
                raise
        record = {"file": f"{path.parent.name}/{path.name}", "rows": shard["rows"], "sha256": shard["sha256"]}
        directory.finish("evaluation", key, record, {path: shard["sha256"]})
        yield record

    def result(self) -> EvaluationSplit:
        """The results of both stages."""
        segments, described = self._described
        directory = self.preparation.directory
        written = [directory.record("evaluation", f"{number:03d}") for number in range(len(self.parts))]
        shards = tuple(Shard(shard["file"], shard["rows"], shard["sha256"]) for shard in written if shard is not None)
        of_clusters = {"column": self.context.cluster_column, **described["clusters"]} if self.context.cluster else None
        return EvaluationSplit(shards, tuple(segments), {"cluster": of_clusters, "segments": described["segments"]})

    @property
    def _described(self) -> tuple[list[Segment], dict[str, Any]]:
        """The segments, and the record of the stage ``context``."""
        record = self.preparation.directory.record("context", "000")
        assert record is not None  # the stage is over
        return [Segment(name, tuple(entry["rows"])) for name, entry in record["segments"].items()], record

    def _find_known(self) -> tuple[Keys, Keys]:
        """Sorted keys of the evaluation clusters, and of those that have training rows."""
        clusters = np.empty(0, np.int64)
        if not self.context.cluster:
            return clusters, clusters
        column = cluster_column(self.context.cluster)
        for part in self.parts:
            keys = pq.read_table(self.preparation.evaluation_file(part), columns=[column])[column]
            clusters = np.union1d(clusters, distinct_keys(keys))
        if self.preparation.split.is_stream:
            return clusters, clusters[are_among(clusters, self._clusters_before())]
        is_known = np.zeros(len(clusters), bool)
        for file in sorted(self.preparation.clusters_file("any").parent.glob("*.npy")):
            is_known |= are_among(clusters, np.load(file, allow_pickle=False))
        return clusters, clusters[is_known]

    def _clusters_before(self) -> Keys:
        """Sorted keys of the clusters of the data sets before."""
        previous = self.preparation.previous
        return np.empty(0, np.int64) if previous is None else previous.clusters()

    def _write_clusters(self, clusters: Keys) -> list[Path]:
        """Writes the clusters of a chain of data sets, for the next one; returns the file."""
        if not (self.preparation.split.is_stream and self.context.cluster):
            return []
        keys = np.union1d(self._clusters_before(), clusters)
        path = self.preparation.directory.data / CLUSTERS
        write_vocabulary(pa.table({"value": keys}), path)
        return [path]

    def _read(self, part: str) -> pa.Table:
        columns = [field.name for field in self.context.fields]
        return pq.read_table(self.preparation.evaluation_file(part), columns=columns, use_threads=False)

    def _texts(self, name: str, table: pa.Table, known: Keys) -> pa.StringArray:
        """Texts (B,) of a segment; null: no value."""
        if name in self.context.segments:
            return one_chunk(table[segment_column(name)])
        if name == DAY:
            assert self.time_unit is not None
            return days_of(one_chunk(table[segment_column(DAY)]).to_numpy(), self.time_unit)
        return known_or_new(one_chunk(table[cluster_column(self.context.cluster)]), known)
