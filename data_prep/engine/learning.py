"""The encoding that a preparation learns from the training rows."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from data_prep.encoding.encoding import EncodedCategorical, EncodedDense, Encoding, TextFields
from data_prep.engine.preparation import Preparation
from data_prep.ids.fingerprints import of_dense, of_hash, of_mark, of_modulo
from data_prep.ids.scaling import Moments
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
        text=TextFields(layout.trim, layout.missing) if preparation.source.has_texts else None,
    )


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
