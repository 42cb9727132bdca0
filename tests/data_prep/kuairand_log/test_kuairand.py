"""KuaiRand preparation on handwritten files: joins, splits, ids, scales, histories, and invariances."""

import datetime
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dlrm_mtl.schema import Schema
from tests.data_prep.kuairand_log.raw_kuairand import (
    OUTCOMES,
    default_log,
    default_users,
    default_videos,
    impression,
    prepared,
    user,
    video,
    write_csv,
    write_history,
    write_raw,
)
from tests.messages import naming

MISSING, UNSEEN, FIRST = 0, 1, 2
APRIL_24 = 1_650_800_000_000
"""Unix ms."""


def cardinality(schema: Schema, name: str) -> int:
    return next(feature.cardinality for feature in schema.categorical if feature.name == name)


def test_rows_are_split_by_date_in_their_order(tmp_path: Path) -> None:
    schema, train, evaluation = prepared(write_raw(tmp_path))
    assert train["click"].to_pylist() == [1, 0, 1, 1, 0, 0]
    assert train["long_view"].to_pylist() == [1, 0, 0, 1, 0, 0]
    assert train["like"].to_pylist() == [1, 0, 0, 0, 0, 1]
    assert train["profile_enter"].to_pylist() == [1, 0, 0, 0, 0, 1]
    assert train["comment"].to_pylist() == [1, 0, 0, 0, 0, 0]
    assert evaluation["click"].to_pylist() == [1, 0, 1]
    assert (schema.rows("train"), schema.rows("eval")) == (6, 3)
    assert [task.name for task in schema.tasks] == ["click", "long_view", "like", "profile_enter", "comment"]
    assert schema.tasks[0].base_rate == 0.5
    assert (schema.source["rows_read"], schema.source["rows_outside_dates"]) == (9, 0)


def test_rows_outside_the_dates_are_counted(tmp_path: Path) -> None:
    schema, train, evaluation = prepared(
        write_raw(tmp_path), train_from=datetime.date(2022, 5, 2), eval_to=datetime.date(2022, 5, 4), tasks="ads"
    )
    assert (len(train), len(evaluation)) == (4, 2)
    assert schema.source["rows_outside_dates"] == 3


def test_ads_tasks(tmp_path: Path) -> None:
    schema, train, _ = prepared(write_raw(tmp_path), "ads")
    assert [(task.name, task.label, task.given) for task in schema.tasks] == [
        ("ctr", "click", ""),
        ("cvr", "long_view", "click"),
        ("conv_imp", "click_long_view", ""),
    ]
    assert [task.base_rate for task in schema.tasks] == pytest.approx([3 / 6, 2 / 3, 2 / 6])
    assert train["click_long_view"].to_pylist() == [1, 0, 0, 1, 0, 0]


def test_a_long_view_without_a_click_is_no_conversion(tmp_path: Path) -> None:
    schema, train, _ = prepared(write_raw(tmp_path, [*default_log(), impression(1, 10, 20220501, "v")]), "ads")
    assert train["long_view"].to_pylist()[-1] == 1
    assert train["click_long_view"].to_pylist()[-1] == 0
    assert schema.tasks[1].base_rate == pytest.approx(2 / 3)


def test_ids_come_from_training_rows(tmp_path: Path) -> None:
    schema, train, evaluation = prepared(write_raw(tmp_path))
    assert train["user_id"].to_pylist() == [2, 2, 3, 4, 4, 3]
    assert train["video_id"].to_pylist() == [2, 3, 2, 3, 2, 4]
    assert evaluation["user_id"].to_pylist() == [2, UNSEEN, 3]
    assert evaluation["video_id"].to_pylist() == [UNSEEN, 2, 4]
    # Author 900 is in the video table, but none of his videos in a training row.
    assert evaluation["author_id"].to_pylist() == [UNSEEN, 3, 2]
    assert evaluation["tag"].to_pylist()[0] == [UNSEEN]
    assert cardinality(schema, "user_id") == FIRST + 3
    assert cardinality(schema, "author_id") == FIRST + 2
    assert schema.source["unseen_ids"]["eval"]["user_id"] == 1
    assert set(schema.source["unseen_ids"]["train"].values()) == {0}


def test_tables_are_joined_by_their_keys(tmp_path: Path) -> None:
    _, train, evaluation = prepared(write_raw(tmp_path))
    degree = train["onehot_feat4"].to_pylist()
    # Users 1, 1, 2, 3, 3, 2; the field of user 1 is empty.
    assert degree[:2] == [MISSING, MISSING]
    assert degree[2] == degree[5] != degree[3] == degree[4]
    assert min(degree[2:]) == FIRST
    tags = train["tag"].to_pylist()
    assert [len(ids) for ids in tags] == [2, 1, 2, 1, 2, 0]
    assert len({i for ids in tags for i in ids}) == 3
    assert evaluation["tag"].to_pylist()[1] == tags[0]


def test_a_user_or_video_without_a_table_row_is_missing(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, users=default_users()[1:], videos=default_videos()[:3])
    schema, train, evaluation = prepared(raw)
    assert schema.source["rows_not_in_table"] == {
        "train": {"user": 2, "video": 2},
        "eval": {"user": 1, "video": 0},
    }
    assert train["user_active_degree"].to_pylist() == [2, 2, MISSING, 2, 2, MISSING]
    assert train["author_id"].to_pylist() == [3, MISSING, 3, MISSING, 3, 2]
    assert train["tag"].to_pylist()[1] == []
    # Their own ids are in the log.
    assert train["user_id"].to_pylist() == [2, 2, 3, 4, 4, 3]
    assert train["register_days"].to_pylist()[2] == 0.0
    assert train["register_days_missing"].to_pylist() == [0, 0, 1, 0, 0, 1]
    assert evaluation["register_days_missing"].to_pylist() == [0, 0, 1]
    assert schema.source["missing_ids"]["train"]["user_active_degree"] == 2


def test_dense_features_are_scaled_by_training_rows(tmp_path: Path) -> None:
    users = [
        user(1, fans_user_num=0),
        user(2, fans_user_num=99),
        user(3, fans_user_num=7),
        user(9, fans_user_num=10**6),
    ]
    schema, train, evaluation = prepared(write_raw(tmp_path, users=users))
    logs = np.log1p([0, 0, 99, 7, 7, 99])
    expected = (logs - logs.mean()) / logs.std()
    assert train["fans_user_num"].to_pylist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert evaluation["fans_user_num"].to_pylist()[1] == pytest.approx(
        (math.log1p(10**6) - logs.mean()) / logs.std(), rel=1e-5
    )
    assert schema.source["dense_scaling"]["fans_user_num"] == pytest.approx(
        {"mean": logs.mean(), "deviation": logs.std()}
    )
    assert "fans_user_num_missing" not in schema.dense


def test_the_age_of_a_video_is_that_at_the_impression(tmp_path: Path) -> None:
    log = [
        impression(1, 10, 20220501, "cvlpr"),
        impression(1, 10, 20220503),
        impression(1, 11, 20220503),
        impression(1, 12, 20220503),
        impression(1, 10, 20220504),
    ]
    videos = [
        video(10, upload_dt="2022-04-30"),
        # After the impression: a negative age counts as 0.
        video(11, upload_dt="2022-05-05"),
        video(12, upload_dt=""),
    ]
    _, train, evaluation = prepared(write_raw(tmp_path, log, videos=videos))
    logs = np.log1p([1, 3, 0])
    scaled = (np.append(logs, math.log1p(4)) - logs.mean()) / logs.std()
    assert train["video_age_days"].to_pylist() == pytest.approx([*scaled[:3], 0.0], abs=1e-6)
    assert evaluation["video_age_days"].to_pylist() == pytest.approx(scaled[3:], rel=1e-5)
    assert train["video_age_days_missing"].to_pylist() == [0, 0, 0, 1]


def test_an_unknown_duration_is_missing(tmp_path: Path) -> None:
    log = default_log()
    for row, duration in zip(log, (0, "", 5_000, 20_000, 20_000, 90_000, 0, 20_000, 5_000), strict=True):
        row["duration_ms"] = duration
    schema, train, evaluation = prepared(write_raw(tmp_path, log))
    assert train["duration_ms_missing"].to_pylist() == [1, 1, 0, 0, 0, 0]
    assert evaluation["duration_ms_missing"].to_pylist() == [1, 0, 0]
    assert train["duration_bucket"].to_pylist() == [MISSING, MISSING, 2, 3, 3, 4]
    assert evaluation["duration_bucket"].to_pylist() == [MISSING, 3, 2]
    assert schema.source["missing_ids"]["train"]["duration_bucket"] == 2


def test_an_empty_field_and_a_new_value_have_ids_of_their_own(tmp_path: Path) -> None:
    log = default_log()
    log[0]["tab"] = ""
    log[6]["tab"] = 14
    log[7]["hourmin"] = ""
    _, train, evaluation = prepared(write_raw(tmp_path, log))
    assert train["tab"].to_pylist() == [MISSING, 2, 2, 2, 2, 2]
    assert evaluation["tab"].to_pylist() == [UNSEEN, 2, 2]
    assert evaluation["hour"].to_pylist() == [2, MISSING, 2]


def test_the_hour_is_that_of_hourmin(tmp_path: Path) -> None:
    log = default_log()
    for row, hourmin in zip(log, (0, 100, 159, 2300, 0, 0, 100, 0, 1200), strict=True):
        row["hourmin"] = hourmin
    _, train, evaluation = prepared(write_raw(tmp_path, log))
    assert train["hour"].to_pylist() == [2, 3, 3, 4, 2, 2]
    assert evaluation["hour"].to_pylist() == [3, 2, UNSEEN]


def test_evaluation_rows_say_whose_they_are_and_which_segments_they_fall_into(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, users=[row for row in default_users() if row["user_id"] != 9])
    schema, train, evaluation = prepared(raw, segments=("tab", "user_active_degree", "hour"))
    assert schema.cluster == "user_id"
    assert not {"cluster:user_id", "segment:tab"} & {*train.column_names}
    assert len(set(evaluation["cluster:user_id"].to_pylist())) == 3
    values = {
        segment.name: [segment.values[code] for code in evaluation[f"segment:{segment.name}"].to_pylist()]
        for segment in schema.segments
    }
    assert values["user"] == ["known", "new", "known"]
    assert values["day"] == ["2022-05-04", "2022-05-04", "2022-05-05"]
    assert values["user_active_degree"] == ["full_active", "missing", "full_active"]
    assert (values["tab"], values["hour"]) == (["1"] * 3, ["13"] * 3)
    assert schema.source["cluster"] == {"column": "user_id", "evaluated": 3, "of_which_known": 2, "rows_without": 0}
    assert schema.source["segments"]["day"]["rows"] == {"2022-05-04": 2, "2022-05-05": 1}


@pytest.mark.parametrize("segments", [("hours",), ("tab", "tab"), ("play_time_ms",)])
def test_segments_that_are_not_there_are_refused(tmp_path: Path, segments: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"segments.*('.*'.*hour, tab|'tab'.*twice)"):
        prepared(write_raw(tmp_path), segments=segments)


def test_rare_values_share_the_id_of_unseen_ones(tmp_path: Path) -> None:
    schema, train, evaluation = prepared(write_raw(tmp_path), min_count=2)
    assert train["video_id"].to_pylist() == [2, 3, 2, 3, 2, UNSEEN]
    assert evaluation["video_id"].to_pylist() == [UNSEEN, 2, UNSEEN]
    assert cardinality(schema, "video_id") == FIRST + 2
    # Author 500 wrote videos 11 and 12, in three training rows; 501 wrote video 10, in three.
    assert cardinality(schema, "author_id") == FIRST + 2
    # Tag 3 is that of video 11, in two rows.
    assert cardinality(schema, "tag") == FIRST + 3


def test_histories_share_the_table_of_videos_and_keep_the_newest(tmp_path: Path) -> None:
    raw = write_raw(tmp_path)
    histories = {
        # Out of the order of the user table.
        3: ([10], [], [10]),
        1: ([12, 77, 11, 10], [11], [77, 12, 12]),
    }
    write_history(raw / "user_history_to_4_24.parquet", histories, APRIL_24)
    schema, train, evaluation = prepared(raw, history_length=2)
    # Ids of videos 10, 11 and 12 are 2, 3 and 4; 77 is in no training row.
    assert train["watch_seq"].to_pylist() == [[3, 2], [3, 2], [], [2], [2], []]
    assert train["like_seq"].to_pylist() == [[3], [3], [], [], [], []]
    assert evaluation["long_watch_seq"].to_pylist() == [[4, 4], [], []]
    assert {feature.name for feature in schema.tables["video_id"]} == {
        "video_id",
        "watch_seq",
        "like_seq",
        "long_watch_seq",
    }
    assert schema.source["rows_not_in_table"]["train"]["history"] == 2
    # The length is that before truncation; no history is a length of 0.
    logs = np.log1p([4, 4, 0, 1, 1, 0])
    assert train["watch_seq_length"].to_pylist() == pytest.approx(
        ((logs - logs.mean()) / logs.std()).tolist(), rel=1e-5
    )
    assert not any(name.endswith("seq_length_missing") for name in schema.dense)

    _, whole, _ = prepared(raw)
    assert whole["watch_seq"].to_pylist()[0] == [4, UNSEEN, 3, 2]


def test_without_histories_there_are_no_such_features(tmp_path: Path) -> None:
    schema, train, _ = prepared(write_raw(tmp_path))
    assert not any("_seq" in name for name in train.column_names)
    assert [feature.name for feature in schema.categorical if feature.multi_hot] == ["tag"]


def test_histories_that_reach_into_the_rows_are_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path)
    # 1 May, 00:30 in Beijing, the first day of the log; the day before in UTC.
    write_history(raw / "user_history_to_5_01.parquet", {1: ([10], [], [])}, 1_651_336_200_000)
    with pytest.raises(ValueError, match=naming("2022-05-01", "2022-05-01")):
        prepared(raw)
    prepared(raw, "ads", train_from=datetime.date(2022, 5, 2))


def written(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.parquet")}


@pytest.mark.parametrize("column", OUTCOMES)
def test_outcomes_and_other_labels_change_nothing(tmp_path: Path, column: str) -> None:
    reference, changed = write_raw(tmp_path / "a"), default_log()
    for number, row in enumerate(changed):
        row[column] = number % 2
    raw = write_raw(tmp_path / "b", changed)
    # These columns are not read.
    (raw / "video_features_statistic_tiny.csv").write_text("nonsense")
    prepared(reference)
    schema, train, _ = prepared(raw)
    assert written(raw / "out") == written(reference / "out")
    assert not {column, *OUTCOMES, "is_click", "is_like"} & set(train.column_names)
    assert not set(schema.label_columns) & {feature.name for feature in schema.categorical}


def test_a_label_is_no_feature_of_another_task(tmp_path: Path) -> None:
    reference, changed = write_raw(tmp_path / "a"), default_log()
    changed[1]["is_like"], changed[1]["is_comment"] = 1, 1
    prepared(reference)
    schema, train, _ = prepared(write_raw(tmp_path / "b", changed))
    before = pq.read_table(reference / "out" / "train")
    differing = [name for name in train.column_names if not train[name].equals(before[name])]
    assert differing == ["like", "comment"]
    assert set(differing) <= set(schema.label_columns)


def test_gzipped_files_give_the_same(tmp_path: Path) -> None:
    plain, gzipped = write_raw(tmp_path / "a"), write_raw(tmp_path / "b", gz=True)
    prepared(plain)
    prepared(gzipped)
    assert len([file for file in written(plain / "out") if file.startswith(("train/", "eval/"))]) == 2
    assert written(plain / "out") == written(gzipped / "out")


def test_several_log_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    whole, parts = write_raw(tmp_path / "a"), write_raw(tmp_path / "b", default_log()[:4])
    write_csv(parts / "log_standard_4_22_to_5_08_tiny_part2.csv.gz", default_log()[4:])
    prepared(whole)
    schema, _, _ = prepared(parts)
    assert written(whole / "out") == written(parts / "out")
    assert schema.source["rows_read"] == 9


def test_random_exposure_is_used_on_request(tmp_path: Path) -> None:
    raw = write_raw(tmp_path)
    write_csv(raw / "log_random_4_22_to_5_08_tiny.csv", [impression(1, 10, 20220503, "c", is_rand=1)])
    assert prepared(raw)[0].source["rows_read"] == 9
    schema, train, _ = prepared(raw, include_random=True)
    assert (schema.source["rows_read"], len(train)) == (10, 7)


def test_duplicate_rows_are_kept(tmp_path: Path) -> None:
    _, train, _ = prepared(write_raw(tmp_path, [default_log()[0], *default_log()]))
    assert len(train) == 7
    assert train["user_id"].to_pylist()[:2] == [2, 2]


def test_the_size_of_batches_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = [row for _ in range(300) for row in default_log()]
    whole, parts = write_raw(tmp_path / "a", log), tmp_path / "b"
    shutil.copytree(whole, parts)
    schema, *expected = prepared(whole)
    monkeypatch.setattr("data_prep.kuairand_log.csv_files.BLOCK_BYTES", 1 << 14)
    in_parts, *found = prepared(parts)
    assert in_parts.source["unseen_ids"] == schema.source["unseen_ids"]
    for table, other in zip(expected, found, strict=True):
        # Moments are summed in another order.
        for name in schema.dense:
            assert np.asarray(other[name]) == pytest.approx(np.asarray(table[name]), abs=1e-5)
        assert other.drop_columns(list(schema.dense)).equals(table.drop_columns(list(schema.dense)))
