"""Applies deltas to an export. Needs torch, pyarrow and NumPy."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from data_prep.encoding.files import read_encoding, write_encoding
from data_prep.encoding.values import load_values, with_changes, write_values
from dlrm_mtl.config import require
from dlrm_mtl.meaning import SHOWN_DIGITS
from dlrm_mtl.serving.deltas.archive import Archive, Bytes, write_model
from dlrm_mtl.serving.deltas.manifest import RECORDS, read_delta, row_files
from dlrm_mtl.serving.deltas.rows import replace_rows, rows_of, stored_rows
from dlrm_mtl.serving.directories import check_place, list_files, new_directory
from dlrm_mtl.serving.manifest import (
    COMPILED,
    ENCODING,
    MANIFEST,
    MODEL,
    Manifest,
    Source,
    read_manifest,
    write_manifest,
)


def apply_deltas(export: Path, deltas: Sequence[Path], out: Path) -> Manifest:
    """Writes the export that deltas, each of the publication before, make of an earlier export: the bytes of
    ``model.pt2`` and the values of the vocabularies are those of the full export of that day. The largest table is in
    memory once.

    Args:
        export: the export that the first delta applies to.
        deltas: in the order of their publications.
        out: directory of the new export.

    Raises:
        ValueError: the export or a delta is missing or damaged; a delta applies to another export than the one before
            it; ``out`` exists.
    """
    check_place(out, (MANIFEST, MODEL, COMPILED, ENCODING))
    require("deltas", "()", len(deltas) > 0, "at least one")
    base = before = read_manifest(export)
    chain = [read_delta(path) for path in deltas]
    for path, delta in zip(deltas, chain, strict=True):
        if delta.base.sha256 != before.sha256:
            raise ValueError(
                f"{path}: applies to {_describe(delta.base.source, delta.base.sha256)}, not to"
                f" {_describe(before.source, before.sha256)}; give the deltas of all publications since the export in"
                " their order"
            )
        before = delta.export
    with new_directory(out) as directory:
        _write_model(export, base, deltas, before, directory / MODEL)
        if before.has_encoding:
            _write_encoding(export / ENCODING, [path / ENCODING for path in deltas], directory / ENCODING)
        files = list_files(directory)
        if files[MODEL] != before.files[MODEL]:
            raise ValueError(
                f"{out}: {MODEL} has other bytes than that of the full export, which torch"
                f" {before.versions.get('torch')} wrote; this is {torch.__version__}"
            )
        manifest = replace(before, files=files)
        write_manifest(manifest, directory)
    return manifest


def _write_model(export: Path, base: Manifest, deltas: Sequence[Path], last: Manifest, path: Path) -> None:
    archive, records = Archive(export / MODEL), Archive(deltas[-1] / RECORDS)
    files = row_files(last)

    def build(tensor: str) -> Bytes:
        tables = {name: table for name, table in last.stored.items() if table.tensor == tensor}
        content = np.empty(max(table.start + table.rows * table.row_bytes for table in tables.values()), np.uint8)
        for name, table in tables.items():
            rows = rows_of(content, table)
            rows[: base.stored[name].rows] = stored_rows(archive, base.stored[name])
            for delta in deltas:
                replace_rows(rows, delta / files[name])
        return content

    tensors = {table.tensor for table in last.stored.values()}
    write_model(records, {records.record_of(tensor): partial(build, tensor) for tensor in tensors}, path)


def _write_encoding(export: Path, deltas: Sequence[Path], directory: Path) -> None:
    directory.mkdir()
    encoding = read_encoding(deltas[-1])
    files = {table: vocabulary.file for table, vocabulary in encoding.vocabularies.items()}
    for file in files.values():
        values = load_values(export / file)
        for delta in deltas:
            values = with_changes(values, pq.read_table(delta / file))
        write_values(values, directory / file)
    write_encoding(encoding, directory, files)


def _describe(source: Source, sha256: str) -> str:
    return f"step {source.step} of {source.checkpoint} (sha256 {sha256[:SHOWN_DIGITS]})"
