"""The pass that counts keys and moments of the rows that are learnt from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.columns.rows import Rows
from data_prep.encoding.encoder import measured
from data_prep.engine.preparation import Preparation, key_of
from data_prep.engine.segments import SegmentWork
from data_prep.engine.split_rows import CHUNK_ROWS, SplitRows
from data_prep.ids.counting import KeyCounter
from data_prep.ids.scaling import Moments
from data_prep.sources.parsed_rows import ParsedWriter
from dlrm_mtl.files import PendingFile, sha256


@dataclass(frozen=True)
class CountPass:
    """Counts keys and moments of the rows that are learnt from: of the split train or stream. A data set that continues
    another one keeps its scales, and counts no moments.

    Args:
        starts: number of the first row of each segment, where rows are split by number.
    """

    starts: Mapping[str, int]
    name: str = "count"

    def begin(self, preparation: Preparation, file: int, segment: int) -> SegmentWork:
        return _Counting(preparation, file, segment, self.starts.get(key_of(file, segment), 0))


class _Counting:
    def __init__(self, preparation: Preparation, file: int, segment: int, start: int) -> None:
        self._split = preparation.split.learnt
        self._scaled = [c for c in preparation.layout.dense if c.standardise and preparation.previous is None]
        self._chunks = SplitRows(preparation, file, start, [preparation.split.learnt])
        self._counter = KeyCounter(preparation.layout)
        self._moments = {column.feature: Moments() for column in self._scaled}
        self._path = preparation.directory.file("runs", f"{key_of(file, segment)}.arrow")
        self._file = PendingFile(self._path)
        self._parsed = ParsedWriter(preparation.parsed_file(file, segment)) if preparation.keeps_parsed else None

    def add(self, rows: Rows) -> None:
        if self._parsed is not None:
            self._parsed.add(rows)
        self._chunks.add(rows)
        self._take(CHUNK_ROWS)

    def finish(self) -> tuple[dict[str, Any], dict[Path, str]]:
        parsed = self._parsed.close() if self._parsed is not None else None
        self._take(1)
        self._counter.write(self._file.temporary)
        checksum = sha256(self._file.temporary)
        self._file.commit()
        moments = {name: moments.as_record() for name, moments in self._moments.items()}
        return {"moments": moments, "parsed": parsed}, {self._path: checksum}

    def abandon(self) -> None:
        if self._parsed is not None:
            self._parsed.abandon()
        self._file.discard()

    def _take(self, at_least: int) -> None:
        table = self._chunks.ready(self._split, at_least)
        if table is None:
            return
        self._counter.add(table)
        for column in self._scaled:
            self._moments[column.feature].add(measured(table, column))
