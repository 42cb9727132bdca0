"""A small log with numbers to predict and row weights, and its layout."""

import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.columns.labels import LabelColumn, RegressionLabel, WeightColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout
from dlrm_mtl.model_schema import Task

COLUMNS = ("click", "watch_ms", "price", "survey", "user", "age")

LAYOUT = Layout(
    name="small",
    columns=COLUMNS,
    labels=(LabelColumn("click"),),
    regression_labels=(
        RegressionLabel("watch", "watch_ms", transform="log", divisor=1000.0, highest=60_000.0),
        RegressionLabel("paid", "price", missing_is_zero=True),
    ),
    weights=(WeightColumn("survey", "weight", divisor=4.0), WeightColumn("age", "unused")),
    tasks=(
        Task("click", "click", weight="weight"),
        Task("watch", "watch", kind="regression", weight="weight", huber=1.5, unit="ln(1 + seconds)"),
        Task("paid", "paid", "click", kind="regression"),
    ),
    dense=(DenseColumn("age", mark_missing=False),),
    categorical=(CategoricalColumn("user", "integer"),),
)


@dataclass(frozen=True)
class LogRow:
    """A row; None where a value is missing."""

    click: int
    watch_ms: float
    price: float | None
    survey: float
    user: int
    age: float | None

    @property
    def line(self) -> str:
        return ",".join("" if value is None else str(value) for value in vars(self).values())


def rows(number: int, seed: int = 0) -> list[LogRow]:
    draw = random.Random(seed)
    return [
        LogRow(
            click := int(draw.random() < 0.4),
            round(draw.uniform(-1000.0, 90_000.0), 1),
            round(draw.uniform(1.0, 30.0), 2) if click else None,
            round(draw.uniform(0.0, 10.0), 2),
            draw.randrange(9),
            draw.choice([None, 20.0, 40.0]),
        )
        for _ in range(number)
    ]


def write(path: Path, log: list[LogRow]) -> Path:
    """Writes a log, as text or parquet by the suffix of its name."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: [getattr(row, name) for row in log] for name in COLUMNS}), path)
    else:
        path.write_text("".join(f"{row.line}\n" for row in log))
    return path
