"""Bad KuaiRand input: one line that names file, place, value and what was expected, and no data set."""

import datetime
import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.kuairand import prepare
from data_prep.kuairand_log.options import Options
from tests.data_prep.kuairand_log.raw_kuairand import (
    LOG,
    default_log,
    default_users,
    default_videos,
    impression,
    write_csv,
    write_history,
    write_raw,
)
from tests.entry_points.processes import python
from tests.messages import mentions

LOG_FILE = "log_standard_4_22_to_5_08_tiny.csv"
USER_FILE = "user_features_tiny.csv"
VIDEO_FILE = "video_features_basic_tiny.csv"
HISTORY_FILE = "user_history_to_4_24.parquet"


def change(row: int, column: str, value: Any) -> Callable[[Path], None]:
    """A field of the log. Row 0 is on line 2."""

    def apply(raw: Path) -> None:
        log = default_log()
        log[row][column] = value
        write_csv(raw / LOG_FILE, log, LOG)

    return apply


def drop_column(file: str, rows: list[dict[str, Any]], column: str) -> Callable[[Path], None]:
    return lambda raw: write_csv(raw / file, rows, [name for name in rows[0] if name != column])


def remove(file: str) -> Callable[[Path], None]:
    return lambda raw: (raw / file).unlink()


def replace_text(file: str, text: str) -> Callable[[Path], None]:
    def apply(raw: Path) -> None:
        (raw / file).write_text(text)

    return apply


def cut_line(raw: Path) -> None:
    text = (raw / LOG_FILE).read_text()
    (raw / LOG_FILE).write_text(text + "1,10,2022")


def truncated_gzip(raw: Path) -> None:
    # Incompressible enough that half of the bytes is half of the rows.
    rows = [impression(user, user * 7919 % 6007, 20220501, "cvlpr") for user in range(20_000)]
    (raw / LOG_FILE).unlink()
    path = raw / f"{LOG_FILE}.gz"
    write_csv(path, rows)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_gzip(raw: Path) -> None:
    (raw / USER_FILE).rename(raw / f"{USER_FILE}.gz")


def plain_and_gzipped(raw: Path) -> None:
    with gzip.open(raw / f"{LOG_FILE}.gz", "wb") as file:
        file.write((raw / LOG_FILE).read_bytes())


def two_histories(raw: Path) -> None:
    for day in (23, 24):
        write_history(raw / f"user_history_to_4_{day}.parquet", {1: ([10], [], [])}, 0)


def broken_history(raw: Path) -> None:
    (raw / HISTORY_FILE).write_bytes(b"PAR1 and nothing else PAR1")


def repeated_history(raw: Path) -> None:
    write_history(raw / HISTORY_FILE, {1: ([10], [], []), 2: ([], [], [])}, 0)
    table = pq.read_table(raw / HISTORY_FILE)
    pq.write_table(table.set_column(0, "user_id", pa.array([1, 1])), raw / HISTORY_FILE)


def history_of_numbers(raw: Path) -> None:
    columns = ("user_id", "last_time_ms", "watch_seq", "like_seq", "long_watch_seq")
    pq.write_table(pa.table({name: [1] for name in columns}), raw / HISTORY_FILE)


def one_class(raw: Path) -> None:
    log = default_log()
    for row in log:
        row["is_comment"] = 0
    write_csv(raw / LOG_FILE, log, LOG)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove(LOG_FILE), "{raw}: expected files log_standard_*.csv or .csv.gz, found none"),
        (remove(USER_FILE), "{raw}: expected one file user_features_*.csv or .csv.gz, found none"),
        (remove(VIDEO_FILE), "{raw}: expected one file video_features_basic_*.csv or .csv.gz, found none"),
        (
            lambda raw: write_csv(raw / "user_features_2.csv", default_users()),
            "{raw}: expected one file user_features_*.csv or .csv.gz, found user_features_2.csv, user_features_tiny",
        ),
        (
            drop_column(LOG_FILE, default_log(), "is_click"),
            "{log}: column 'is_click' is missing; the file has user_id, video_id, date",
        ),
        (
            drop_column(USER_FILE, default_users(), "register_days"),
            "{users}: column 'register_days' is missing",
        ),
        (
            drop_column(VIDEO_FILE, default_videos(), "tag"),
            "{videos}: column 'tag' is missing",
        ),
        (
            change(4, "is_like", 2),
            "{log}, line 6: column 'is_like' is 2, expected 0 or 1",
        ),
        (
            change(8, "is_click", ""),
            "{log}, line 10: column 'is_click' is empty, expected 0 or 1",
        ),
        (
            change(1, "long_view", "yes"),
            "{log}, line 3: column 'long_view' has an invalid value 'yes', expected int64",
        ),
        (
            change(2, "date", 20221301),
            "{log}, line 4: column 'date' is 20221301, expected a date as YYYYMMDD",
        ),
        (
            change(2, "date", ""),
            "{log}, line 4: column 'date' is empty, expected a date as YYYYMMDD",
        ),
        (
            change(0, "user_id", "u1"),
            "{log}, line 2: column 'user_id' has an invalid value 'u1', expected int64",
        ),
        (cut_line, "{log}: CSV parse error: line 11: Expected 19 columns, got 3"),
        (truncated_gzip, "{log}.gz: cannot be read (Truncated compressed stream)"),
        (no_gzip, "{users}.gz: cannot be read ("),
        (plain_and_gzipped, "{log}.gz: is there twice, the other is {log}"),
        (replace_text(LOG_FILE, ""), "{log}: is empty"),
        (replace_text(LOG_FILE, ",".join(LOG) + "\n"), "{raw}: the log has no rows"),
        (
            lambda raw: write_csv(raw / USER_FILE, [*default_users(), default_users()[1]]),
            "{users}, row 5: user_id 1 has a row already, expected one row each",
        ),
        (
            lambda raw: write_csv(raw / VIDEO_FILE, [*default_videos(), {"video_id": ""}], list(default_videos()[0])),
            "{videos}, row 5: video_id is empty, expected an id",
        ),
        (two_histories, "{raw}: expected at most one user_history_to_*.parquet, found 2"),
        (broken_history, "{history}: "),
        (
            repeated_history,
            "{history}, row 2: user_id 1 has a row already, expected one row each",
        ),
        (
            history_of_numbers,
            "{history}: column 'watch_seq' is int64, expected lists of video ids",
        ),
        (one_class, "{raw}: task 'comment' has 0 positives in the 6 training rows where it is defined, expected both"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    raw = write_raw(tmp_path / "raw")
    damage(raw)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared below)
        prepare(Options(raw, tmp_path / "out", "feeds"))
    files = {"log": LOG_FILE, "users": USER_FILE, "videos": VIDEO_FILE, "history": HISTORY_FILE}
    expected = message.format(raw=raw, **{name: raw / file for name, file in files.items()})
    assert str(caught.value).startswith(expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history_length": 0}, "history_length 0: expected at least 1"),
        ({"min_count": 0}, "min_count 0: expected at least 1"),
        (
            {"train_from": datetime.date(2022, 5, 4)},
            "train_from 2022-05-04: expected a day before eval_from 2022-05-04",
        ),
        ({"eval_to": datetime.date(2022, 5, 3)}, "eval_to 2022-05-03: expected no day before eval_from 2022-05-04"),
        ({"include_random": True}, "expected files log_random_*.csv or .csv.gz, found none"),
        (
            {"eval_from": datetime.date(2022, 5, 1)},
            "no train row, dated 2022-05-01 to the day before 2022-05-01; the log runs from 2022-05-01 to 2022-05-05",
        ),
        ({"eval_from": datetime.date(2022, 6, 1)}, "no eval row, dated 2022-06-01 to 2022-05-05; the log runs from"),
    ],
)
def test_options_that_cannot_be_met(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    raw = write_raw(tmp_path / "raw")
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared below)
        prepare(Options(raw, tmp_path / "out", "feeds", **options))
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_foreign_destination_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(ValueError, match="is not a data set"):
        prepare(Options(tmp_path / "nowhere", tmp_path / "out", "feeds"))


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return python("data_prep.kuairand", *arguments)


def test_entry_point(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", gz=True)
    result = run("--raw", str(raw), "--out", str(tmp_path / "out"), "--tasks", "ads", "--eval-from", "2022-05-04")
    assert result.returncode == 0, result.stderr
    assert mentions(result.stdout, "train 6 rows", "eval 3 rows")
    assert mentions(result.stdout, "9 rows", 0, "dates")
    assert mentions(result.stdout, "unseen ids", "1 user_id, 1 video_id, 1 onehot_feat4, 1 author_id, 1 tag")
    assert (tmp_path / "out" / "schema.json").is_file()


def test_entry_point_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    remove(USER_FILE)(raw)
    result = run("--raw", str(raw), "--out", str(tmp_path / "out"), "--tasks", "ads")
    assert (result.returncode, result.stdout) == (2, "")
    assert mentions(result.stderr, "kuairand", raw, "user_features_*.csv")
    assert result.stderr.count("\n") == 1
    assert run("--raw", str(raw), "--out", str(tmp_path / "out"), "--tasks", "adds").returncode == 2
