"""Writes the delta of two exports: rows of tables, values of vocabularies, and everything else of the model."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.encoding.files import FILE as ENCODING_FILE
from data_prep.encoding.files import read_encoding
from data_prep.encoding.values import changed_values, load_values
from dlrm_mtl.quoting import quote
from dlrm_mtl.serving.deltas.archive import Archive, write_records
from dlrm_mtl.serving.deltas.manifest import DELTA, RECORDS, ROWS, Base, Changes, Delta, row_files, write_delta_manifest
from dlrm_mtl.serving.deltas.rows import stored_rows, write_changed_rows
from dlrm_mtl.serving.directories import check_place, list_files, new_directory
from dlrm_mtl.serving.manifest import COMPILED, ENCODING, MODEL, Manifest, read_manifest


def write_delta(before: Path, after: Path, out: Path) -> Delta:
    """Writes what turns one export into another. Reads both through the page cache; in memory are blocks of rows, one
    vocabulary, and one other tensor at a time.

    Raises:
        ValueError: an export is missing or damaged; ``out`` exists; or see :func:`find_obstacle`.
    """
    check_place(out, (DELTA, RECORDS, ROWS, ENCODING))
    base, export = read_manifest(before), read_manifest(after)
    if obstacle := find_obstacle(base, export):
        raise ValueError(f"{after}: cannot be a delta of {before}: {obstacle}")
    with new_directory(out) as directory:
        tables = _write_rows(before, after, base, export, directory)
        vocabularies = _write_vocabularies(before, after, directory) if export.has_encoding else {}
        delta = Delta(Base(base.sha256, base.source, base.bytes), tables, vocabularies, list_files(directory), export)
        write_delta_manifest(delta, directory)
    return delta


def find_obstacle(before: Manifest, after: Manifest) -> str | None:
    """Why an export cannot be published as a delta; None: it can be."""
    if COMPILED in after.files:
        return f"{COMPILED} holds the weights in a form of its own"
    if not (before.stored and after.stored):
        return "an earlier version wrote an export, which does not say where rows are"
    then, now = _fixed(before), _fixed(after)
    if changed := next((name for name in then if then[name] != now[name]), None):
        return f"{changed} changed"
    for name, table in before.stored.items():
        if after.stored[name].rows < table.rows:
            return f"table {quote(name)} has {after.stored[name].rows} rows, fewer than {table.rows}"
    return None


def _fixed(export: Manifest) -> dict[str, Any]:
    """What a delta does not change, by the names of the manifest's fields."""
    return {
        **{
            name: getattr(export, name)
            for name in ("precision", "features", "dense", "tasks", "relation", "inputs", "output", "outputs")
        },
        "tables": {name: (table.dim, table.copies) for name, table in export.tables.items()},
        "fingerprints": {name: table.method for name, table in export.fingerprints.tables.items()},
        "stored": {name: (table.tensor, table.row_bytes) for name, table in export.stored.items()},
        "encoding": export.has_encoding,
    }


def _write_rows(before: Path, after: Path, base: Manifest, export: Manifest, directory: Path) -> Mapping[str, Changes]:
    """Writes the changed rows of all tables, and all other records."""
    old, new = Archive(before / MODEL), Archive(after / MODEL)
    (directory / ROWS).mkdir()
    changes = {
        table: write_changed_rows(
            stored_rows(old, base.stored[table]), stored_rows(new, export.stored[table]), directory / file
        )
        for table, file in row_files(export).items()
    }
    write_records(new, {new.record_of(table.tensor) for table in export.stored.values()}, directory / RECORDS)
    return changes


def _write_vocabularies(before: Path, after: Path, directory: Path) -> Mapping[str, Changes]:
    """Writes the changed values of all vocabularies, and ``encoding.json``."""
    changes = {}
    for table, vocabulary in read_encoding(after / ENCODING).vocabularies.items():
        values = load_values(after / ENCODING / vocabulary.file)
        old = load_values(before / ENCODING / vocabulary.file)
        changed = changed_values(old, values)
        appended = len(values) - len(old)
        path = directory / ENCODING / vocabulary.file
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(changed, path, compression="zstd")
        changes[table] = Changes(len(changed) - appended, appended, len(values))
    (directory / ENCODING).mkdir(exist_ok=True)
    shutil.copyfile(after / ENCODING / ENCODING_FILE, directory / ENCODING / ENCODING_FILE)
    return changes
