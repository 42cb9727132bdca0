"""A tiny KuaiRand in its original layout, written by hand."""

import csv
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.kuairand import prepare
from data_prep.kuairand_log.options import Options
from dlrm_mtl.schema import Schema

Row = dict[str, Any]

LOG = [
    *("user_id", "video_id", "date", "hourmin", "time_ms"),
    *("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view"),
    *("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time", "is_profile_enter", "is_rand", "tab"),
]
OUTCOMES = ("play_time_ms", "profile_stay_time", "comment_stay_time", "is_rand", "is_follow", "is_forward", "is_hate")


def impression(user: Any, video: Any, date: Any, labels: str = "", **changes: Any) -> Row:
    """A row of the log; ``labels`` names those that are 1: c(lick), v (long view), l(ike), p(rofile), r(emark)."""
    row: Row = dict.fromkeys(LOG, 0)
    row |= {"user_id": user, "video_id": video, "date": date, "hourmin": 1300, "duration_ms": 20_000, "tab": 1}
    names = {"c": "is_click", "v": "long_view", "l": "is_like", "p": "is_profile_enter", "r": "is_comment"}
    return row | {names[letter]: 1 for letter in labels} | changes


def user(number: Any, **changes: Any) -> Row:
    row: Row = {
        "user_id": number,
        "user_active_degree": "full_active",
        "is_lowactive_period": 0,
        "is_live_streamer": -124,
        "is_video_author": 1,
        "follow_user_num": 10,
        "follow_user_num_range": "(0,10]",
        "fans_user_num": 0,
        "fans_user_num_range": "0",
        "friend_user_num": 3,
        "friend_user_num_range": "[1,5)",
        "register_days": 100,
        "register_days_range": "91-180",
        **{f"onehot_feat{i}": i for i in range(18)},
    }
    return row | changes


def video(number: Any, **changes: Any) -> Row:
    row: Row = {
        "video_id": number,
        "author_id": 500,
        "video_type": "NORMAL",
        "upload_dt": "2022-04-10",
        "upload_type": "Web",
        "visible_status": "0.0",
        "video_duration": "20000.0",
        "server_width": "720.0",
        "server_height": "1280.0",
        "music_id": 9_155_697_141,
        "music_type": "9.0",
        "tag": "39",
    }
    return row | changes


def default_log() -> list[Row]:
    """Six rows to train on, three to evaluate on from 4 May: user 9 and video 77 are new there."""
    return [
        impression(1, 10, 20220501, "cvlpr"),
        impression(1, 11, 20220501),
        impression(2, 10, 20220502, "c"),
        impression(3, 11, 20220503, "cv"),
        impression(3, 10, 20220503),
        impression(2, 12, 20220503, "lp"),
        impression(1, 77, 20220504, "cv"),
        impression(9, 10, 20220504),
        impression(2, 12, 20220505, "c"),
    ]


def default_users() -> list[Row]:
    return [user(2, onehot_feat4="2.0"), user(1, onehot_feat4=""), user(3, onehot_feat4="1.0"), user(9)]


def default_videos() -> list[Row]:
    return [
        video(77, author_id=900, tag="7"),
        video(12, tag=""),
        video(10, tag="39,68", author_id=501),
        video(11, tag="3"),
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns or rows[0]), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_history(path: Path, histories: Mapping[int, tuple[list[int], list[int], list[int]]], last_ms: int) -> None:
    """Watched, liked and long-viewed videos by user, oldest first."""
    watch, like, long_watch = zip(*histories.values(), strict=True)
    lists = pa.large_list(pa.int64())
    table = {
        "user_id": pa.array(list(histories)),
        "history_len": pa.array([len(ids) for ids in watch]),
        "last_time_ms": pa.array([last_ms] * len(histories)),
        "watch_seq": pa.array(watch, lists),
        "like_seq": pa.array(like, lists),
        "long_watch_seq": pa.array(long_watch, lists),
    }
    pq.write_table(pa.table(table), path)


def write_raw(
    directory: Path,
    log: Sequence[Row] | None = None,
    users: Sequence[Row] | None = None,
    videos: Sequence[Row] | None = None,
    gz: bool = False,
) -> Path:
    """The three CSV files that every KuaiRand has."""
    directory.mkdir(exist_ok=True)
    suffix = ".csv.gz" if gz else ".csv"
    write_csv(directory / f"log_standard_4_22_to_5_08_tiny{suffix}", default_log() if log is None else log, LOG)
    write_csv(directory / f"user_features_tiny{suffix}", users or default_users())
    write_csv(directory / f"video_features_basic_tiny{suffix}", videos or default_videos())
    return directory


def prepared(raw: Path, tasks: Any = "feeds", **options: Any) -> tuple[Schema, pa.Table, pa.Table]:
    """Schema, training rows and evaluation rows."""
    out = raw / "out"
    schema = prepare(Options(raw, out, tasks, **options))
    return schema, pq.read_table(out / "train"), pq.read_table(out / "eval")
