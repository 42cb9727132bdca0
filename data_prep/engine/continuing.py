"""The split stream of a preparation: vocabularies that go on, and what the data set says about the one before and keeps
for the next one."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.columns.days import find_unit
from data_prep.columns.layout import Kind
from data_prep.columns.periods import period_of
from data_prep.encoding.encoding import Encoding, TextFields
from data_prep.encoding.extending import Growth, Previous, chain_record, waiting_files
from data_prep.engine.preparation import Preparation
from data_prep.ids.assignment import of_values, write_vocabulary
from data_prep.ids.counting import Span
from data_prep.ids.extension import CountedValues, extend_vocabulary
from data_prep.output.continued import Continued
from data_prep.output.time_spans import join_spans
from dlrm_mtl.continuation import Continuation, Period
from dlrm_mtl.files import write_whole
from dlrm_mtl.meaning import Fingerprints, TableFingerprint
from dlrm_mtl.schema import STREAM


def extend_table(
    preparation: Preparation, spans: Iterable[Span], table: str, kind: Kind
) -> tuple[dict[str, Any], list[Path]]:
    """Writes the vocabulary of a table that goes on, the values that wait and the ids that begin anew.

    Args:
        spans: counts of the rows, iterated twice.

    Returns:
        Numbers of ids that had another value before and of values that wait; the files, with the vocabulary's values
        last.
    """
    previous, ids = preparation.previous, preparation.ids
    before = waiting = CountedValues.none(kind)
    if previous is not None:
        before, waiting = previous.vocabulary(table), previous.waiting(table)
    capacity = ids.cap(preparation.layout, table)
    extension = extend_vocabulary(before, waiting, spans, kind, ids.least_count, capacity, preparation.number, table)
    keys_file, reset_file = preparation.keys_file(table), preparation.reset_file(table)
    waiting_file, readable = preparation.waiting_file(table), keys_file.with_suffix(".parquet")
    write_vocabulary(extension.waiting.table(), waiting_file)
    write_vocabulary(extension.vocabulary.table(), readable)
    with write_whole(reset_file) as temporary, temporary.open("wb") as file:
        np.save(file, extension.reset, allow_pickle=False)
    written = of_values(extension.vocabulary.values, kind).write(keys_file)
    counts = {"reset": len(extension.reset), "waiting": len(extension.waiting)}
    return counts, [*written, waiting_file, reset_file, readable]


def continued_encoding(preparation: Preparation, previous: Previous, text: TextFields | None) -> Encoding:
    """The encoding of the data set before, with the vocabularies that have gone on."""
    encoding = previous.reused.encoding
    tables = dict(encoding.fingerprints.tables) | {
        table: TableFingerprint(**preparation.merged(table)["fingerprint"]) for table in encoding.tables_with_vocabulary
    }
    return replace(encoding, fingerprints=Fingerprints(tables, encoding.fingerprints.dense), text=text)


def describe_ids(
    preparation: Preparation, encoding: Encoding, unseen: Mapping[str, int], ids: Mapping[str, int], rows: int
) -> dict[str, Any]:
    """The entries of the schema's source on the chain; and by feature, the share of the ids that the data set before
    has not, which a model reads as unseen when it is evaluated on these rows.

    Args:
        unseen: ids of each feature that the data set before has not.
        ids: ids of each multi-hot feature.
        rows: of the data set.
    """
    layout, options, previous = preparation.layout, preparation.ids, preparation.previous
    tables = encoding.tables_with_vocabulary
    growth = Growth(options.least_count, {table: options.cap(layout, table) for table in tables})
    reset, waiting = ({table: preparation.merged(table)[kind] for table in tables} for kind in ("reset", "waiting"))
    totals = {
        f.feature: ids.get(f.feature, 0) if f.multi_hot else rows for f in layout.categorical if previous and tables
    }
    return {
        "chain": chain_record(previous, growth, encoding, reset, waiting),
        "unseen_before": {name: unseen.get(name, 0) / max(total, 1) for name, total in totals.items()},
    }


def find_period(preparation: Preparation, encoded: Iterable[Mapping[str, Any]]) -> Period | None:
    """The period of the rows; None: they have no times, or there is no split stream.

    Args:
        encoded: records of the stage ``encode``.

    Raises:
        ValueError: it is not later than that of the data set before.
    """
    times, previous = preparation.times, preparation.previous
    span = join_spans(record["times"] for record in encoded).get(STREAM)
    if times is None or span is None:
        return None
    period = preparation.period or period_of(*span, find_unit(*span) if times.are_numbers else "ns")
    if previous is not None and previous.period is not None and not previous.period.is_before(period):
        raise ValueError(
            f"time column {times.column!r}: rows of {period}, expected times from {previous.period.stop} on, where"
            f" {previous.reused.directory} ends"
        )
    return period


def write_continuation(preparation: Preparation, previous: Previous) -> Continuation:
    """Writes the ids that begin anew into the data set."""
    encoding = previous.reused.encoding
    reset = {table: np.load(preparation.reset_file(table)) for table in encoding.tables_with_vocabulary}
    return Continued(previous.reused.name, encoding.fingerprints.tables, reset).write(preparation.directory.data)


def copy_waiting(preparation: Preparation, encoding: Encoding) -> None:
    """Copies the values that wait for an id into the data set."""
    for table, file in waiting_files(encoding).items():
        path = preparation.directory.data / file
        path.parent.mkdir(exist_ok=True)
        with write_whole(path) as temporary:
            shutil.copyfile(preparation.waiting_file(table), temporary)
