"""A small data set with regression tasks and row weights."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import Schema, Shard, write_schema
from tests.datasets import CATEGORICAL, DENSE, make_table

TASKS = (
    Task("click", "click", weight="importance"),
    Task("play", "play", kind="regression", weight="importance", huber=1.5, unit="seconds"),
    Task("buy", "buy", given="click"),
    Task("spend", "spend", given="click", kind="regression", weight="value", unit="euros"),
)
"""Without base rates, means and deviations, see :func:`regression_schema`."""


def regression_table(rows: int, seed: int) -> pa.Table:
    """Rows of :func:`tests.datasets.make_table` with two learnable numbers and two weights, some of them 0."""
    table = make_table(rows, seed)
    draw = np.random.default_rng([seed, 1])
    age, price = (np.asarray(table[name]) for name in DENSE)
    play = 30 + 8 * age + 5 * np.sin(np.asarray(table["user"])) + 2 * draw.standard_t(3, rows)
    numbers = {
        "play": play,
        "spend": np.exp(1 + 0.5 * price + 0.2 * draw.normal(size=rows)),
        "importance": draw.choice([0.0, 0.5, 1.0, 3.0], rows),
        "value": draw.gamma(2.0, size=rows),
    }
    for name, values in numbers.items():
        table = table.append_column(name, pa.array(values.astype(np.float32)))
    return table


def with_statistics(task: Task, table: pa.Table) -> Task:
    """The task with base rate, or mean and deviation, of the rows where it is defined, by weight."""
    weights = np.ones(len(table))
    for column in filter(None, (task.given, task.weight)):
        weights *= np.asarray(table[column], np.float64)
    label = np.asarray(table[task.label], np.float64)
    mean = float(np.average(label, weights=weights))
    if task.kind == "binary":
        defined = np.asarray(table[task.given]) > 0 if task.given else slice(None)
        return replace(task, base_rate=float(label[defined].mean()))
    return replace(task, mean=mean, deviation=float(np.average((label - mean) ** 2, weights=weights) ** 0.5))


def regression_schema(train: pa.Table, splits: Mapping[str, tuple[Shard, ...]]) -> Schema:
    """The schema, with the statistics of the training rows."""
    return Schema("numbers", CATEGORICAL, DENSE, tuple(with_statistics(task, train) for task in TASKS), splits)


def make_regression_dataset(directory: Path, rows: int = 600, eval_rows: int = 200) -> Path:
    """Writes the data set and returns its directory: two binary tasks and two regression tasks, of each kind one that
    is given ``click``; all but ``buy`` have row weights."""
    tables = {"train": regression_table(rows, seed=1), "eval": regression_table(eval_rows, seed=2)}
    splits = {split: (Shard(f"{split}/part-00000.parquet", len(table)),) for split, table in tables.items()}
    for split, table in tables.items():
        (directory / split).mkdir(parents=True)
        pq.write_table(table, directory / splits[split][0].file, row_group_size=64)
    write_schema(regression_schema(tables["train"], splits), directory)
    return directory
