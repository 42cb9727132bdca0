"""Writes the data set that joins some periods."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.encoding.files import FILE
from data_prep.ids.vocabulary import UNSEEN_ID
from data_prep.joined.days import Day
from data_prep.output.label_counts import LabelCounts
from data_prep.output.shards import ShardWriter, label_types
from dlrm_mtl.data.new_ids import read_new_ids
from dlrm_mtl.files import publish
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.schema import STREAM, Schema, Shard, write_schema

Ids = npt.NDArray[np.int64]


def write_joined(train: Sequence[Day], evaluated: Day, out: Path) -> Schema:
    """Writes the data set, under a temporary name until it is complete.

    Args:
        train: each continued by the next.
        evaluated: continues the last of them.

    Raises:
        ValueError: a shard cannot be read, or the labels of a task are all equal.
    """
    out = out.absolute()
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        last = train[-1]
        splits = {"train": tuple(_link_shards(train, partial)), "eval": tuple(_write_evaluated(evaluated, partial))}
        schema = Schema(
            name=last.schema.name,
            categorical=tuple(_mean_length(feature, train) for feature in last.schema.categorical),
            dense=last.schema.dense,
            tasks=tuple(_learnt(task, train) for task in _common_tasks([*train, evaluated])),
            splits=splits,
            source={
                "generator": "data_prep.join",
                "train": [str(day.directory) for day in train],
                "eval": str(evaluated.directory),
            },
            fingerprints=last.schema.fingerprints,
            cluster=evaluated.schema.cluster,
            segments=evaluated.schema.segments,
        )
        for name in (FILE, "vocabulary"):
            source = last.directory / name
            if source.is_dir():
                shutil.copytree(source, partial / name)
            elif source.is_file():
                shutil.copyfile(source, partial / name)
        write_schema(schema, partial)
        publish(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return schema


def _link_shards(days: Sequence[Day], out: Path) -> list[Shard]:
    shards = []
    (out / "train").mkdir(parents=True)
    for number, day in enumerate(days):
        for shard in day.schema.splits[STREAM]:
            file = f"train/{number:04d}-{Path(shard.file).name}"
            try:
                os.link(day.directory / shard.file, out / file)
            except OSError:  # another file system, or one without hard links
                shutil.copyfile(day.directory / shard.file, out / file)
            shards.append(replace(shard, file=file))
    return shards


def _write_evaluated(day: Day, out: Path) -> list[Shard]:
    """Writes the rows of the period with the ids that the period before it had."""
    new_ids = read_new_ids(day.directory, day.schema)
    features = {feature.name: new_ids.get(feature.table_name) for feature in day.schema.categorical}
    shards = []
    (out / "eval").mkdir(parents=True)
    for shard in day.schema.splits[STREAM]:
        file = f"eval/{Path(shard.file).name}"
        with pq.ParquetFile(day.directory / shard.file) as source:
            writer = ShardWriter(out / file, source.schema_arrow)
            try:
                for group in range(source.metadata.num_row_groups):
                    writer.write(_without_new_ids(source.read_row_group(group), features))
                written = writer.close()
            except BaseException:
                writer.abandon()
                raise
        shards.append(Shard(file, written["rows"], written["sha256"]))
    return shards


def _without_new_ids(table: pa.Table, features: Mapping[str, Ids | None]) -> pa.Table:
    """The rows with ``UNSEEN_ID`` in place of new ids, by feature."""
    for name, new_ids in features.items():
        if new_ids is not None:
            column = table[name].combine_chunks()
            is_list = pa.types.is_list(column.type)
            ids = column.values if is_list else column
            ids = pc.if_else(pc.is_in(ids, pa.array(new_ids, ids.type)), pa.scalar(UNSEEN_ID, ids.type), ids)
            column = pa.ListArray.from_arrays(column.offsets, ids) if is_list else ids
            kind = table.schema.field(name)
            table = table.set_column(table.column_names.index(name), kind, column.cast(kind.type))
    return table


def _common_tasks(days: Sequence[Day]) -> list[Task]:
    """The tasks that all periods have, by the last one."""
    meanings = [{_meaning(task) for task in day.schema.tasks} for day in days]
    return [task for task in days[-1].schema.tasks if all(_meaning(task) in of_day for of_day in meanings)]


def _meaning(task: Task) -> tuple[str, ...]:
    return task.name, task.kind, task.label, task.given, task.weight


def _mean_length(feature: CategoricalFeature, days: Sequence[Day]) -> CategoricalFeature:
    rows = [day.schema.rows(STREAM) for day in days]
    lengths = [next(f for f in day.schema.categorical if f.name == feature.name).mean_length for day in days]
    return replace(feature, mean_length=round(float(np.average(lengths, weights=rows)), 6))


def _learnt(task: Task, days: Sequence[Day]) -> Task:
    """The task with the base rate, or mean and deviation, of the rows of all periods."""
    counts = LabelCounts(task)
    for day in days:
        for shard in day.schema.splits[STREAM]:
            counts.add(pq.read_table(day.directory / shard.file, columns=list(label_types([task]))))
    return counts.learnt()
