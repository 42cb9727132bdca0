"""What a preparation consists of: the log, the options, the work directory.

Stages (count -> merge -> encode) go through the segments of the log (merge: through the embedding tables) and mark each
finished piece, so that a killed preparation resumes and gives the same bytes with any number of workers.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.columns.layout import Layout
from data_prep.encoding.extending import Previous
from data_prep.encoding.reuse import ReusedEncoding
from data_prep.engine.options import IdOptions
from data_prep.engine.split import Split
from data_prep.engine.work_directory import WorkDirectory
from data_prep.ids.extension import NewIds
from data_prep.ids.scaling import Scale
from data_prep.output.raw_context import RawContext
from data_prep.sources.raw_files import names_of
from data_prep.sources.raw_text import SEGMENT_BYTES
from data_prep.sources.source import OpenSource, Source, open_source
from data_prep.sources.times import TimedLog, Times
from dlrm_mtl.continuation import Period
from dlrm_mtl.location import Location

FORMAT = 5
"""Version of the work directory and the data set; work of another version is not resumed."""


@dataclass(frozen=True)
class Preprocessing:
    """Work that must precede the reading of a log, file by file."""

    files: tuple[Path, ...]
    """Files that it reads; the data set depends on them, too."""
    work: Callable[["Preparation", int], Iterator[Any]]
    """Does the work for one file, by its number, and marks it (three digits) as finished in stage ``preprocess``."""


@dataclass(frozen=True)
class Preparation:
    """A preparation, as workers receive it."""

    name: str
    """Of the data set."""
    layout: Layout
    files: tuple[Location, ...]
    ids: IdOptions
    split: Split
    quarantine: bool
    keep_parsed: bool
    directory: WorkDirectory
    open_source: OpenSource = open_source
    preprocessing: Preprocessing | None = None
    passed_over: int = 0
    """Number of files and directories that were skipped because of their names."""
    times: Times | None = None
    """Times of the rows, where the layout has a time column."""
    reader_version: str = ""
    """Version of code outside this project that reads the log; empty: there is none."""
    reused: ReusedEncoding | None = None
    """What encodes the rows; None: it is learnt."""
    previous: Previous | None = None
    """The data set that this one continues; None: there is none."""
    period: Period | None = None
    """Of all rows; None: that of their times."""
    log_names: tuple[str, ...] = ()
    """Names of the files for messages and the schema, where the files are parts of a log; empty: their own."""

    @cached_property
    def source(self) -> Source:
        """The log, opened on first use."""
        source = self.open_source(self.layout, self.files)
        return source if self.times is None else TimedLog(source, self.times)

    @cached_property
    def names(self) -> list[str]:
        """Names of the files."""
        return list(self.log_names) or names_of(self.files)

    @property
    def needs_counts(self) -> bool:
        """Whether a pass over the rows that are learnt from must come first."""
        has_scales = self.previous is None and any(column.standardise for column in self.layout.dense)
        return self.reused is None and (self.ids.ids == "vocabulary" or has_scales)

    @cached_property
    def label_scales(self) -> dict[str, Scale]:
        """By task, mean and deviation of regression labels that are not learnt, but those of the data set that is
        continued or whose encoding is used. Raises ValueError where a label is another one there."""
        before = self.reused if self.previous is None else self.previous.reused
        return {} if before is None else before.label_scales(self.layout.tasks, self.layout.label_formulas)

    @property
    def number(self) -> int:
        """Of the data set in its chain, from 0."""
        return 0 if self.previous is None else self.previous.number + 1

    @property
    def keeps_parsed(self) -> bool:
        """Whether the stage ``count`` keeps its parsed rows for ``encode``."""
        return self.keep_parsed and self.needs_counts and self.source.is_slow

    def segments(self, file: int, stage: str) -> int | None:
        """Number of segments that a pass can read in any order; None: it must read the file from its beginning. With
        the parsed rows that ``count`` has kept, ``encode`` can read a compressed file in any order."""
        segments = self.source.segments(file)
        if segments is not None or stage != "encode" or not self.keeps_parsed:
            return segments
        number = 0
        while record := self.directory.record("count", key_of(file, number)):
            number += 1
            if record["last"]:
                return number
        return None

    def parsed_file(self, file: int, segment: int) -> Path:
        """File for the parsed rows of a segment."""
        return self.directory.file("parsed", f"{key_of(file, segment)}.arrow")

    def keys_file(self, table: str) -> Path:
        """File for the keys of a table's vocabulary; the values are in a .parquet file beside it."""
        return self.directory.file("vocabulary", f"{list(self.layout.tables).index(table):03d}.npy")

    @cached_property
    def context(self) -> RawContext | None:
        """Columns kept of evaluation rows beside features and labels; None: there are none."""
        return RawContext.of(self.layout, self.times)

    def merged(self, table: str) -> dict[str, Any]:
        """The record of the stage ``merge`` on a table; the stage is over."""
        record = self.directory.record("merge", f"{list(self.layout.tables).index(table):03d}")
        assert record is not None
        return record

    def waiting_file(self, table: str) -> Path:
        """File for the values of a table that wait for an id, in a data set of the split stream."""
        return self.keys_file(table).with_suffix(".waiting.parquet")

    def reset_file(self, table: str) -> Path:
        """File for the ids of a table that had another value in the data set before, ascending."""
        return self.keys_file(table).with_suffix(".reset.npy")

    def new_ids(self) -> dict[str, NewIds]:
        """The ids that begin anew, of tables with a vocabulary, where the data set continues another one."""
        if self.previous is None:
            return {}
        encoding = self.previous.reused.encoding
        return {
            table: NewIds(np.load(self.reset_file(table), mmap_mode="r"), encoding.fingerprints.tables[table].size)
            for table in encoding.tables_with_vocabulary
        }

    def evaluation_file(self, key: str) -> Path:
        """File for the evaluation rows of a log segment until the stage ``evaluation``."""
        return self.directory.file("evaluation-rows", f"{key}.parquet")

    def clusters_file(self, key: str) -> Path:
        """File for the clusters of a log segment's training rows."""
        return self.directory.file("clusters", f"{key}.npy")

    @property
    def keeps_times(self) -> bool:
        """Whether times of training rows are kept, to compare them with those of evaluation rows."""
        return self.times is not None and self.split.eval_from is None and not self.split.is_stream

    def times_file(self, file: int, segment: int) -> Path:
        """File for the times of a log segment's training rows."""
        return self.directory.file("times", f"{key_of(file, segment)}.npy")

    def files_of(self, stage: str) -> range:
        """The files that a pass reads; ``count`` reads only files with rows that are learnt from."""
        first, stop = self.split.files[self.split.learnt] if stage == "count" else (0, len(self.files))
        return range(int(first), int(min(stop, len(self.files))))

    def plan(self) -> dict[str, Any]:
        """Everything that the data set depends on; opens the log.

        Raises:
            ValueError: the log is not as the layout says, or a file of it cannot be read.
        """
        if not self.quarantine:
            for file, reason in self.source.unreadable.items():
                raise ValueError(f"{self.files[file]}: {reason}")
        return {
            "format": FORMAT,
            "name": self.name,
            "layout": asdict(self.layout),
            "files": [
                {**_stamp(path), "name": name, "segments": self.source.segments(number)}
                for number, (path, name) in enumerate(zip(self.files, self.names, strict=True))
            ]
            + [_stamp(path) for path in (self.preprocessing.files if self.preprocessing else ())],
            # The encoding is known by its content, wherever it lies.
            "ids": {
                **{name: value for name, value in asdict(self.ids).items() if name != "encoding"},
                "min_count": self.ids.least_count,
            },
            **({"encoding": self.reused.sha256} if self.reused is not None else {}),
            **({"label_scales": self.label_scales} if self.label_scales else {}),
            **({"extend": self.previous.sha256} if self.previous is not None else {}),
            "split": self.split.describe(),
            "times": None if self.times is None else asdict(self.times),
            "eval_from": self.split.eval_from,
            "quarantine": self.quarantine,
            "segment_bytes": SEGMENT_BYTES,
            "pyarrow": pa.__version__,
            **({"reader_version": self.reader_version} if self.reader_version else {}),
        }


def _stamp(path: Location) -> dict[str, Any]:
    """Name, size and time of change of a file."""
    return {"name": path.name, "bytes": (stat := path.stat()).st_size, "modified_ns": stat.st_mtime_ns}


def key_of(file: int, segment: int) -> str:
    """Name of a segment in markers and shards."""
    return f"{file:04d}-{segment:05d}"
