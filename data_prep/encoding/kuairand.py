"""KuaiRand's columns, and the columns of its features: as they stand, or computed from others.

Notation: B impressions, N users, videos or histories.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.columns.arrays import NULL, Integers, one_chunk, to_integers, valid_of
from data_prep.columns.arrow_columns import Column, Fault, read_values
from data_prep.columns.days import to_days

STRING = pa.dictionary(pa.int32(), pa.string())

LOG_COLUMNS = ("user_id", "video_id", "date", "hourmin", "duration_ms", "tab")

USER_TYPES: dict[str, pa.DataType] = {
    "user_id": pa.int64(),
    **dict.fromkeys(("user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author"), STRING),
    **dict.fromkeys(("follow_user_num_range", "fans_user_num_range", "friend_user_num_range"), STRING),
    "register_days_range": STRING,
    **{f"onehot_feat{i}": STRING for i in range(18)},
    **dict.fromkeys(("follow_user_num", "fans_user_num", "friend_user_num", "register_days"), pa.float64()),
}

VIDEO_TYPES: dict[str, pa.DataType] = {
    "video_id": pa.int64(),
    "author_id": pa.int64(),
    # Has empty fields, so some releases write it as a float.
    "music_id": pa.float64(),
    **dict.fromkeys(("video_type", "upload_type", "visible_status", "music_type"), STRING),
    "tag": pa.string(),
    "upload_dt": pa.date32(),
    **dict.fromkeys(("server_width", "server_height"), pa.float64()),
}

HISTORY_LISTS = ("watch_seq", "like_seq", "long_watch_seq")

USER_TEXTS = tuple(name for name, kind in USER_TYPES.items() if kind == STRING)
USER_DENSE = tuple(name for name, kind in USER_TYPES.items() if kind == pa.float64())
VIDEO_TEXTS = tuple(name for name, kind in VIDEO_TYPES.items() if kind == STRING)
VIDEO_CATEGORICAL = ("author_id", "music_id", *VIDEO_TEXTS)
VIDEO_DENSE = ("server_width", "server_height")
LOG_CATEGORICAL = ("user_id", "video_id", "tab", "hour", "duration_bucket")
LOG_DENSE = ("duration_ms", "video_age_days")

SOURCES = {
    "hour": ("hourmin",),
    "duration_bucket": ("duration_ms",),
    "video_age_days": ("date", "upload_dt"),
    **{f"{name}_length": (name,) for name in HISTORY_LISTS},
}
"""Raw columns of the features' columns that are computed from others."""

USES = {
    **dict.fromkeys((*LOG_COLUMNS, "author_id", "music_id"), "integer"),
    **dict.fromkeys((*USER_TEXTS, *VIDEO_TEXTS, "tag"), "string"),
    **dict.fromkeys((*USER_DENSE, *VIDEO_DENSE), "number"),
    **dict.fromkeys(HISTORY_LISTS, "list"),
    "upload_dt": "date",
}
"""How each raw column is read."""


DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"

DATE = "a date such as 2022-04-30"


def log_columns(columns: Mapping[str, Integers], day: Integers, upload_day: Integers) -> pa.Table:
    """The columns (B,) of the features of impressions.

    Args:
        columns: ``LOG_COLUMNS`` without ``date``.
        day, upload_day: days since 1970 of the impressions and of the uploads of their videos.
    """
    duration, hourmin = columns["duration_ms"], columns["hourmin"]
    # The log writes an unknown length as 0 ms.
    duration = np.where(duration <= 0, NULL, duration)
    # Two buckets per doubling of the length.
    bucket = np.floor(2 * np.log2(np.maximum(duration, 1000) / 1000)).astype(np.int64)
    age = np.where(upload_day == NULL, NULL, day - upload_day)
    integers = {
        **{name: columns[name] for name in ("user_id", "video_id", "tab")},
        "hour": np.where(hourmin == NULL, NULL, hourmin // 100),
        "duration_bucket": np.where(duration == NULL, NULL, bucket),
        "duration_ms": duration,
        "video_age_days": age,
    }
    return pa.table({name: pa.array(values, mask=values == NULL) for name, values in integers.items()})


def user_columns(users: pa.Table) -> pa.Table:
    """The columns (N,) of the features of users."""
    return _columns(users, USER_TEXTS, USER_DENSE)


def video_columns(videos: pa.Table) -> pa.Table:
    """The columns (N,) of the features of videos."""
    columns = _columns(videos, VIDEO_TEXTS, VIDEO_DENSE)
    for name in ("author_id", "music_id"):
        columns = columns.append_column(name, videos[name])
    return columns.append_column("tag", _tags(one_chunk(videos["tag"])))


def history_columns(histories: pa.Table) -> pa.Table:
    """The columns (N,) of the features of histories."""
    columns = {name: one_chunk(histories[name]) for name in HISTORY_LISTS}
    # A user without a history has watched nothing: length 0, not a missing value.
    lengths = {
        f"{name}_length": pc.fill_null(pc.list_value_length(lists), 0).cast(pa.int64())
        for name, lists in columns.items()
    }
    return pa.table(columns | lengths)


def joined_columns(rows: pa.Table, has_history: bool) -> pa.Table:
    """The columns (B,) of the features of impressions that are joined with their users, videos and histories.

    Args:
        rows: the columns ``USES``; ``upload_dt`` as a date.
    """
    log = {name: to_integers(rows[name]) for name in LOG_COLUMNS}
    upload_day = to_integers(rows["upload_dt"].cast(pa.int32()).cast(pa.int64()))
    tables = [log_columns(log, to_days(log["date"]), upload_day), user_columns(rows), video_columns(rows)]
    tables += [history_columns(rows)] if has_history else []
    return pa.table({name: table[name] for table in tables for name in table.column_names})


def read_dates(column: pa.Array) -> Column:
    """Dates (B,) of dates, times or texts that begin with a date."""
    texts = read_values(column, "string", narrow_fractions=False)
    days = pc.utf8_slice_codeunits(texts.values, 0, 10)
    is_date = np.asarray(pc.fill_null(pc.match_substring_regex(days, DAY), True))
    dates = pc.strptime(pc.if_else(pa.array(is_date), days, None), format="%Y-%m-%d", unit="s", error_is_null=True)
    dates = dates.cast(pa.date32())
    return Column(dates, [*texts.faults, (valid_of(texts.values) & ~valid_of(dates), f"expected {DATE}")])


def no_date(numbers: pa.Int64Array) -> Fault:
    """The fault of rows (B,) whose ``date`` is none."""
    return to_days(to_integers(numbers)) == NULL, "expected a date as YYYYMMDD"


def _columns(rows: pa.Table, texts: Sequence[str], numbers: Sequence[str]) -> pa.Table:
    return pa.table(
        {name: one_chunk(rows[name]).cast(pa.string()) for name in texts} | {name: rows[name] for name in numbers}
    )


def _tags(texts: pa.StringArray) -> pa.ListArray:
    """The tags in texts (N,): an empty field splits into one empty tag, which does not count."""
    lists = pc.split_pattern(pc.fill_null(texts, ""), ",")
    tags = pc.utf8_trim_whitespace(lists.flatten())
    is_filled = pc.not_equal(tags, "")
    owners = np.repeat(np.arange(len(lists)), pc.list_value_length(lists).to_numpy())[np.asarray(is_filled)]
    lengths = np.bincount(owners, minlength=len(lists))
    return pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), tags.filter(is_filled))
