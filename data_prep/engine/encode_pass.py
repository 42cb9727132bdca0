"""The pass that writes the shards."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.raw_columns import LabelReader
from data_prep.columns.rows import Rows
from data_prep.encoding.encoder import Encoder
from data_prep.encoding.encoding import Encoding
from data_prep.engine.preparation import Preparation, key_of
from data_prep.engine.segments import SegmentWork
from data_prep.engine.split_rows import CHUNK_ROWS, SplitRows
from data_prep.ids.assignment import read_vocabulary
from data_prep.output.label_counts import LabelCounts
from data_prep.output.raw_context import SeenClusters
from data_prep.output.shards import ShardWriter, arrow_schema, label_types
from data_prep.output.time_spans import SeenTimes
from dlrm_mtl.files import PendingFile, sha256


@dataclass(frozen=True)
class EncodePass:
    """Writes the shards.

    Args:
        starts: number of the first row of each segment, where rows are split by number.
    """

    starts: Mapping[str, int]
    encoding: Encoding
    name: str = "encode"

    def begin(self, preparation: Preparation, file: int, segment: int) -> SegmentWork:
        return _SegmentEncoding(preparation, self, file, segment)


class _SegmentEncoding:
    def __init__(self, preparation: Preparation, stage: EncodePass, file: int, segment: int) -> None:
        directory, key = preparation.directory, key_of(file, segment)
        self._split, splits = preparation.split, preparation.split.names
        self._seen = SeenTimes(preparation.times_file(file, segment) if preparation.keeps_times else None)
        self._chunks = SplitRows(preparation, file, stage.starts.get(key, 0), seen=self._seen)
        assignments = stage.encoding.assignments(lambda table: read_vocabulary(preparation.keys_file(table)))
        self._encoders = {split: Encoder(stage.encoding, assignments, preparation.new_ids()) for split in splits}
        layout = preparation.layout
        self._readers = {split: LabelReader(layout) for split in splits}
        types = label_types(layout.tasks)
        labels = {name: types[name] for name in self._readers[self._split.learnt].names}
        columns = arrow_schema(stage.encoding.features, layout.dense_names, labels)
        self._schemas = dict.fromkeys(splits, columns)
        self._shards: dict[str, ShardWriter] = {}
        self._paths = {split: directory.data / split / f"part-{key}.parquet" for split in splits}
        self._context = preparation.context
        self._clusters: SeenClusters | None = None
        if self._context is not None:
            self._schemas[self._split.evaluated] = pa.schema([*columns, *self._context.fields])
            self._paths[self._split.evaluated] = preparation.evaluation_file(key)
            if self._context.cluster and not self._split.is_stream:
                self._clusters = SeenClusters(preparation.clusters_file(key))
        self._ids: Counter[str] = Counter()
        self._labels = {split: [LabelCounts(task) for task in layout.tasks] for split in splits}
        self._quarantine_file = PendingFile(directory.file("quarantine", f"{key}.jsonl"))
        self._quarantine = self._quarantine_file.temporary.open("w")

    def add(self, rows: Rows) -> None:
        self._chunks.add(rows)
        for bad in rows.bad:
            self._quarantine.write(json.dumps(asdict(bad)) + "\n")
        self._take(CHUNK_ROWS)

    def finish(self) -> tuple[dict[str, Any], dict[Path, str]]:
        self._take(1)
        files, shards = {}, {}
        for split, writer in self._shards.items():
            shards[split] = {"file": f"{split}/{writer.path.name}", **writer.close()}
            files[writer.path] = shards[split]["sha256"]
        self._quarantine.close()
        files[self._quarantine_file.path] = sha256(self._quarantine_file.temporary)
        self._quarantine_file.commit()
        files |= self._seen.finish()
        files |= self._clusters.finish() if self._clusters is not None else {}
        record = {
            "shards": shards,
            "outside": self._chunks.outside,
            "times": self._seen.spans,
            "ids": dict(self._ids),
            "labels": {
                split: {of_task.task.name: of_task.as_record() for of_task in counts}
                for split, counts in self._labels.items()
            },
            "clipped": {split: dict(reader.clipped) for split, reader in self._readers.items()},
            "missing": {split: dict(encoder.missing) for split, encoder in self._encoders.items()},
            "unseen": {split: dict(encoder.unseen) for split, encoder in self._encoders.items()},
            "raised": {split: dict(encoder.raised) for split, encoder in self._encoders.items()},
            "new": {split: dict(encoder.new) for split, encoder in self._encoders.items()},
        }
        return record, files

    def abandon(self) -> None:
        for writer in self._shards.values():
            writer.abandon()
        self._quarantine.close()
        self._quarantine_file.discard()

    def _take(self, at_least: int) -> None:
        for split in self._split.names:
            table = self._chunks.ready(split, at_least)
            if table is None:
                continue
            encoded = pa.table(self._encoders[split].encode(table) | self._readers[split].read(table))
            if self._context is not None and split == self._split.evaluated:
                for name, column in self._context.columns(table).items():
                    encoded = encoded.append_column(name, column)
            if self._clusters is not None and self._context is not None and split == self._split.learnt:
                self._clusters.add(self._context.keys(table))
            encoded = encoded.select(self._schemas[split].names).cast(self._schemas[split])
            self._count(split, encoded)
            if split not in self._shards:
                self._paths[split].parent.mkdir(parents=True, exist_ok=True)
                self._shards[split] = ShardWriter(self._paths[split], self._schemas[split])
            self._shards[split].write(encoded)

    def _count(self, split: str, encoded: pa.Table) -> None:
        if split == self._split.learnt:
            for name in encoded.column_names:
                if pa.types.is_list(encoded[name].type):
                    self._ids[name] += pc.sum(pc.list_value_length(encoded[name])).as_py() or 0
        for counts in self._labels[split]:
            counts.add(encoded)
