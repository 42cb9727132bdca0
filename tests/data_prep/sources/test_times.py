"""Splits by time, and the times in a schema where rows are split in another way."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.ali_ccp import prepare_ali_ccp
from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout, read_layout
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from data_prep.output.summary import report
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import Schema
from tests.messages import mentions, naming

ROWS = 400
BOUNDARY = 300
"""The row, in the order of time, from which rows evaluate."""
START = datetime(2024, 1, 1)
LAYOUT = Layout(
    "log",
    (CategoricalColumn("site"),),
    (LabelColumn("click"),),
    (Task("ctr", "click"),),
    dense=(DenseColumn("rank", mark_missing=False),),
)
OPTIONS = SplitOptions(time_column="at", eval_from="x")


def hours(rank: int) -> datetime:
    return START + timedelta(hours=int(rank))


FORMS: dict[str, tuple[Callable[[int], Any], str]] = {
    "seconds": (lambda rank: 1_704_067_200 + 3600 * rank, str(1_704_067_200 + 3600 * BOUNDARY)),
    "nanoseconds": (lambda rank: 1_704_067_200_000_000_000 + rank, str(1_704_067_200_000_000_000 + BOUNDARY)),
    "fractions": (lambda rank: 1_704_067_200 + rank / 4, str(1_704_067_200 + BOUNDARY / 4)),
    "negative": (lambda rank: rank - 1000, str(BOUNDARY - 1000)),
    "text": (lambda rank: hours(rank).isoformat(), hours(BOUNDARY).isoformat()),
    "text with blanks": (lambda rank: f"{hours(rank):%Y-%m-%d %H:%M}", f"{hours(BOUNDARY):%Y-%m-%d %H:%M}"),
    "zones": (
        lambda rank: (hours(rank) + timedelta(hours=rank % 3)).isoformat() + f"+0{rank % 3}:00",
        hours(BOUNDARY).replace(tzinfo=UTC).isoformat(),
    ),
    "days": (lambda rank: f"{START + timedelta(days=rank):%Y-%m-%d}", f"{START + timedelta(days=BOUNDARY):%Y-%m-%d}"),
    "days as numbers": (
        lambda rank: int(f"{START + timedelta(days=rank):%Y%m%d}"),
        f"{START + timedelta(days=BOUNDARY):%Y-%m-%d}",
    ),
    "timestamps": (hours, hours(BOUNDARY).isoformat()),
    "timestamps with a zone": (lambda rank: hours(rank).replace(tzinfo=UTC), f"{hours(BOUNDARY).isoformat()}Z"),
    "dates": (lambda rank: date(2024, 1, 1) + timedelta(days=rank), str(START.date() + timedelta(days=BOUNDARY))),
}


def log(path: Path, times: list[Any], order: Any = None) -> Path:
    """A log in which ``rank`` numbers the rows by time; ``order`` says how they stand in the file."""
    ranks = np.random.default_rng(1).permutation(ROWS) if order is None else order
    table = pa.table(
        {
            "site": [f"s{rank % 7}" for rank in ranks],
            "click": [int(rank % 2) for rank in ranks],
            "rank": [float(rank) for rank in ranks],
            "at": [times[rank] for rank in ranks],
        }
    )
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=50)
    else:
        rows = [",".join("" if value is None else str(value) for value in row.values()) for row in table.to_pylist()]
        path.write_text("\n".join([",".join(table.column_names), *rows, ""]))
    return path


def run(raw: Path, split: SplitOptions, layout: Layout = LAYOUT, on_bad_row: Any = "stop") -> Schema:
    work = WorkOptions(on_bad_row=on_bad_row)
    out = raw.parent / ("out" if on_bad_row == "stop" else on_bad_row)
    return prepare("log", "test", layout, [raw], out, IdOptions(), split, work)


def ranks(schema: Schema, directory: Path, split: str) -> list[int]:
    shards = [pq.read_table(directory / shard.file) for shard in schema.splits[split]]
    return sorted(int(rank) for shard in shards for rank in shard["rank"].to_pylist())


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("form", FORMS)
def test_rows_from_a_time_on_evaluate(tmp_path: Path, form: str, suffix: str) -> None:
    time, eval_from = FORMS[form]
    raw = log(tmp_path / f"log.{suffix}", [time(rank) for rank in range(ROWS)])
    schema = run(raw, replace(OPTIONS, eval_from=eval_from))
    assert ranks(schema, tmp_path / "out", "train") == list(range(BOUNDARY))
    assert ranks(schema, tmp_path / "out", "eval") == list(range(BOUNDARY, ROWS))
    assert schema.source["time"]["training_rows_later_than_first_evaluation_row"] == 0
    assert schema.source["time"]["column"] == "at"
    assert not mentions(report(schema), "rows 0:")


@pytest.mark.parametrize("kind", ["integer", "number", "string"])
def test_the_time_may_be_a_feature_too(tmp_path: Path, kind: Any) -> None:
    raw = log(tmp_path / "log.parquet", list(range(ROWS)))
    feature = CategoricalColumn("at", kind) if kind != "number" else CategoricalColumn("site", name="other")
    dense = (*LAYOUT.dense, *([DenseColumn("at")] if kind == "number" else []))
    layout = replace(LAYOUT, categorical=(*LAYOUT.categorical, feature), dense=dense, time_column="at")
    schema = run(raw, SplitOptions(eval_from="300"), layout)
    assert ranks(schema, tmp_path / "out", "eval") == list(range(BOUNDARY, ROWS))


def test_ranges_narrow_what_times_decide(tmp_path: Path) -> None:
    raw = log(tmp_path / "log.csv", list(range(ROWS)), np.arange(ROWS))
    schema = run(raw, replace(OPTIONS, eval_from="300", train_rows="100:", eval_rows=":350"))
    assert ranks(schema, tmp_path / "out", "train") == list(range(100, 300))
    assert ranks(schema, tmp_path / "out", "eval") == list(range(300, 350))
    assert schema.source["rows_outside"] == 150
    assert mentions(report(schema), "train", "rows 100:", "eval", "rows 0:350")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("form", ["seconds", "text", "zones", "fractions"])
def test_training_rows_from_the_future_are_counted(tmp_path: Path, form: str, suffix: str) -> None:
    order = np.random.default_rng(2).permutation(ROWS)
    raw = log(tmp_path / f"log.{suffix}", [FORMS[form][0](rank) for rank in range(ROWS)], order)
    schema = run(raw, SplitOptions(time_column="at"))
    train, evaluation = ranks(schema, tmp_path / "out", "train"), ranks(schema, tmp_path / "out", "eval")
    assert evaluation == sorted(order[-ROWS // 10 :])
    later = sum(rank > min(evaluation) for rank in train)
    assert schema.source["time"]["training_rows_later_than_first_evaluation_row"] == later > 0
    assert mentions(report(schema), later, 360, "later")


def test_a_log_in_order_has_none(tmp_path: Path) -> None:
    schema = run(log(tmp_path / "log.csv", list(range(ROWS)), np.arange(ROWS)), SplitOptions(time_column="at"))
    assert schema.source["time"]["training_rows_later_than_first_evaluation_row"] == 0
    assert schema.source["time"]["train"] == ["0", "359"]
    assert schema.source["time"]["eval"] == ["360", "399"]


def test_without_a_time_the_split_is_said_to_be_without(tmp_path: Path) -> None:
    schema = run(log(tmp_path / "log.csv", list(range(ROWS))), SplitOptions())
    assert schema.source["time"] is None
    assert mentions(report(schema), "files", "row numbers")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("eval_from", "bad"),
    [
        ("2024-01-09", None),
        ("2024-01-09", "soon"),
        ("2024-01-09", "17"),
        ("17", "2024-01-01"),
        ("17", "nan"),
        ("", "0x1F"),
    ],
)
def test_a_row_without_a_time_is_a_bad_row(tmp_path: Path, eval_from: str, bad: str | None, suffix: str) -> None:
    good = [str(rank) if eval_from == "17" else hours(rank).isoformat() for rank in range(ROWS)]
    times: list[str | None] = [bad if rank in (5, 250) else time for rank, time in enumerate(good)]
    raw = log(tmp_path / f"log.{suffix}", times, np.arange(ROWS))
    line = 7 if suffix == "csv" else 6
    with pytest.raises(ValueError, match=naming(f"log.{suffix}, line {line}, column 'at'", "time")):
        run(raw, replace(OPTIONS, eval_from=eval_from))
    schema = run(raw, replace(OPTIONS, eval_from=eval_from), on_bad_row="quarantine")
    assert schema.source["rows_quarantined"] == 2
    kept = [rank for split in ("train", "eval") for rank in ranks(schema, tmp_path / "quarantine", split)]
    assert sorted(kept) == [rank for rank in range(ROWS) if rank not in (5, 250)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SplitOptions(eval_from="2024-01-01"), "expected time_column, too"),
        (SplitOptions(time_column="at", eval_from="soon"), "'soon': expected a number, or a date or time"),
        (SplitOptions(time_column="when"), r"log.csv.*column 'when' is missing"),
        (SplitOptions(time_column="click"), "time column 'click' is read as binary"),
        (SplitOptions(time_column="rank", eval_from="2024-01-01"), "expected a number, as column 'rank' is number"),
        (SplitOptions(time_column="at", eval_from="2020-01-01"), "no train row.*2024-01-01 00:00:00 to 2024-01-17"),
        (SplitOptions(time_column="at", eval_from="2030-01-01"), "no eval row.*2024-01-01 00:00:00 to 2024-01-17"),
    ],
)
def test_what_cannot_be_split_is_refused(tmp_path: Path, options: SplitOptions, message: str) -> None:
    raw = log(tmp_path / "log.csv", [hours(rank).isoformat() for rank in range(ROWS)])
    with pytest.raises(ValueError, match=message):
        run(raw, options)


def test_a_log_without_times(tmp_path: Path) -> None:
    options = SplitOptions(time_column="at", eval_from="1")
    with pytest.raises(ValueError, match=naming("time column 'at'")):
        prepare_ali_ccp(read_layout("ali_ccp"), tmp_path, tmp_path / "out", IdOptions(), options, WorkOptions())
