"""KuaiRand's days by the encoding of earlier ones."""

import datetime
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.engine.options import IdOptions
from data_prep.kuairand import prepare
from data_prep.kuairand_log.options import Options
from dlrm_mtl.schema import Schema
from tests.data_prep.kuairand_log.raw_kuairand import (
    Row,
    default_log,
    default_users,
    default_videos,
    impression,
    video,
    write_history,
    write_raw,
)
from tests.data_prep.logs import checksums, lines_of, run_prepare, write_log
from tests.messages import naming

APRIL_24 = 1_650_800_000_000
"""Unix ms."""


def later_log() -> list[Row]:
    """Two days with users, videos, hours and lengths that the default log's training rows lack."""
    return [
        impression(1, 10, 20220506, "cvlpr"),
        impression(9, 77, 20220506, hourmin=2300, duration_ms=0),
        impression(2, 55, 20220507, "c", tab=8),
        impression(5, 12, 20220507, duration_ms=900_000),
    ]


def write_days(directory: Path, log: list[Row], has_history: bool = True) -> Path:
    raw = write_raw(directory, log, default_users(), [*default_videos(), video(55, upload_dt="", server_width="")])
    if has_history:
        write_history(
            raw / "user_history_to_4_24.parquet", {1: ([12, 10, 11], [99], []), 9: ([77], [], [10])}, APRIL_24
        )
    return raw


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose evaluation rows are the days until 7 May."""
    raw = write_days(tmp_path_factory.mktemp("raw"), [*default_log(), *later_log()])
    prepare(Options(raw, raw / "first", "feeds", history_length=2, min_count=2))
    return raw / "first"


def later(raw: Path, first: Path, **options: Any) -> Schema:
    return prepare(Options(raw, raw / "out", "feeds", eval_from=datetime.date(2022, 5, 7), encoding=first, **options))


def test_later_days_get_the_ids_and_values_of_the_first(first: Path, tmp_path: Path) -> None:
    raw = write_days(tmp_path / "raw", later_log())
    schema = later(raw, first)
    columns = [*(feature.name for feature in schema.categorical), *schema.dense, *schema.label_columns]
    rows = pa.concat_tables([pq.read_table(raw / "out" / split, columns=columns) for split in ("train", "eval")])
    expected = pq.read_table(first / "eval", columns=columns)
    assert rows.equals(expected.slice(len(expected) - len(rows)))
    kept = {name: checksum for name, checksum in checksums(first).items() if "vocabulary" in name or "enc" in name}
    assert kept.items() <= checksums(raw / "out").items()
    assert schema.source["encoding"]["sha256"] == kept["encoding.json"]
    unseen = sum((Counter(schema.source["unseen_ids"][split]) for split in schema.splits), Counter())
    # Video 12 has one training row, fewer than min_count.
    assert [unseen[name] for name in ("user_id", "video_id", "tab", "hour")] == [2, 3, 1, 1]


def test_histories_are_needed_where_the_first_days_had_them(first: Path, tmp_path: Path) -> None:
    raw = write_days(tmp_path / "raw", later_log(), has_history=False)
    with pytest.raises(ValueError, match=naming(raw, "user_history_to_*.parquet", first / "encoding.json")):
        later(raw, first)
    without = write_days(tmp_path / "without", default_log(), has_history=False)
    prepare(Options(without, without / "first", "feeds"))
    # This file would be refused: it reaches into the days used.
    raw = write_days(tmp_path / "raw", later_log())
    write_history(raw / "user_history_to_4_24.parquet", {1: ([12], [], [])}, APRIL_24 + 20 * 86_400_000)
    schema = later(raw, without / "first")
    assert "watch_seq" not in [feature.name for feature in schema.categorical]
    assert "user_history_to_4_24.parquet" not in schema.source["files"]


def test_what_contradicts_the_encoding_is_refused(first: Path, tmp_path: Path) -> None:
    raw = write_days(tmp_path / "raw", later_log())
    for options in ({"history_length": 3}, {"min_count": 2}):
        [(name, value)] = options.items()
        with pytest.raises(ValueError, match=naming(name, value, "encoding")):
            later(raw, first, **options)
    log = write_log(tmp_path / "log", lines_of(100))
    run_prepare(log, tmp_path / "other")
    with pytest.raises(ValueError, match=naming(tmp_path / "other" / "encoding.json", "'log'", "'kuairand'")):
        later(raw, tmp_path / "other")
    with pytest.raises(ValueError, match=naming(first / "encoding.json", "'kuairand'", "'log'")):
        run_prepare(log, tmp_path / "out", ids=IdOptions(encoding=first))
    assert not (raw / "out").exists()
