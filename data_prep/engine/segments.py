"""Passes over the segments of a log; each marks finished segments and resumes after them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from data_prep.columns.rows import BadRow, Rows
from data_prep.engine.preparation import Preparation, key_of
from data_prep.sources.parsed_rows import read_parsed
from data_prep.sources.raw_text import BrokenFile
from data_prep.sources.source import Source
from dlrm_mtl.quoting import quote


@dataclass(frozen=True)
class Part:
    """A piece of work: one segment of a file, or all of them (None) where they must be read in order."""

    file: int
    segment: int | None


class SegmentWork(Protocol):
    """The work of a pass on one segment."""

    def add(self, rows: Rows) -> None:
        """Adds a block of rows."""

    def finish(self) -> tuple[dict[str, Any], dict[Path, str]]:
        """Ends the segment; returns its record, and its files with their checksums."""

    def abandon(self) -> None:
        """Discards unfinished files."""


class Stage(Protocol):
    """A pass over the segments."""

    @property
    def name(self) -> str:
        """Name of its markers."""

    def begin(self, preparation: Preparation, file: int, segment: int) -> SegmentWork:
        """Begins the work on one segment."""


def parts_of(preparation: Preparation, stage: str) -> list[Part]:
    """The pieces of work of a pass, in the order of the log."""
    parts = []
    for file in preparation.files_of(stage):
        segments = preparation.segments(file, stage)
        parts += [Part(file, None)] if segments is None else [Part(file, segment) for segment in range(segments)]
    return parts


def run_part(preparation: Preparation, stage: Stage, part: Part) -> Iterator[dict[str, Any]]:
    """Does a piece of work, after the segments that are finished; yields the record of each segment.

    Raises:
        ValueError: a row is bad or a file broken, and bad rows are not quarantined.
    """
    directory = preparation.directory
    first, last = (part.segment, part.segment) if part.segment is not None else (0, None)
    while record := directory.finished(stage.name, key_of(part.file, first)):
        yield record
        if last is not None or record["last"]:
            return
        first += 1
    work, segment, record = None, first, _empty_record()
    try:
        for rows, number, size in _kept_rows(preparation, stage, part) or _rows(preparation, part.file, first, last):
            directory.leave_if_orphaned()
            if number != segment and work is not None:
                yield _finish(preparation, stage, part.file, segment, work, record)
                work, record = None, _empty_record()
            work, segment = work or stage.begin(preparation, part.file, number), number
            if rows.bad and not preparation.quarantine:
                raise ValueError(explain(preparation.source, part.file, segment, rows.bad[0]))
            work.add(rows)
            record["lines"] += rows.lines
            record["ignored"] += rows.ignored
            record["bad"] += len(rows.bad)
            record["blank_end"] += rows.blank_end
            record["broken"] = record["broken"] or rows.broken
            record["bytes"] += size
            record["blocks"] += 1
        record["last"] = last is None or last + 1 == preparation.segments(part.file, stage.name)
        work = work or stage.begin(preparation, part.file, segment)
        yield _finish(preparation, stage, part.file, segment, work, record)
    except BaseException:
        if work is not None:
            work.abandon()
        raise


def index_part(preparation: Preparation, part: Part) -> Iterator[dict[str, Any]]:
    """Counts the lines of a piece of work; yields the record of each segment.

    Raises:
        ValueError: a file is broken, and bad rows are not quarantined.
    """
    directory = preparation.directory
    first, last = (part.segment, part.segment) if part.segment is not None else (0, None)
    while record := directory.finished("index", key_of(part.file, first)):
        yield record
        if last is not None or record["last"]:
            return
        first += 1
    size = preparation.files[part.file].stat().st_size
    lines: dict[int, int] = {first: 0}
    segment = first
    try:
        for segment, number in preparation.source.count(part.file, first, last):
            directory.leave_if_orphaned()
            lines[segment] = lines.get(segment, 0) + number
    except BrokenFile as broken:
        if not preparation.quarantine:
            reached = preparation.source.line(part.file, segment, broken.line)
            raise ValueError(f"{preparation.files[part.file]}, after line {reached}: {broken}") from None
    for segment, number in lines.items():
        share = size // (preparation.source.segments(part.file) or len(lines))
        record = {"lines": number, "bytes": share, "last": last is None and segment == max(lines)}
        directory.finish("index", key_of(part.file, segment), record, {})
        yield record


def records(preparation: Preparation, stage: str) -> dict[tuple[int, int], dict[str, Any]] | None:
    """The records of all segments of a pass, in the order of the log; None: some are not finished yet."""
    finished: dict[tuple[int, int], dict[str, Any]] = {}
    for file in preparation.files_of(stage):
        segments = preparation.source.segments(file)
        segment = 0
        while segments is None or segment < segments:
            record = preparation.directory.record(stage, key_of(file, segment))
            if record is None:
                return None
            finished[file, segment] = record
            segment += 1
            if segments is None and record["last"]:
                break
    return finished


def lines_before(
    preparation: Preparation, finished: Mapping[tuple[int, int], Mapping[str, Any]]
) -> dict[tuple[int, int], int]:
    """Lines of its file before each segment that has bad rows, from the records of a pass."""
    firsts: dict[int, int] = {}
    before = {}
    for (file, segment), record in finished.items():
        if not record["bad"]:
            continue
        if segment and file not in firsts:
            # The source knows whether there is a header; lines of later segments are already counted.
            firsts[file] = preparation.source.line(file, 1, 0)
        later = sum(finished[file, other]["lines"] for other in range(1, segment))
        before[file, segment] = firsts[file] + later if segment else 0
    return before


def explain(source: Source, file: int, segment: int, bad: BadRow) -> str:
    """The message for a bad row: place, value, reason."""
    place = f"{source.files[file]}, line {source.line(file, segment, bad.line)}"
    if bad.column:
        return f"{place}, column {quote(bad.column)}: {quote(bad.value)}, {bad.reason}"
    return f"{place}: {bad.value}{', ' if bad.value else ''}{bad.reason}"


def _kept_rows(preparation: Preparation, stage: Stage, part: Part) -> Iterator[tuple[Rows, int, int]] | None:
    """Blocks of a segment that ``count`` has kept, in the form of ``_rows``; None: there are none."""
    if stage.name != "encode" or part.segment is None or not preparation.keeps_parsed:
        return None
    segment = part.segment
    counted = preparation.directory.record("count", key_of(part.file, segment))
    if counted is None or counted["parsed"] is None:
        return None
    blocks = read_parsed(preparation.parsed_file(part.file, segment), counted["parsed"])
    if blocks is None:
        return None
    share = counted["bytes"] // max(counted["blocks"], 1)
    return ((rows, segment, share) for rows in blocks)


def _rows(preparation: Preparation, file: int, first: int, last: int | None) -> Iterator[tuple[Rows, int, int]]:
    """Blocks of rows with their segment and bytes; a file that breaks off ends with a bad row."""
    segment = first
    try:
        for piece in preparation.source.read(file, first, last):
            segment = piece.segment
            yield piece.rows, segment, piece.file_bytes
    except BrokenFile as broken:
        after = preparation.source.line(file, segment, broken.line) if broken.line or segment else 0
        reason = f"{broken}; nothing after line {after} can be read"
        bad = BadRow(broken.line + 1, "", "", reason, "")
        empty = Rows(_empty_table(preparation), np.empty(0, np.int64), 0, [bad], broken=reason)
        yield empty, segment, 0


def _empty_table(preparation: Preparation) -> pa.Table:
    return pa.table({name: pa.nulls(0) for name in preparation.layout.uses})


def _empty_record() -> dict[str, Any]:
    return {"lines": 0, "ignored": 0, "bad": 0, "bytes": 0, "blocks": 0, "blank_end": 0, "broken": "", "last": False}


def _finish(
    preparation: Preparation, stage: Stage, file: int, segment: int, work: SegmentWork, record: dict[str, Any]
) -> dict[str, Any]:
    results, files = work.finish()
    record = {**record, **results}
    preparation.directory.finish(stage.name, key_of(file, segment), record, files)
    if stage.name == "encode":
        preparation.parsed_file(file, segment).unlink(missing_ok=True)
    return record
