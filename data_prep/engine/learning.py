"""The encoding of a preparation: learnt from its rows, or that of another data set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.encoding.encoding import EncodedCategorical, EncodedDense, Encoding, TextFields
from data_prep.encoding.files import find_vocabulary, read_vocabulary
from data_prep.encoding.reuse import ReusedEncoding
from data_prep.engine.continuing import continued_encoding, extend_table
from data_prep.engine.preparation import Preparation
from data_prep.ids.assignment import write_counted
from data_prep.ids.counting import Span, merge_runs
from data_prep.ids.fingerprints import of_dense, of_hash, of_mark, of_modulo, of_vocabulary
from data_prep.ids.scaling import Moments
from dlrm_mtl.files import sha256, write_whole
from dlrm_mtl.meaning import Fingerprints, TableFingerprint
from dlrm_mtl.storage.transfer import fetch


def learnt_encoding(preparation: Preparation, counted: Iterable[Mapping[str, Any]]) -> Encoding:
    """The encoding of a log.

    Args:
        counted: records of the stage ``count``; none where the preparation needs no counts.
    """
    if preparation.previous is not None:
        return continued_encoding(preparation, preparation.previous, _text_fields(preparation))
    layout, ids = preparation.layout, preparation.ids
    dense = tuple(EncodedDense(**asdict(column)) for column in layout.dense)
    moments = {column.feature: Moments() for column in dense if column.standardise}
    for record in counted:
        for name, of_feature in moments.items():
            of_feature.merge(Moments.from_record(record["moments"][name]))
    scalers = {name: of_feature.scaler() for name, of_feature in moments.items()}
    fingerprints = {
        column.feature: of_dense(column, *(scalers[column.feature].scale if column.standardise else ()))
        for column in dense
    }
    marks = {column.mark: of_mark() for column in dense if column.mark_missing}
    return Encoding(
        rows="log",
        categorical=tuple(
            EncodedCategorical(**asdict(feature), ids_per_row=ids.multi_hot.get(feature.feature, 0))
            for feature in layout.categorical
        ),
        dense=dense,
        fingerprints=Fingerprints(_table_fingerprints(preparation), fingerprints | marks),
        text=_text_fields(preparation),
    )


def merge_table(preparation: Preparation, number: int) -> Iterator[dict[str, Any]]:
    """Merges the counts of one embedding table into its vocabulary; yields its record."""
    directory, key = preparation.directory, f"{number:03d}"
    if record := directory.finished("merge", key):
        yield record
        return
    name, features = list(preparation.layout.tables.items())[number]
    runs = _Runs(sorted(directory.file("runs", "x").parent.glob("*.arrow")), number, name)
    if preparation.split.is_stream:
        record, files = extend_table(preparation, runs, name, features[0].kind)
    else:
        cap, keys_file = preparation.ids.cap(preparation.layout, name), preparation.keys_file(name)
        readable = write_counted(runs, features[0], preparation.ids.least_count, cap, keys_file)
        record, files = {}, [keys_file, readable]
    fingerprint = of_vocabulary(pq.read_table(files[-1], columns=["value"])["value"])
    record |= {"table": name, "fingerprint": asdict(fingerprint)}
    directory.finish("merge", key, record, {path: sha256(path) for path in files})
    yield record


@dataclass(frozen=True)
class _Runs:
    """Counts of one table in all runs, as often as they are iterated."""

    paths: Sequence[Path]
    number: int
    name: str

    def __iter__(self) -> Iterator[Span]:
        return merge_runs(self.paths, self.number, self.name)


def reused_encoding(preparation: Preparation, reused: ReusedEncoding) -> Encoding:
    """The encoding of another data set, for this log."""
    return replace(reused.encoding, text=_text_fields(preparation))


def copy_vocabulary(preparation: Preparation, number: int) -> Iterator[dict[str, Any]]:
    """Copies one vocabulary of another data set, also in the form that workers share; yields its record.

    Raises:
        ValueError: it is missing or has changed.
    """
    directory, key = preparation.directory, f"{number:03d}"
    if record := directory.finished("vocabulary", key):
        yield record
        return
    reused = preparation.reused
    assert reused is not None
    name = reused.encoding.tables_with_vocabulary[number]
    keys_file = preparation.keys_file(name)
    readable = keys_file.with_suffix(".parquet")
    with write_whole(readable) as temporary:
        fetch(find_vocabulary(reused.encoding, reused.directory, name), temporary)
    files = read_vocabulary(reused.encoding, reused.directory, name).write(keys_file)
    record = {"table": name}
    directory.finish("vocabulary", key, record, {path: sha256(path) for path in (*files, readable)})
    yield record


def _text_fields(preparation: Preparation) -> TextFields | None:
    layout = preparation.layout
    return TextFields(layout.trim, layout.missing) if preparation.source.has_texts else None


def _table_fingerprints(preparation: Preparation) -> dict[str, TableFingerprint]:
    layout, ids = preparation.layout, preparation.ids
    tables = {}
    for table, features in layout.tables.items():
        kind, size = features[0].kind, ids.cap(layout, table)
        if ids.ids == "vocabulary":
            tables[table] = TableFingerprint(**preparation.merged(table)["fingerprint"])
        else:
            tables[table] = of_hash(kind, size) if ids.ids == "hash" else of_modulo(kind, size)
    return tables
