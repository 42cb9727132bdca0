"""KuaiRand day by day."""

import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_prep.kuairand import prepare
from data_prep.kuairand_log.days import prepare_days
from data_prep.kuairand_log.options import Options
from dlrm_mtl.data.new_ids import read_new_ids
from dlrm_mtl.schema import STREAM, Schema, read_schema
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
from tests.data_prep.logs import checksums
from tests.entry_points.processes import python
from tests.messages import mentions, naming

APRIL_24 = 1_650_800_000_000
"""Unix ms."""

DAYS = [f"2022-05-0{day}" for day in range(1, 6)]


def later_log() -> list[Row]:
    """Two rows of a later day, of a known user and a new one, and of two new videos."""
    return [impression(3, 55, 20220506, "cv"), impression(5, 56, 20220506, "l")]


def write_days(directory: Path, log: list[Row]) -> Path:
    """User 1 has watched videos 12, 10 and 11, in this order."""
    videos = [*default_videos(), video(55, upload_dt="", server_width=""), video(56)]
    raw = write_raw(directory, log, default_users(), videos)
    write_history(raw / "user_history_to_4_24.parquet", {1: ([12, 10, 11], [99], []), 9: ([77], [], [10])}, APRIL_24)
    return raw


def date(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def days_of(raw: Path, out: Path, **options: Any) -> list[tuple[Path, Schema]]:
    return list(prepare_days(Options(raw, out, "feeds", every="day", **options)))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_days(tmp_path_factory.mktemp("raw"), default_log())


@pytest.fixture(scope="module")
def chain(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Schema]]:
    return days_of(raw, tmp_path_factory.mktemp("days"))


def vocabulary(directory: Path, table: str) -> list[Any]:
    return pq.read_table(directory / "vocabulary" / f"{table}.parquet")["value"].to_pylist()


def column(directory: Path, name: str) -> list[Any]:
    return pq.read_table(directory / STREAM)[name].to_pylist()


def test_each_day_is_a_data_set_that_extends_the_one_before(chain: list[tuple[Path, Schema]]) -> None:
    assert [directory.name for directory, _ in chain] == DAYS
    assert [schema.rows(STREAM) for _, schema in chain] == [2, 1, 3, 2, 1]
    for directory, schema in chain:
        assert read_schema(directory) == schema
        assert schema.period is not None
        assert schema.period.start == f"{directory.name}T00:00:00"
        assert [segment.name for segment in schema.segments] == ["day", "user"]
    assert chain[0][1].continues is None
    for (before, schema_before), (now, schema) in pairwise(chain):
        assert schema.period is not None
        assert schema_before.period is not None
        assert schema_before.period.stop == schema.period.start
        assert schema.continues is not None
        assert schema.continues.tables == schema_before.fingerprints.tables
        assert schema.fingerprints.dense == chain[0][1].fingerprints.dense
        for table in schema.tables:
            values = vocabulary(before, table)
            assert vocabulary(now, table)[: len(values)] == values
    assert [sorted(vocabulary(directory, "user_id")) for directory, _ in chain] == [
        *([1], [1, 2], [1, 2, 3], [1, 2, 3, 9], [1, 2, 3, 9])
    ]
    assert not list(chain[0][0].parent.parent.glob("*.partial"))


def test_rows_are_those_of_the_day(chain: list[tuple[Path, Schema]]) -> None:
    third = chain[2][0]
    users, videos = (
        [vocabulary(third, table)[id - 2] for id in column(third, table)] for table in ("user_id", "video_id")
    )
    assert (users, videos) == ([3, 3, 2], [11, 10, 12])
    assert [column(third, label) for label in ("click", "long_view", "like", "profile_enter", "comment")] == [
        *([1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0])
    ]
    assert [task.base_rate for task in chain[2][1].tasks] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 3, 0.0])


def test_users_of_earlier_days_are_known(chain: list[tuple[Path, Schema]]) -> None:
    codes = [column(directory, "segment:user") for directory, _ in chain]
    assert codes == [[1, 1], [1], [1, 1, 0], [0, 1], [0]]


def test_a_chain_is_continued_by_a_later_log(chain: list[tuple[Path, Schema]], tmp_path: Path) -> None:
    """The log of the days after 3 May, on top of those until then, gives the days of the whole log."""
    days = days_of(write_days(tmp_path / "early", default_log()), tmp_path / "days", eval_to=date("2022-05-03"))
    late = write_days(tmp_path / "late", [row for row in default_log() if row["date"] >= 20220503])
    days += days_of(late, tmp_path / "days", extend=tmp_path / "days" / "2022-05-03")
    assert [directory.name for directory, _ in days] == DAYS
    assert checksums(tmp_path / "days") == checksums(chain[0][0].parent)
    more = write_days(tmp_path / "more", later_log())
    [(last, schema)] = days_of(more, tmp_path / "days", extend=tmp_path / "days" / "2022-05-05")
    assert last.name == "2022-05-06"
    assert set(vocabulary(last, "user_id")) == {1, 2, 3, 5, 9}
    assert schema.fingerprints.dense == chain[0][1].fingerprints.dense


def test_rare_values_wait(raw: Path, tmp_path: Path) -> None:
    days = days_of(raw, tmp_path / "days", min_count=2)
    ids = [set(vocabulary(directory, "video_id")) for directory, _ in days]
    # Videos 10 and 11 occur twice by 2 and by 3 May, video 12 by 5 May.
    assert ids == [set(), {10}, {10, 11}, {10, 11}, {10, 11, 12}]


def test_full_tables_recycle_what_neither_occurs_nor_was_watched(tmp_path: Path) -> None:
    log = [
        *(impression(2, 11, 20220501), impression(2, 12, 20220501), impression(2, 77, 20220501, "c")),
        *(impression(1, 55, 20220502), impression(2, 55, 20220503)),
    ]
    days = days_of(write_days(tmp_path / "raw", log), tmp_path / "days", table_max_ids={"video_id": 5})
    assert [vocabulary(directory, "video_id") for directory, _ in days] == [[11, 12, 77], [11, 12, 55], [11, 12, 55]]
    # User 1 has watched videos 12, 10 and 11: they are needed on 2 May, but 10 has no id.
    assert column(days[1][0], "watch_seq") == [[3, 1, 2]]
    assert {table: ids.tolist() for table, ids in read_new_ids(*days[1]).items() if table == "video_id"} == {
        "video_id": [4]
    }
    assert "video_id" not in read_new_ids(*days[2])


def test_a_later_log_may_change_how_tables_grow(chain: list[tuple[Path, Schema]], tmp_path: Path) -> None:
    last, schema = chain[-1]
    users, sizes = vocabulary(last, "user_id"), {name: users[0].cardinality for name, users in schema.tables.items()}
    full = {name: max(size, 3) for name, size in sizes.items()}
    log = [impression(3, 55, 20220506), *(impression(5, 56, date) for date in (20220506, 20220507))]
    raw = write_days(tmp_path / "raw", log)
    with pytest.raises(ValueError, match=naming("video_id", 3, sizes["video_id"], last)):
        days_of(raw, tmp_path / "days", extend=last, table_max_ids={"video_id": 3})
    days = days_of(raw, tmp_path / "days", extend=last, table_max_ids=full, min_count=2)
    # User 5 is seen twice by 7 May, and then takes the id of user 2 or 9, whom the last days lack.
    assert vocabulary(days[0][0], "user_id") == users
    assert set(vocabulary(days[1][0], "user_id")) - {*users} == {5}
    assert {table: users[0].cardinality for table, users in days[1][1].tables.items()} == full


def test_a_maximum_of_ids_without_days(raw: Path, tmp_path: Path) -> None:
    schema = prepare(Options(raw, tmp_path / "out", "feeds", table_max_ids={"video_id": 4, "user_id": 3}))
    # Video 10 has three training rows and video 11 two; of the users, each has two.
    assert vocabulary(tmp_path / "out", "video_id") == [10, 11]
    assert vocabulary(tmp_path / "out", "user_id") == [1]
    assert schema.tables["video_id"][0].cardinality == 4


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"every": "day", "eval_from": date("2022-05-03")}, ("eval_from", "2022-05-03")),
        ({"every": "day", "encoding": Path("other")}, ("encoding", "other", "every day")),
        ({"extend": Path("other")}, ("extend", "other", "every day")),
        ({"every": "day", "extend": Path("other"), "history_length": 2}, ("history_length", 2, "extend")),
        ({"every": "day", "max_ids": 2}, ("user_id", "max_ids", 2)),
        ({"every": "day", "table_max_ids": {"watch_seq": 9}}, ("table_max_ids", "'watch_seq'", "video_id")),
        (
            {"every": "day", "train_from": date("2022-05-03"), "eval_to": date("2022-05-02")},
            ("eval_to", "2022-05-02", "train_from", "2022-05-03"),
        ),
        ({"every": "day", "train_from": date("2022-05-07")}, ("2022-05-07", "2022-05-01", "2022-05-05")),
    ],
)
def test_bad_options_are_named(raw: Path, tmp_path: Path, options: dict[str, Any], names: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=naming(*names)):
        list(prepare_days(Options(raw, tmp_path / "out", "feeds", **options)))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_extended_is_named(raw: Path, chain: list[tuple[Path, Schema]], tmp_path: Path) -> None:
    last = chain[-1][0]
    with pytest.raises(ValueError, match=naming(raw, "2022-05-06", "2022-05-01", "2022-05-05")):
        days_of(raw, tmp_path / "out", extend=last)
    with pytest.raises(ValueError, match=naming("train_from", "2022-05-05", "2022-05-06", last)):
        days_of(raw, tmp_path / "out", extend=last, train_from=date("2022-05-05"))
    prepare(Options(raw, tmp_path / "both", "feeds"))
    with pytest.raises(ValueError, match=naming(tmp_path / "both", "train", "eval")):
        days_of(raw, tmp_path / "out", extend=tmp_path / "both")
    with pytest.raises(ValueError, match=naming(tmp_path / "both")):
        days_of(raw, tmp_path / "both")
    assert not (tmp_path / "out").exists()


def test_histories_that_reach_into_the_days_are_refused(tmp_path: Path) -> None:
    raw = write_days(tmp_path / "raw", default_log())
    write_history(raw / "user_history_to_4_24.parquet", {1: ([12], [], [])}, APRIL_24 + 7 * 86_400_000)
    with pytest.raises(ValueError, match=naming(raw / "user_history_to_4_24.parquet", DAYS[0])):
        days_of(raw, tmp_path / "out")


def test_entry_point(raw: Path, tmp_path: Path) -> None:
    arguments = ["--raw", str(raw), "--out", str(tmp_path), "--tasks", "ads", "--every", "day"]
    result = python("data_prep.kuairand", *arguments, "--eval-to", "2022-05-02")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert mentions(lines[0], tmp_path / "2022-05-01", 2, "ctr", "cvr", "conv_imp")


def test_real_rows_read_by_the_day_before_equal_those_whose_new_ids_are_unseen(test_data: Path, tmp_path: Path) -> None:
    real = test_data / "kuairand-pure"
    if not real.is_dir():
        pytest.skip(f"no real data: {real} is not there")
    capacities = {"user_id": 9_000, "video_id": 2_500, "author_id": 2_000}
    _, second, third = days_of(
        real, tmp_path / "days", eval_to=date("2022-04-27"), table_max_ids=capacities, min_count=2
    )
    assert all(
        schema.tables[table][0].cardinality <= size
        for _, schema in (second, third)
        for table, size in capacities.items()
    )
    by_second = Options(
        *(real, tmp_path / "out", "feeds"),
        train_from=date("2022-04-27"),
        eval_from=date("2022-04-28"),
        eval_to=date("2022-04-28"),
        encoding=second[0],
    )
    prepare(by_second)
    new_ids = read_new_ids(*third)
    assert len(new_ids["user_id"]) > 1_000
    assert third[1].continues is not None
    assert {*capacities} <= {*third[1].continues.reset}
    now, expected = pq.read_table(third[0] / STREAM), pq.read_table(tmp_path / "out" / "train")
    for feature in third[1].categorical:
        ids = now[feature.name].combine_chunks()
        items = np.asarray(ids.flatten() if feature.multi_hot else ids)
        read = np.where(np.isin(items, new_ids.get(feature.table_name, [])), 1, items)
        before = expected[feature.name].combine_chunks()
        assert np.array_equal(read, np.asarray(before.flatten() if feature.multi_hot else before)), feature.name
        assert third[1].source["unseen_before"][feature.name] == (read == 1).mean()
    assert now.select(third[1].dense).equals(expected.select(third[1].dense))
