"""Ali-CCP as a log: each line of a sample skeleton joined with its common features."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.ali_ccp_log.common_features import CommonFeatures, read_fields, split_fields, user_features
from data_prep.ali_ccp_log.feature_lists import FeatureLists
from data_prep.columns.arrays import one_chunk
from data_prep.columns.layout import Layout
from data_prep.columns.rows import EXPECTED, BadRow, Piece, Rows, too_long
from data_prep.sources.raw_text import BrokenFile, first_line, read_blocks, segments_of

ROW_FIELDS = ("205", "206", "207", "210", "216", "508", "509", "702", "853", "301")

NAMES = ("sample_id", "click", "buy", "common_feature_index", "feature_num", "feature_list")


class AliCcpLog:
    """Sample skeletons, plain or compressed.

    Args:
        common: directory of the common features, with file names by :func:`stem_of`.

    Raises:
        ValueError: a file cannot be read or is no sample skeleton.
    """

    is_slow = False
    has_texts = False

    def __init__(self, layout: Layout, files: Sequence[Path], common: Path) -> None:
        self.files = files
        self.unreadable: dict[int, str] = {}
        self._layout = layout
        self._common = common
        for number, path in enumerate(files):
            try:
                fields = first_line(path).count(",") + 1
            except BrokenFile as error:
                self.unreadable[number] = str(error)
                continue
            if fields != len(NAMES):
                raise ValueError(f"{path}, line 1: {fields} fields, a sample skeleton has {len(NAMES)}")

    def segments(self, file: int) -> int | None:
        return segments_of(self.files[file])

    def read(self, file: int, first: int, last: int | None) -> Iterator[Piece]:
        # Not kept: memory-mapped files cannot be sent to workers.
        parser = _Parser(self._layout, CommonFeatures(stem_of(self._common, file), self._layout.categorical))
        segment, line = first, 1
        for block in read_blocks(self.files[file], first, last):
            if block.segment != segment:
                segment, line = block.segment, 1
            if block.is_too_long:
                rows = too_long(parser.empty, block.text, line)
            else:
                rows = parser.parse(bytes(block.text), block.lines, line)
            yield Piece(segment, replace(rows, blank_end=block.blank_end), block.file_bytes, line)
            line += block.lines

    def count(self, file: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
        for block in read_blocks(self.files[file], first, last):
            yield block.segment, block.lines

    def line(self, file: int, segment: int, line: int) -> int:
        return line + (sum(lines for _, lines in self.count(file, 0, segment - 1)) if segment else 0)


def stem_of(common: Path, file: int) -> Path:
    """Beginning of the names of a file's common features."""
    return common / f"{file:04d}"


class _Parser:
    """Parses blocks of whole lines of one sample skeleton."""

    def __init__(self, layout: Layout, common: CommonFeatures) -> None:
        users = user_features(layout.categorical)
        self._common = common
        self._uses = layout.uses
        self._lists = FeatureLists([f for f in layout.categorical if f not in users], ROW_FIELDS)

    @property
    def empty(self) -> pa.Table:
        """A table without rows."""
        return pa.table({name: pa.nulls(0) for name in self._uses})

    def parse(self, text: bytes, lines: int, first_line: int) -> Rows:
        """Parses a block of so many lines; ``first_line`` is the number of the first within the segment, from 1."""
        table = self._convert(text)
        if table is not None and len(table) == lines:
            return Rows(table, np.arange(lines), lines)
        good: list[bytes] = []
        positions: list[int] = []
        bad: list[BadRow] = []
        for position, content in enumerate(text.split(b"\n")[:-1]):
            if fault := self._fault(content):
                original = content.rstrip(b"\r").decode(errors="surrogateescape")
                bad.append(BadRow(first_line + position, *fault, text=original))
            else:
                good.append(content + b"\n")
                positions.append(position)
        table = self._convert(b"".join(good)) if good else self.empty
        if table is None or len(table) != len(good):
            raise ValueError(
                f"lines {first_line} to {first_line + lines - 1} of the segment: cannot be parsed, though each line can"
            )
        return Rows(table, np.array(positions, np.int64), lines, bad)

    def _convert(self, text: bytes) -> pa.Table | None:
        """The typed columns; None where any line is bad."""
        table = read_fields(text, NAMES)
        if table is None:
            return None
        labels = {}
        for name in ("click", "buy"):
            labels[name] = pc.equal(table[name], "1")
            if not pc.all(pc.or_(labels[name], pc.equal(table[name], "0"))).as_py():
                return None
        if pc.any(pc.and_not(labels["buy"], labels["click"])).as_py():
            return None
        columns = self._lists.parse(one_chunk(table["feature_list"]), one_chunk(table["feature_num"]))
        if columns is None:
            return None
        rows, exists = self._common.find(one_chunk(table["common_feature_index"]))
        if not exists.all():
            return None
        columns |= self._common.take(rows)
        columns |= {name: one_chunk(label).cast(pa.int8()) for name, label in labels.items()}
        return pa.table({name: columns[name] for name in self._uses})

    def _fault(self, line: bytes) -> tuple[str, str, str] | None:
        """Column, value and reason of the first fault of a line."""
        fields, fault = split_fields(line, NAMES)
        if fault is not None:
            return fault
        _, click, buy, index, size, features = fields
        for name, value in (("click", click), ("buy", buy)):
            if value not in ("0", "1"):
                return name, value, f"expected {EXPECTED['binary']}"
        if buy == "1" and click == "0":
            return "buy", buy, "a purchase without a click"
        if not self._common.find(pa.array([index]))[1][0]:
            return "common_feature_index", index, "is no index of the common features"
        return self._lists.fault(features, size)
