"""KuaiRand's watch time as a regression task: its label, its scale, and that nothing else depends on it."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.kuairand import prepare
from data_prep.kuairand_log.days import prepare_days
from data_prep.kuairand_log.options import Options
from tests.data_prep.kuairand_log.raw_kuairand import Row, default_log, impression, prepared, write_raw
from tests.messages import naming


def with_watch_times(seed: int = 0) -> list[Row]:
    return [{**row, "play_time_ms": 1000 * (number + seed) ** 2} for number, row in enumerate(default_log())]


def test_the_watch_time_is_a_regression_over_all_rows(tmp_path: Path) -> None:
    schema, train, evaluation = prepared(write_raw(tmp_path, with_watch_times()), "feeds_and_play")
    labels = np.log1p(np.arange(9.0) ** 2)
    assert (train["play"].type, evaluation["play"].type) == (pa.float32(), pa.float32())
    assert train["play"].to_pylist() + evaluation["play"].to_pylist() == pytest.approx(labels.tolist(), rel=1e-6)
    play = schema.tasks[-1]
    assert (play.name, play.kind, play.given, play.unit) == ("play", "regression", "", "ln(1 + seconds)")
    assert (play.mean, play.deviation) == pytest.approx((labels[:6].mean(), labels[:6].std()), rel=1e-6)
    feeds, *tables = prepared(write_raw(tmp_path / "feeds", with_watch_times()))
    assert schema.tasks[:-1] == feeds.tasks
    for table, other in zip((train, evaluation), tables, strict=True):
        assert table.drop_columns("play").equals(other)


def test_the_watch_time_of_days_and_of_other_logs_keeps_its_scale(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", with_watch_times())
    may_2, may_3, may_5 = (datetime.date(2022, 5, day) for day in (2, 3, 5))
    days = prepare_days(Options(raw, tmp_path / "days", "feeds_and_play", every="day", eval_to=may_2))
    scales = [(schema.tasks[-1].mean, schema.tasks[-1].deviation) for _, schema in days]
    first = np.log1p([0.0, 1.0])
    assert scales == [pytest.approx((first.mean(), first.std()))] * 2
    prepare(Options(raw, tmp_path / "early", "feeds_and_play", eval_from=may_3, eval_to=may_3))
    log = [impression(1, 10, 20220504, letters, play_time_ms=9000) for letters in ("cvlpr", "")]
    later = write_raw(tmp_path / "later", [*log, impression(1, 10, 20220505)])
    play = prepare(Options(later, tmp_path / "reused", "feeds_and_play", may_5, encoding=tmp_path / "early")).tasks[-1]
    early = np.log1p([0.0, 1.0, 4.0])
    assert (play.mean, play.deviation) == pytest.approx((early.mean(), early.std()), rel=1e-6)


@pytest.mark.parametrize("value", [-1, ""])
def test_a_watch_time_that_is_none_is_refused(tmp_path: Path, value: Any) -> None:
    log = [*default_log()[:2], impression(1, 10, 20220501, play_time_ms=value)]
    with pytest.raises(ValueError, match=naming("log_standard_4_22_to_5_08_tiny.csv", "line 4", "play_time_ms")):
        prepared(write_raw(tmp_path, log), "feeds_and_play")


def test_the_watch_time_changes_its_label_alone(tmp_path: Path) -> None:
    for seed, directory in enumerate(("a", "b")):
        prepared(write_raw(tmp_path / directory, with_watch_times(seed)), "feeds_and_play")
    for split in ("train", "eval"):
        one, other = (pq.read_table(tmp_path / directory / "out" / split) for directory in ("a", "b"))
        assert [name for name in one.column_names if not one[name].equals(other[name])] == ["play"]
