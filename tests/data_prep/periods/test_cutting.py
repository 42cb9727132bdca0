"""Logs that are cut into days and hours."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from data_prep import parquet
from data_prep.engine import prepare
from data_prep.periods import cut_pass, cutting
from data_prep.sources import raw_text
from dlrm_mtl.continuation import Period
from dlrm_mtl.schema import STREAM, Schema, read_schema
from tests.data_prep.engine.test_preparation_errors import no_space
from tests.data_prep.logs import checksums, read_split
from tests.messages import naming

LAYOUT = """
name = "shop"
time_column = "at"
categorical = [{ column = "user" }, { column = "item", kind = "integer" }]
dense = [{ column = "price", standardise = true }]
labels = [{ name = "click" }]
tasks = [{ name = "click", label = "click" }]
"""
DAYS = ["2022-04-25", "2022-04-26", "2022-04-28"]


def lines_of(days: list[str], hours: int = 6) -> list[str]:
    return [
        f"{(hour + day) % 2},{date}T{hour:02d}:{minute:02d}:00,u{(hour * minute) % 7 + day},{minute + day},{hour}.5"
        for day, date in enumerate(days)
        for hour in range(hours)
        for minute in range(0, 60, 6)
    ]


def write_log(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(["click,at,user,item,price", *lines, ""]))
    return path


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    path = tmp_path / "shop.toml"
    path.write_text(LAYOUT)
    return path


@pytest.fixture
def run(layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Run":
    monkeypatch.setattr(raw_text, "SEGMENT_BYTES", 3000)
    monkeypatch.setattr(cut_pass, "CHUNK_ROWS", 25)
    return Run(layout, monkeypatch)


class Run:
    """The entry point, in this process."""

    def __init__(self, layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._layout = layout
        self._monkeypatch = monkeypatch

    def __call__(self, raw: Path, out: Path, *options: object) -> Path:
        arguments = ["--raw", raw, "--layout", self._layout, "--out", out, *options]
        self._monkeypatch.setattr(sys, "argv", ["parquet", *map(str, arguments)])
        parquet.main()
        return out


def columns_of(directory: Path) -> pa.Table:
    schema = read_schema(directory)
    return read_split(directory, schema, STREAM).select(["user", "item", "price", "click"])


def names_of(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))


def schema_of(directory: Path) -> Schema:
    return read_schema(directory)


def test_days_are_those_that_are_prepared_one_by_one(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(DAYS)
    raw = write_log(tmp_path / "log.csv", lines)
    days = run(raw, tmp_path / "days", "--every", "day", "--min-count", 2, "--table-max-ids", "user", 8)
    assert names_of(days) == DAYS
    assert "2022-04-27" in capsys.readouterr().out
    for number, day in enumerate(DAYS):
        of_day = write_log(tmp_path / f"{day}.csv", [line for line in lines if day in line])
        alone = tmp_path / f"alone-{day}"
        if number:
            run(of_day, alone, "--extend", tmp_path / f"alone-{DAYS[number - 1]}")
        else:
            run(of_day, alone, "--stream", True, "--min-count", 2, "--table-max-ids", "user", 8)
        cut, schema = schema_of(days / day), schema_of(alone)
        assert columns_of(days / day).equals(columns_of(alone))
        assert cut.fingerprints == schema.fingerprints
        assert cut.continues == schema.continues
        assert cut.source["files"] == [{"name": "log.csv", "rows": 60}]
        assert cut.source["unseen_before"] == schema.source["unseen_before"]
        assert cut.period is not None
        assert cut.period.start == f"{day}T00:00:00"
    assert schema_of(days / DAYS[2]).source["chain"]["reset"]["user"] > 0


def test_hours_of_numbers_in_any_order_and_in_parquet(run: Run, layout: Path, tmp_path: Path) -> None:
    layout.write_text(LAYOUT.replace("time_column", "time_column"))
    raw = write_log(tmp_path / "log.csv", lines_of(DAYS[:1], hours=3))
    table = pa.csv.read_csv(raw)
    seconds = table["at"].cast(pa.timestamp("s")).cast(pa.int64())
    table = table.set_column(1, "at", seconds).take(pa.array(range(len(table) - 1, -1, -1)))
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=7)
    hours = run(tmp_path / "log.parquet", tmp_path / "hours", "--every", "hour")
    assert names_of(hours) == ["2022-04-25T00", "2022-04-25T01", "2022-04-25T02"]
    assert schema_of(hours / "2022-04-25T01").period == Period("2022-04-25T01:00:00", "2022-04-25T02:00:00")
    from_text = run(raw, tmp_path / "from_text", "--every", "hour")
    for name in names_of(hours):
        rows, wanted = columns_of(hours / name), columns_of(from_text / name)
        assert rows["click"].to_pylist() == wanted["click"].to_pylist()[::-1]
        assert sorted(rows["item"].to_pylist()) == sorted(wanted["item"].to_pylist())


def test_later_days_are_added_and_finished_ones_left_alone(run: Run, tmp_path: Path) -> None:
    raw = write_log(tmp_path / "log.csv", lines_of(DAYS))
    whole = run(raw, tmp_path / "whole", "--every", "day")
    (tmp_path / "first").mkdir()
    days = run(write_log(tmp_path / "first/log.csv", lines_of(DAYS[:2])), tmp_path / "days", "--every", "day")
    before = checksums(days / DAYS[1])
    with pytest.raises(ValueError, match=naming(days)):
        run(raw, days, "--every", "day")
    for _ in range(2):
        run(raw, days, "--every", "day", "--extend", days / DAYS[1])
        assert names_of(days) == DAYS
        assert checksums(days / DAYS[1]) == before
        assert checksums(days / DAYS[2], "*/*.parquet") == checksums(whole / DAYS[2], "*/*.parquet")
        assert schema_of(days / DAYS[2]) == schema_of(whole / DAYS[2])
    with pytest.raises(ValueError, match=naming(f"{DAYS[2].replace('28', '29')}T00:00:00")):
        run(raw, days, "--every", "day", "--extend", days / DAYS[2])


def test_it_resumes_and_does_not_depend_on_workers(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # patches do not reach spawned workers
    raw, lines = tmp_path / "log", lines_of(DAYS)
    raw.mkdir()
    for part in range(3):
        write_log(raw / f"{part}.csv", lines[part::3])
    with monkeypatch.context() as patch:
        patch.setattr(cut_pass, "ParsedWriter", no_space)
        with pytest.raises(OSError, match=naming("days.partial")):
            run(raw, tmp_path / "days", "--every", "day")
    runs = prepare.run_preparation
    with monkeypatch.context() as patch:
        patch.setattr(cutting, "run_preparation", lambda part, *rest, **options: (
            no_space() if part.directory.out.name == DAYS[1] else runs(part, *rest, **options)
        ))  # fmt: skip
        with pytest.raises(OSError, match=naming("days.partial")):
            run(raw, tmp_path / "days", "--every", "day")
    first = (tmp_path / "days" / DAYS[0] / "schema.json").stat().st_mtime_ns
    with pytest.raises(ValueError, match=naming("days.partial", "every")):
        run(raw, tmp_path / "days", "--every", "hour")
    run(raw, tmp_path / "days", "--every", "day")
    assert (tmp_path / "days" / DAYS[0] / "schema.json").stat().st_mtime_ns == first
    run(raw, tmp_path / "two", "--every", "day", "--workers", 2)
    assert checksums(tmp_path / "two") == checksums(tmp_path / "days")


def test_bad_rows_go_to_the_day_of_the_row_before(run: Run, tmp_path: Path) -> None:
    lines = lines_of(DAYS)
    lines[3] = lines[3].replace(",2022-04-25T00:18:00,", ",,")
    lines[70] = lines[70].replace(",u", ",u,")
    lines.insert(100, "")
    raw = write_log(tmp_path / "log.csv", lines)
    with pytest.raises(ValueError, match=naming(raw, "line 5", "'at'")):
        run(raw, tmp_path / "stopped", "--every", "day")
    days = run(raw, tmp_path / "days", "--every", "day", "--on-bad-row", "quarantine")
    bad = [
        (day, row["file"], row["line"])
        for day in DAYS
        if (days / day / "quarantine.jsonl").is_file()
        for row in map(json.loads, (days / day / "quarantine.jsonl").read_text().splitlines())
    ]
    assert bad == [(DAYS[0], "log.csv", 5), (DAYS[1], "log.csv", 72), (DAYS[1], "log.csv", 102)]
    assert [schema_of(days / day).source["rows_quarantined"] for day in DAYS] == [1, 2, 0]
    assert sum(schema_of(days / day).source["rows_read"] for day in DAYS) == 181
    assert [schema_of(days / day).rows(STREAM) for day in DAYS] == [59, 59, 60]


def test_times_without_a_day_are_refused(run: Run, layout: Path, tmp_path: Path) -> None:
    lines = [line.replace("2022-04-25T00:", "") for line in lines_of(DAYS[:1], hours=1)]
    numbers = write_log(tmp_path / "numbers.csv", [line.replace(":00,", ",") for line in lines])
    with pytest.raises(ValueError, match=naming(numbers, "'at'", 0, 54)):
        run(numbers, tmp_path / "days", "--every", "day")
    layout.write_text(LAYOUT.replace('time_column = "at"', ""))
    with pytest.raises(ValueError, match=naming("every day", "time_column")):
        run(numbers, tmp_path / "other", "--every", "day")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    layout.write_text(LAYOUT)
    with pytest.raises(ValueError, match=naming("full", "notes.txt")):
        run(numbers, tmp_path / "full", "--every", "day")
