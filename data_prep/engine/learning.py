"""The encoding of a preparation: learnt from the training rows, or that of another data set."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import pyarrow.parquet as pq

from data_prep.encoding.encoding import EncodedCategorical, EncodedDense, Encoding, TextFields
from data_prep.encoding.files import find_vocabulary, read_vocabulary
from data_prep.encoding.reuse import ReusedEncoding
from data_prep.engine.preparation import Preparation
from data_prep.ids.assignment import write_counted
from data_prep.ids.counting import merge_runs
from data_prep.ids.fingerprints import of_dense, of_hash, of_mark, of_modulo, of_vocabulary
from data_prep.ids.scaling import Moments
from dlrm_mtl.files import sha256, write_whole
from dlrm_mtl.meaning import Fingerprints, TableFingerprint


def learnt_encoding(preparation: Preparation, counted: Iterable[Mapping[str, Any]]) -> Encoding:
    """The encoding of a log.

    Args:
        counted: records of the stage ``count``; none where the preparation needs no counts.
    """
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
    runs = sorted(directory.file("runs", "x").parent.glob("*.arrow"))
    cap = preparation.ids.cap(preparation.layout, name)
    keys_file = preparation.keys_file(name)
    readable = write_counted(merge_runs(runs, number, name), features[0], preparation.ids.min_count, cap, keys_file)
    fingerprint = of_vocabulary(pq.read_table(readable, columns=["value"])["value"])
    record = {"table": name, "fingerprint": asdict(fingerprint)}
    directory.finish("merge", key, record, {path: sha256(path) for path in (keys_file, readable)})
    yield record


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
        shutil.copyfile(find_vocabulary(reused.encoding, reused.directory, name), temporary)
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
    for number, (table, features) in enumerate(layout.tables.items()):
        kind, size = features[0].kind, ids.cap(layout, table)
        if ids.ids == "vocabulary":
            merged = preparation.directory.record("merge", f"{number:03d}")
            assert merged is not None  # the stage is over
            tables[table] = TableFingerprint(**merged["fingerprint"])
        else:
            tables[table] = of_hash(kind, size) if ids.ids == "hash" else of_modulo(kind, size)
    return tables
