"""Data sets prepared from files in Ali-CCP's format."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.ali_ccp import prepare_ali_ccp
from data_prep.columns.layout import Layout, read_layout
from data_prep.engine.options import IdOptions, StreamOptions, WorkOptions
from data_prep.engine.split import SplitOptions
from dlrm_mtl.schema import Schema, read_schema


def run(raw: Path, out: Path, layout: Layout | None = None, stream: StreamOptions | None = None, **work: Any) -> Schema:
    layout = layout or read_layout("ali_ccp")
    return prepare_ali_ccp(layout, raw, out, IdOptions(), SplitOptions(), WorkOptions(**work), stream)


def decoded(out: Path, split: str) -> list[dict[str, Any]]:
    """The rows of a split with values in place of ids: None where missing, "unseen" for unseen ones."""
    schema, layout = read_schema(out), read_layout("ali_ccp")
    tables = [pq.read_table(out / shard.file).to_pydict() for shard in schema.splits[split]]
    columns: dict[str, list[Any]] = {name: [v for table in tables for v in table[name]] for name in tables[0]}
    rows: dict[str, list[Any]] = {"click": columns["click"], "buy": columns["conversion"]}
    for feature in layout.categorical:
        vocabulary = pq.read_table(out / "vocabulary" / f"{feature.feature}.parquet")["value"].to_pylist()
        values = [None, "unseen", *(int(value) for value in vocabulary)]
        ids = columns[feature.feature]
        rows[feature.column] = [[values[i] for i in row] if feature.multi_hot else values[row] for row in ids]
    return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
