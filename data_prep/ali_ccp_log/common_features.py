"""Ali-CCP's common features: a file of about 10 GB that the rows of a log refer to, converted to files that all workers
map into memory and share.

Each file becomes a table with one row per line, sorted by the hash of its index. It has the one-hot features, and
start and length of each multi-hot list. The values of the lists are in a file of their own, in the order of the lines.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc

from data_prep.ali_ccp_log.feature_lists import FeatureLists, lists_of
from data_prep.columns.arrays import numbers, one_chunk
from data_prep.columns.layout import CategoricalColumn
from data_prep.columns.rows import EXPECTED, LINE_BYTES
from data_prep.ids.keys import hash_strings
from data_prep.sources.raw_text import Block, BrokenFile, read_blocks
from data_prep.sources.text_file import check_is_text
from dlrm_mtl.files import sha256, write_whole
from dlrm_mtl.quoting import quote

USER_FIELDS = ("101", "109_14", "110_14", "127_14", "150_14", "121", "122", "124", "125", "126", "127", "128", "129")

NAMES = ("common_feature_index", "feature_num", "feature_list")

COPIED_VALUES = 1 << 22
"""Values copied at a time."""

Indices = npt.NDArray[np.int64]


def user_features(features: Sequence[CategoricalColumn]) -> list[CategoricalColumn]:
    """The features that come from the common features."""
    return [feature for feature in features if feature.column in USER_FIELDS]


class CommonFeatures:
    """The common features of one file, built by :func:`build`.

    Args:
        stem: as for :func:`build`.
    """

    def __init__(self, stem: Path, features: Sequence[CategoricalColumn]) -> None:
        self._features = user_features(features)
        self._table = pa.ipc.open_file(pa.memory_map(str(_table_path(stem)))).get_batch(0)
        self._hashes = self._table["hash"].to_numpy()
        self._values = {
            feature.column: pa.array(np.load(_values_path(stem, feature.column), mmap_mode="r"))
            for feature in self._features
            if feature.multi_hot
        }

    def find(self, indices: pa.StringArray) -> tuple[Indices, npt.NDArray[np.bool_]]:
        """Rows (B,) of common feature indices (B,), and whether each exists (B,); undefined where it does not."""
        rows = np.searchsorted(self._hashes, hash_strings(indices))
        rows = np.minimum(rows, len(self._hashes) - 1)
        return rows, np.asarray(pc.equal(self._table["index"].take(pa.array(rows)), indices))

    def take(self, rows: Indices) -> dict[str, pa.Array]:
        """The columns of rows (B,): int64 with nulls; for a multi-hot feature lists of int32, or int64 for large
        values."""
        columns: dict[str, pa.Array] = {}
        for feature in self._features:
            column = feature.column
            if not feature.multi_hot:
                columns[column] = self._table[column].take(pa.array(rows))
                continue
            starts, lengths = (self._table[name(column)].take(pa.array(rows)) for name in (_start, _length))
            views = pa.LargeListViewArray.from_arrays(starts, lengths, self._values[column])
            columns[column] = lists_of(views.flatten(), lengths.to_numpy())
        return columns


def build(path: Path, stem: Path, features: Sequence[CategoricalColumn]) -> Iterator[int]:
    """Converts a file of common features to files whose names begin with ``stem``; yields the number of lines so far,
    block by block. Memory grows with the lines, not with their lists.

    Raises:
        ValueError: a line is bad, an index occurs twice, or the file cannot be read.
    """
    check_is_text(path)
    builder = _Builder(path, stem, user_features(features))
    try:
        for block in read_blocks(path, 0, None):
            builder.add(block)
            yield builder.lines
    except BrokenFile as broken:
        raise ValueError(f"{path}, after line {builder.lines}: {broken}") from None
    finally:
        builder.close()
    builder.finish()


def built_files(stem: Path, features: Sequence[CategoricalColumn]) -> dict[Path, str]:
    """The files that :func:`build` wrote, with their checksums."""
    columns = [feature.column for feature in user_features(features) if feature.multi_hot]
    return {path: sha256(path) for path in (_table_path(stem), *(_values_path(stem, column) for column in columns))}


class _Builder:
    def __init__(self, path: Path, stem: Path, features: Sequence[CategoricalColumn]) -> None:
        self.lines = 0
        self._path = path
        self._stem = stem
        self._features = features
        self._lists = FeatureLists(features, USER_FIELDS)
        self._tables: list[pa.Table] = []
        self._multi_hot = [feature.column for feature in features if feature.multi_hot]
        self._raw = {column: _raw_path(stem, column).open("wb") for column in self._multi_hot}
        self._written = dict.fromkeys(self._multi_hot, 0)
        self._span = dict.fromkeys(self._multi_hot, (0, 0))

    def add(self, block: Block) -> None:
        if block.is_too_long:
            raise ValueError(f"{self._path}, line {self.lines + 1}: a line of more than {LINE_BYTES >> 20} MiB")
        if not block.lines:
            return
        text = bytes(block.text)
        parsed = self._parse(text, block.lines)
        if parsed is None:
            raise ValueError(self._explain(text))
        indices, columns = parsed
        entries: dict[str, pa.Array] = {"hash": pa.array(hash_strings(indices)), "index": indices}
        for feature in self._features:
            column = feature.column
            if not feature.multi_hot:
                entries[column] = columns[column]
                continue
            values = numbers(columns[column].values, np.int64)
            offsets = columns[column].offsets.to_numpy()
            entries[_start(column)] = pa.array(offsets[:-1].astype(np.int64) + self._written[column])
            entries[_length(column)] = pa.array(np.diff(offsets).astype(np.int64))
            if len(values):
                values.tofile(self._raw[column])
                low, high = self._span[column]
                self._span[column] = (min(low, int(values.min())), max(high, int(values.max())))
            self._written[column] += len(values)
        self._tables.append(pa.table(entries))
        self.lines += block.lines

    def close(self) -> None:
        for file in self._raw.values():
            file.close()

    def finish(self) -> None:
        if not self._tables:
            raise ValueError(f"{self._path}: is empty")
        table = pa.concat_tables(self._tables)
        self._tables = []
        hashes = table["hash"].to_numpy()
        order = np.argsort(hashes, kind="stable")
        twice = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        if len(twice):
            line = int(order[twice + 1].min())
            self._refuse_twice(table["index"], hashes, line)
        table = table.take(pa.array(order)).combine_chunks()
        target = _table_path(self._stem)
        with (
            write_whole(target) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            for batch in table.to_batches():
                writer.write_batch(batch)
        for column in self._multi_hot:
            self._write_values(column)

    def _write_values(self, column: str) -> None:
        """Copies the values to a file that can be memory-mapped, as 32-bit integers where they fit."""
        raw, target = _raw_path(self._stem, column), _values_path(self._stem, column)
        low, high = self._span[column]
        kind = np.int32 if low >= -(2**31) and high < 2**31 else np.int64
        size = self._written[column]
        with write_whole(target) as temporary:
            copy = np.lib.format.open_memmap(temporary, mode="w+", dtype=kind, shape=(size,))
            for start in range(0, size, COPIED_VALUES):
                count = min(COPIED_VALUES, size - start)
                copy[start : start + count] = np.fromfile(raw, np.int64, count, offset=8 * start)
            copy.flush()
            del copy
        raw.unlink()

    def _parse(self, text: bytes, lines: int) -> tuple[pa.StringArray, dict[str, pa.Array]] | None:
        table = read_fields(text, NAMES)
        if table is None or len(table) != lines:
            return None
        columns = self._lists.parse(one_chunk(table["feature_list"]), one_chunk(table["feature_num"]))
        return None if columns is None else (one_chunk(table["common_feature_index"]), columns)

    def _explain(self, text: bytes) -> str:
        """The message for the first bad line of a block."""
        for number, content in enumerate(text.split(b"\n")[:-1], self.lines + 1):
            fields, fault = split_fields(content, NAMES)
            if fault is None:
                fault = self._lists.fault(fields[2], fields[1])
            if fault is not None:
                column, value, reason = fault
                place = f", column {column!r}: {quote(value)}" if column else f": {value}"
                return f"{self._path}, line {number}{place}, {reason}"
        return f"{self._path}, lines {self.lines + 1} and on: cannot be parsed, though each line can"

    def _refuse_twice(self, indices: pa.ChunkedArray, hashes: npt.NDArray[np.uint64], line: int) -> None:
        first = int(np.flatnonzero(hashes == hashes[line])[0])
        index, other = indices[line].as_py(), indices[first].as_py()
        reason = "is there twice" if index == other else f"has the same 64-bit hash as {quote(other)}"
        place = f"{self._path}, line {line + 1}, column 'common_feature_index'"
        raise ValueError(f"{place}: {quote(index)}, {reason}, first in line {first + 1}")


def read_fields(text: bytes, names: Sequence[str]) -> pa.Table | None:
    """The fields of lines, by name, as strings; None where any line is bad."""
    if b"\0" in text:
        return None
    try:
        return pa.csv.read_csv(
            pa.BufferReader(text),
            pa.csv.ReadOptions(column_names=list(names), use_threads=False, block_size=1 << 30),
            pa.csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid:
        return None


def split_fields(line: bytes, names: Sequence[str]) -> tuple[list[str], tuple[str, str, str] | None]:
    """The fields of one line, and column, value and reason of a fault of the whole line."""
    if b"\r" in line.rstrip(b"\r") or b"\0" in line:
        return [], ("", "", "a carriage return or NUL inside the line")
    fields = line.rstrip(b"\r").split(b",")
    if len(fields) != len(names):
        return [], ("", f"{len(fields)} fields", f"expected {len(names)} fields")
    texts = []
    for name, field in zip(names, fields, strict=True):
        try:
            texts.append(field.decode())
        except UnicodeDecodeError:
            return [], (name, field.decode(errors="backslashreplace"), f"expected {EXPECTED['string']}")
    return texts, None


def _table_path(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.arrow")


def _values_path(stem: Path, column: str) -> Path:
    return stem.with_name(f"{stem.name}-{column}.npy")


def _raw_path(stem: Path, column: str) -> Path:
    return stem.with_name(f"{stem.name}-{column}.raw")


def _start(column: str) -> str:
    return f"{column} start"


def _length(column: str) -> str:
    return f"{column} length"
