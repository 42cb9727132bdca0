"""Which columns of encoded parquet files are features, labels, cluster and segments."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from data_prep.sources.raw_files import find_files
from dlrm_mtl.data.footers import is_list
from dlrm_mtl.location import Location, name_below
from dlrm_mtl.model_schema import MAX_CARDINALITY, CategoricalFeature, Task
from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.schema import SPLITS, Schema, Shard
from dlrm_mtl.segments import MAX_VALUES, Segment, cluster_column, segment_column
from dlrm_mtl.storage.parquet import UNREADABLE, first_line, open_parquet


@dataclass(frozen=True)
class Roles:
    """The roles of columns, as the user gives them."""

    tasks: tuple[Task, ...]
    ignored: tuple[str, ...] = ()
    """Columns that are neither features nor labels."""
    tables: Mapping[str, str] | None = None
    """Embedding tables of features that share one."""
    cardinalities: Mapping[str, int] | None = None
    """Rows of embedding tables, by name; the largest id + 1 where there is none."""


def _read_footer(path: Location) -> tuple[int, pa.Schema]:
    try:
        with open_parquet(path) as file:
            return file.metadata.num_rows, file.schema_arrow
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as parquet ({first_line(error)})") from None


def provisional_schema(directory: Path, name: str, roles: Roles) -> Schema:
    """The schema of the parquet files in the directories ``train`` and ``eval``, as far as their footers tell. Ids and
    codes have the largest bounds that a schema allows, and every base rate is 0.5.

    Raises:
        ValueError: a file is no parquet file or has other columns than the first one; a column has a type that no data
            set may have; ``roles`` names an unknown column.
    """
    files = {split: find_files([directory / split])[0] for split in SPLITS}
    footers = {path: _read_footer(path) for split in SPLITS for path in files[split]}
    first = files["train"][0]
    columns = footers[first][1]
    context = [column for column in footers[files["eval"][0]][1].names if column.startswith(("cluster:", "segment:"))]
    clusters = [column for column in context if column.startswith(cluster_column(""))]
    if len(clusters) > 1:
        raise ValueError(f"{files['eval'][0]}: columns {', '.join(map(quote, clusters))}, expected one cluster at most")
    for path, (_, schema) in footers.items():
        for column in sorted({*schema.names} ^ {*columns.names}):
            if column not in (*roles.ignored, *context):
                there, lacking = (path, first) if column in schema.names else (first, path)
                raise ValueError(f"{lacking}: column {quote(column)} is missing, which {there} has")
    labels = {column for task in roles.tasks for column in (task.label, task.given, task.weight)}
    for column in roles.ignored:
        if column not in columns.names:
            raise ValueError(f"ignore {quote(column)}: no such column; {first} has {shorten(', '.join(columns.names))}")
    features = [column for column in columns if column.name not in (*labels, *roles.ignored, *context)]
    tables = roles.tables or {}
    categorical = [
        CategoricalFeature(column.name, MAX_CARDINALITY, is_list(column.type), table=tables.get(column.name, ""))
        for column in features
        if _holds_ids(column.type)
    ]
    dense = [column.name for column in features if pa.types.is_floating(column.type)]
    for column in features:
        if column.name not in (*dense, *(feature.name for feature in categorical)):
            raise ValueError(
                f"{first}: column {quote(column.name)} has type {shorten(str(column.type))}, expected ids (integers or"
                " lists of them) or a dense value (a floating-point number); name it in --ignore, or encode it by"
                " data_prep.parquet"
            )
    for column in tables:
        names = [feature.name for feature in categorical]
        if column not in names:
            raise ValueError(f"tables {quote(column)}: no such categorical feature, expected one of {', '.join(names)}")
    return Schema(
        name=name,
        categorical=tuple(categorical),
        dense=tuple(dense),
        tasks=tuple(replace(task, base_rate=0.5 if task.kind == "binary" else None) for task in roles.tasks),
        splits={
            split: tuple(Shard(name_below(directory, path), footers[path][0]) for path in files[split])
            for split in SPLITS
        },
        cluster=clusters[0].removeprefix(cluster_column("")) if clusters else "",
        segments=tuple(
            Segment(column.removeprefix(segment_column("")), tuple(map(str, range(MAX_VALUES))))
            for column in context
            if column not in clusters
        ),
    )


def _holds_ids(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind.value_type if is_list(kind) else kind))
