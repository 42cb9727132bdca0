"""A data set from a raw log: count -> merge -> encode, by any number of workers on any number of machines.

Each stage goes through the segments of the log (the merge: through the embedding tables) and marks what is finished,
so that a killed preparation goes on, and ends with the same bytes, whatever the number of workers.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from data_prep.columns.layout import Layout
from data_prep.columns.rows import BadRow, Rows
from data_prep.engine.options import IdOptions, Split
from data_prep.engine.work_directory import Workplace
from data_prep.output.raw_context import RawContext
from data_prep.sources.parsed_rows import read_parsed
from data_prep.sources.raw_files import names_of
from data_prep.sources.raw_text import SEGMENT_BYTES, BrokenFile
from data_prep.sources.source import OpenSource, Source, open_source
from data_prep.sources.times import TimedLog, Times
from dlrm_mtl.quoting import quote

FORMAT = 3
"""Of the work directory and of what comes out: another value begins anew."""


@dataclass(frozen=True)
class Groundwork:
    """What must be done before a log can be read, file by file."""

    files: tuple[Path, ...]
    """Files that it reads; the data set depends on them as on those of the log."""
    work: Callable[["Preparation", int], Iterator[Any]]
    """Does it for one of the files, by its number, and marks ``groundwork`` of that number (three digits) as
    finished."""


@dataclass(frozen=True)
class Preparation:
    """All that a worker needs to know."""

    name: str
    """Of the data set."""
    layout: Layout
    files: tuple[Path, ...]
    ids: IdOptions
    split: Split
    quarantine: bool
    keep_parsed: bool
    workplace: Workplace
    open_source: OpenSource = open_source
    groundwork: Groundwork | None = None
    passed_over: int = 0
    """Files and directories beside those of the log that are none of it, by their names."""
    times: Times | None = None
    """Of the rows, where the layout has a column of them."""
    reader_version: str = ""
    """Of code outside this project that reads the log; empty: there is none."""

    @cached_property
    def source(self) -> Source:
        """The log, opened when it is first asked for."""
        source = self.open_source(self.layout, self.files)
        return source if self.times is None else TimedLog(source, self.times)

    @cached_property
    def names(self) -> list[str]:
        """What tells the files of the log from one another."""
        return names_of(self.files)

    @property
    def needs_counts(self) -> bool:
        """Whether a pass over the training rows must come first."""
        return self.ids.ids == "vocabulary" or any(column.standardise for column in self.layout.dense)

    @property
    def keeps_parsed(self) -> bool:
        """Whether the count leaves its parsed rows to the encoding."""
        return self.keep_parsed and self.needs_counts and self.source.is_slow

    def segments(self, file: int, stage: str) -> int | None:
        """Number of segments that a pass can take one by one; None where it must read the file from its beginning. What
        the count has left of a compressed file need not be."""
        known = self.source.segments(file)
        if known is not None or stage != "encode" or not self.keeps_parsed:
            return known
        number = 0
        while record := self.workplace.record("count", key_of(file, number)):
            number += 1
            if record["last"]:
                return number
        return None

    def parsed_file(self, file: int, segment: int) -> Path:
        """Where the parsed rows of a segment are kept."""
        return self.workplace.file("parsed", f"{key_of(file, segment)}.arrow")

    @cached_property
    def context(self) -> RawContext | None:
        """What is kept of evaluation rows beside features and labels; None: nothing."""
        return RawContext.of(self.layout, self.times)

    def evaluation_file(self, key: str) -> Path:
        """Where the evaluation rows of a segment stay until the values of all rows' segments are known."""
        return self.workplace.file("evaluation-rows", f"{key}.parquet")

    def clusters_file(self, key: str) -> Path:
        """Where the clusters of a segment's training rows are kept."""
        return self.workplace.file("clusters", f"{key}.npy")

    @property
    def keeps_times(self) -> bool:
        """Whether the times of training rows are to be compared with those of evaluation rows."""
        return self.times is not None and self.split.eval_from is None

    def times_file(self, file: int, segment: int) -> Path:
        """Where the times of a segment's training rows are kept."""
        return self.workplace.file("times", f"{key_of(file, segment)}.npy")

    def files_of(self, stage: str) -> range:
        """The files that a pass reads: what is counted is training rows alone."""
        first, stop = self.split.files["train"] if stage == "count" else (0, len(self.files))
        return range(int(first), int(min(stop, len(self.files))))

    def plan(self) -> dict[str, Any]:
        """What the data set depends on; opens the log.

        Raises:
            ValueError: the log is not as the layout says, or a file of it cannot be read.
        """
        if not self.quarantine:
            for file, reason in self.source.unreadable.items():
                raise ValueError(f"{self.files[file]}: {reason}")
        return {
            "format": FORMAT,
            "name": self.name,
            # Base rates come out of the preparation; before it they are NaN, which JSON has not.
            "layout": {**asdict(self.layout), "tasks": [[t.name, t.label, t.given] for t in self.layout.tasks]},
            "files": [
                {**_stamp(path), "name": name, "segments": self.source.segments(number)}
                for number, (path, name) in enumerate(zip(self.files, self.names, strict=True))
            ]
            + [_stamp(path) for path in (self.groundwork.files if self.groundwork else ())],
            "ids": asdict(self.ids),
            "split": self.split.describe(),
            "times": None if self.times is None else asdict(self.times),
            "eval_from": self.split.eval_from,
            "quarantine": self.quarantine,
            "segment_bytes": SEGMENT_BYTES,
            "pyarrow": pa.__version__,
            **({"reader_version": self.reader_version} if self.reader_version else {}),
        }


def _stamp(path: Path) -> dict[str, Any]:
    """What tells a file from another one."""
    return {"name": path.name, "bytes": (stat := path.stat()).st_size, "modified_ns": stat.st_mtime_ns}


@dataclass(frozen=True)
class Part:
    """A piece of work: one segment of a file, or all of them (None) where they must be read in order."""

    file: int
    segment: int | None


class SegmentWork(Protocol):
    """What a stage does with the rows of one segment."""

    def add(self, rows: Rows) -> None:
        """Takes a block of rows."""

    def finish(self) -> tuple[dict[str, Any], dict[Path, str]]:
        """Ends the segment: its record, and its files with their checksums."""

    def abandon(self) -> None:
        """Leaves nothing unfinished behind."""


class Stage(Protocol):
    """A pass over the segments."""

    @property
    def name(self) -> str:
        """Of its markers."""

    def begin(self, preparation: Preparation, file: int, segment: int) -> SegmentWork:
        """Work on one segment."""


def parts_of(preparation: Preparation, stage: str) -> list[Part]:
    """The pieces of work of a pass, in the order of the log."""
    parts = []
    for file in preparation.files_of(stage):
        segments = preparation.segments(file, stage)
        parts += [Part(file, None)] if segments is None else [Part(file, segment) for segment in range(segments)]
    return parts


def key_of(file: int, segment: int) -> str:
    """Name of a segment in markers and shards."""
    return f"{file:04d}-{segment:05d}"


def run_part(preparation: Preparation, stage: Stage, part: Part) -> Iterator[dict[str, Any]]:
    """Does a piece of work, from where it was left; yields the record of each segment.

    Raises:
        ValueError: a row is bad or a file broken, and the preparation is to stop then.
    """
    place = preparation.workplace
    first, last = (part.segment, part.segment) if part.segment is not None else (0, None)
    while record := place.finished(stage.name, key_of(part.file, first)):
        yield record
        if last is not None or record["last"]:
            return
        first += 1
    work, segment, record = None, first, _empty_record()
    try:
        for rows, number, size in _kept_rows(preparation, stage, part) or _rows(preparation, part.file, first, last):
            place.leave_if_orphaned()
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
        ValueError: a file is broken, and the preparation is to stop then.
    """
    place = preparation.workplace
    first, last = (part.segment, part.segment) if part.segment is not None else (0, None)
    while record := place.finished("index", key_of(part.file, first)):
        yield record
        if last is not None or record["last"]:
            return
        first += 1
    size = preparation.files[part.file].stat().st_size
    lines: dict[int, int] = {first: 0}
    segment = first
    try:
        for segment, number in preparation.source.count(part.file, first, last):
            place.leave_if_orphaned()
            lines[segment] = lines.get(segment, 0) + number
    except BrokenFile as broken:
        if not preparation.quarantine:
            reached = preparation.source.line(part.file, segment, broken.line)
            raise ValueError(f"{preparation.files[part.file]}, after line {reached}: {broken}") from None
    for segment, number in lines.items():
        share = size // (preparation.source.segments(part.file) or len(lines))
        record = {"lines": number, "bytes": share, "last": last is None and segment == max(lines)}
        place.finish("index", key_of(part.file, segment), record, {})
        yield record


def records(preparation: Preparation, stage: str) -> dict[tuple[int, int], dict[str, Any]] | None:
    """The records of all segments of a pass, in the order of the log; None where any is not finished yet."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for file in preparation.files_of(stage):
        segments = preparation.source.segments(file)
        segment = 0
        while segments is None or segment < segments:
            record = preparation.workplace.record(stage, key_of(file, segment))
            if record is None:
                return None
            found[file, segment] = record
            segment += 1
            if segments is None and record["last"]:
                break
    return found


def explain(source: Source, file: int, segment: int, bad: BadRow) -> str:
    """What is wrong with a row, and where."""
    place = f"{source.files[file]}, line {source.line(file, segment, bad.line)}"
    if bad.column:
        return f"{place}, column {quote(bad.column)}: {quote(bad.value)}, {bad.reason}"
    return f"{place}: {bad.value}{', ' if bad.value else ''}{bad.reason}"


def _kept_rows(preparation: Preparation, stage: Stage, part: Part) -> Iterator[tuple[Rows, int, int]] | None:
    """Blocks of a segment that the count has left, as ``_rows`` gives them; None where there are none."""
    if stage.name != "encode" or part.segment is None or not preparation.keeps_parsed:
        return None
    segment = part.segment
    counted = preparation.workplace.record("count", key_of(part.file, segment))
    if counted is None or counted["parsed"] is None:
        return None
    blocks = read_parsed(preparation.parsed_file(part.file, segment), counted["parsed"])
    if blocks is None:
        return None
    share = counted["bytes"] // max(counted["blocks"], 1)
    return ((rows, segment, share) for rows in blocks)


def _rows(preparation: Preparation, file: int, first: int, last: int | None) -> Iterator[tuple[Rows, int, int]]:
    """Blocks of rows with their segment and their bytes; a file that breaks off ends with a bad row."""
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
    preparation.workplace.finish(stage.name, key_of(file, segment), record, files)
    if stage.name == "encode":
        preparation.parsed_file(file, segment).unlink(missing_ok=True)
    return record
