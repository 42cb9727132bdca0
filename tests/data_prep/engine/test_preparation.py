"""From raw logs to data sets: splits, bad rows, vocabularies, errors."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_prep.engine import preparation
from data_prep.engine.options import IdOptions
from data_prep.engine.split import SplitOptions
from data_prep.sources import raw_text, text_file
from dlrm_mtl.schema import Schema
from tests.data_prep.logs import (
    COLUMNS,
    CONTEXT,
    HEADED,
    LAYOUT,
    checksums,
    compressed,
    finish,
    lines_of,
    read_split,
    run_prepare,
    start,
    words,
    write_bytes,
    write_log,
    write_toml,
)
from tests.messages import mentions, naming

HASH = IdOptions("hash", max_ids=100)
BAD = ["1\t2", "2" + "\t" * 7, "1\tx" + "\t" * 6, "1\t\t\tzzzzzzzz" + "\t" * 4, "\udcff" + "\t" * 7, ""]


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments and blocks of a few rows."""
    monkeypatch.setattr(raw_text, "SEGMENT_BYTES", 3000)
    monkeypatch.setattr(raw_text, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(preparation, "SEGMENT_BYTES", 3000)


def shards(out: Path) -> dict[str, str]:
    return checksums(out, "*.parquet")


def column(lines: list[str], name: str) -> list[str]:
    return [line.split("\t")[COLUMNS.index(name)] for line in lines]


def accounted(schema: Schema) -> int:
    source = schema.source
    used = schema.rows("train") + schema.rows("eval") + source["rows_outside"]
    return int(used + source["rows_quarantined"] + source["lines_ignored"])


def test_rows_become_what_they_should(tmp_path: Path) -> None:
    lines = lines_of(500)
    log = write_log(tmp_path / "log", lines)
    schema = run_prepare(log, tmp_path / "out", ids=IdOptions(min_count=3))
    train, evaluation = (read_split(tmp_path / "out", schema, split).to_pydict() for split in ("train", "eval"))
    assert (len(train["click"]), len(evaluation["click"])) == (450, 50)
    found = {name: train[name] + evaluation[name] for name in train}
    assert found["click"] == [int(text) for text in column(lines, "click")]

    counts = [text and math.log(max(float(text) + 3.0, 1.0)) for text in column(lines, "count")]
    assert found["count"] == pytest.approx([value or 0.0 for value in counts], rel=1e-6)
    assert found["count_missing"] == [float(text == "") for text in column(lines, "count")]
    known = [float(text) for text in column(lines[:450], "weight") if text]
    weights = [(float(text) - np.mean(known)) / np.std(known) if text else 0.0 for text in column(lines, "weight")]
    assert found["weight"] == pytest.approx(weights, rel=1e-4, abs=1e-5)

    for name in ("site", "user", "word"):
        values = column(lines, name)
        learnt = pq.read_table(tmp_path / "out" / "vocabulary" / f"{name}.parquet").to_pydict()
        wanted = {value: count for value, count in Counter(values[:450]).items() if value and count >= 3}
        assert dict(zip(map(str, learnt["value"]), learnt["count"], strict=True)) == wanted
        ids = {str(value): number + 2 for number, value in enumerate(learnt["value"])}
        assert found[name] == [ids.get(value, 1) if value else 0 for value in values]
        assert schema.categorical[[f.name for f in schema.categorical].index(name)].cardinality == len(wanted) + 2
        unseen = sum(number == 1 for number in evaluation[name])
        assert schema.source["unseen"]["eval"].get(name, 0) == unseen
        assert schema.source["missing"]["eval"].get(name, 0) == sum(number == 0 for number in evaluation[name])
    tags = [text.split("|") if text else [] for text in column(lines, "tags")]
    assert [len(ids) for ids in found["tags"]] == [len(some) for some in tags]


@pytest.mark.usefixtures("small_segments")
def test_shards_are_the_same_for_plain_and_compressed_logs(tmp_path: Path) -> None:
    lines = [line if number % 97 else "bad" for number, line in enumerate(lines_of(600), 1)]
    split = SplitOptions(train_rows="0:500", eval_rows="500:")
    found = []
    for suffix in ("", ".gz", ".zst"):
        log = write_log(tmp_path / suffix / f"log{suffix}", lines)
        out = tmp_path / f"out{suffix}"
        schema = run_prepare(log, out, split=split, quarantine=True)
        assert len(schema.splits["train"]) > 3
        rows = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
        assert [row["line"] for row in rows] == list(range(97, 600, 97))
        assert {row["file"] for row in rows} == {f"log{suffix}"}
        found.append(shards(out))
    assert found[0] == found[1] == found[2]


def test_shards_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    for number in range(4):
        lines = [line if row % 50 else "bad" for row, line in enumerate(lines_of(200, seed=number), 1)]
        write_log(tmp_path / "raw" / f"day_{number}{'.gz' if number % 2 else ''}", lines)
    layout = write_toml(tmp_path / "small.toml")
    found = []
    for workers in (1, 2, 3):
        out = tmp_path / f"out{workers}"
        arguments = words("--raw", tmp_path / "raw", "--out", out, "--layout", layout, "--workers", workers)
        options = ["--on-bad-row", "quarantine", "--train-rows", "0:500", "--eval-rows", "500:"]
        code, errors = finish(start([*arguments, *options, *CONTEXT]))
        assert (code, errors) == (0, "")
        found.append(checksums(out))
    assert found[0] == found[1] == found[2]
    assert "quarantine.jsonl" in found[0]


def test_default_splits(tmp_path: Path) -> None:
    lines = lines_of(95)
    one = run_prepare(write_log(tmp_path / "one", lines), tmp_path / "out1", ids=HASH)
    assert (one.rows("train"), one.rows("eval")) == (86, 9)
    files = [write_log(tmp_path / "raw" / f"day_{day}", lines_of(rows)) for day, rows in ((2, 40), (10, 30), (1, 20))]
    assert files
    days = run_prepare(tmp_path / "raw", tmp_path / "out2", ids=HASH)
    # By number: day_1, day_2, day_10.
    assert [file["name"] for file in days.source["files"]] == ["day_1", "day_2", "day_10"]
    assert (days.rows("train"), days.rows("eval")) == (60, 30)


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("layout", [LAYOUT, HEADED])
def test_splits_by_files_and_rows(tmp_path: Path, layout: Any) -> None:
    all_lines = []
    for day in range(3):
        lines = lines_of(150, seed=day)
        write_log(tmp_path / "raw" / f"day_{day}{'.gz' if day == 1 else ''}", lines, header=layout is HEADED)
        all_lines += lines
    options = SplitOptions(train_files="0:2", train_rows="20:220", eval_files="1:", eval_rows="230:400")
    schema = run_prepare(tmp_path / "raw", tmp_path / "out", layout, split=options)
    for split, rows in (("train", all_lines[20:220]), ("eval", all_lines[230:400])):
        table = read_split(tmp_path / "out", schema, split).to_pydict()
        assert table["click"] == [int(text) for text in column(rows, "click")]
        assert [value == 1.0 for value in table["weight_missing"]] == [text == "" for text in column(rows, "weight")]
    assert schema.source["rows_outside"] == 450 - 200 - 170
    assert schema.source["rows_read"] == 450 == accounted(schema)


def test_overlapping_splits_are_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", lines_of(50))
    for options in (
        SplitOptions(train_rows="0:30", eval_rows="29:"),
        SplitOptions(train_rows="0:30"),
        SplitOptions(eval_files="0:1"),
        SplitOptions(train_files="0:2", eval_files="1:3", train_rows="0:100", eval_rows="50:60"),
    ):
        with pytest.raises(ValueError, match="share rows"):
            run_prepare(log, tmp_path / "out", split=options)
    for text in ("5", "5:5", "6:2", "a:", ":-1", "1:2:3"):
        with pytest.raises(ValueError, match=f"train_rows '{text}': expected a range"):
            run_prepare(log, tmp_path / "out", split=SplitOptions(train_rows=text))
    assert list(tmp_path.iterdir()) == [log]


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("layout", [LAYOUT, HEADED])
def test_every_bad_row_is_in_quarantine(tmp_path: Path, suffix: str, layout: Any) -> None:
    header = int(layout is HEADED)
    good = lines_of(400)
    lines: list[str] = []
    bad: dict[int, str] = {}
    for number, line in enumerate(good):
        if number % 23 == 5:
            bad[len(lines) + 1 + header] = BAD[len(bad) % len(BAD)]
            lines.append(BAD[(len(bad) - 1) % len(BAD)])
        lines.append(line)
    split = SplitOptions(train_files="0:1", eval_files="1:2")
    first = write_log(tmp_path / f"a{suffix}", lines, header=bool(header))
    second = write_log(tmp_path / f"b{suffix}", lines, header=bool(header))
    out = tmp_path / "out"
    schema = run_prepare([first, second], out, layout, split=split, quarantine=True)
    found = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert len(bad) > 12
    assert [(row["file"], row["line"], row["text"]) for row in found] == [
        (path.name, line, text) for path in (first, second) for line, text in bad.items()
    ]
    reasons = [row["reason"] for row in found[: len(BAD)]]
    assert reasons == [
        "expected 8 fields",
        "expected a label, 0 or 1",
        "expected a 64-bit integer",
        "expected 8 hexadecimal digits",
        "expected UTF-8 text",
        "expected 8 fields",
    ]
    assert [row["column"] for row in found[: len(BAD)]] == ["", "click", "count", "site", "click", ""]
    assert schema.source["rows_quarantined"] == len(found)
    assert schema.source["rows_read"] == 2 * len(lines) == accounted(schema)

    clean = [write_log(tmp_path / "clean" / path.name, good, header=bool(header)) for path in (first, second)]
    without = run_prepare(clean, tmp_path / "out2", layout, split=split)
    for name in ("train", "eval"):
        one, other = read_split(out, schema, name), read_split(tmp_path / "out2", without, name)
        # Bad rows move others to other segments, whose sums are added in another order.
        assert one["weight"].to_pylist() == pytest.approx(other["weight"].to_pylist(), rel=1e-5, abs=1e-6)
        assert one.drop(["weight"]).equals(other.drop(["weight"]))
    assert not (tmp_path / "out2" / "quarantine.jsonl").exists()


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("suffix", ["", ".zst"])
@pytest.mark.parametrize("layout", [LAYOUT, HEADED])
def test_the_first_bad_row_stops(tmp_path: Path, suffix: str, layout: Any) -> None:
    lines = lines_of(300)
    lines[250] = "\t".join(["1", "7", "heavy", *lines[250].split("\t")[3:]])
    log = write_log(tmp_path / f"log{suffix}", lines, header=layout is HEADED)
    for ids in (HASH, IdOptions()):
        with pytest.raises(ValueError, match="line") as error:
            run_prepare(log, tmp_path / ids.ids, layout, ids=ids, split=SplitOptions("", "", "0:200", "200:"))
        line = 251 + (layout is HEADED)
        assert mentions(str(error.value), f"{log}, line {line}, column 'weight'", "'heavy'", "finite")
        assert not (tmp_path / ids.ids).exists()
        assert not list((tmp_path / f"{ids.ids}.partial" / "data").rglob("*.tmp"))


def test_a_bad_first_line_is_a_bad_row(tmp_path: Path) -> None:
    lines = ["", "half a line", *lines_of(60)]
    log = write_log(tmp_path / "log", lines)
    schema = run_prepare(log, tmp_path / "out", ids=HASH, quarantine=True)
    assert schema.source["rows_quarantined"] == 2
    with pytest.raises(ValueError, match=naming("line 1", 1, 8)):
        run_prepare(log, tmp_path / "other", ids=HASH)
    comma = write_log(tmp_path / "comma", [line.replace("\t", ",") for line in lines_of(60)])
    with pytest.raises(ValueError, match=naming("comma, line 1", 1, "'small'", 8, r"'\t'")):
        run_prepare(comma, tmp_path / "other", ids=HASH, quarantine=True)


def test_a_byte_order_mark_is_no_part_of_the_first_value(tmp_path: Path) -> None:
    lines = lines_of(60)
    marked = write_log(tmp_path / "marked" / "log", ["\ufeff" + lines[0], *lines[1:]])
    plain = write_log(tmp_path / "plain" / "log", lines)
    # Also with a bad row, so that every line is parsed by itself.
    worse = write_log(tmp_path / "worse" / "log", ["\ufeff" + lines[0], *lines[1:], "bad"])
    split = SplitOptions(train_rows="0:50", eval_rows="50:60")
    for path, out in ((marked, "out1"), (plain, "out2"), (worse, "out3")):
        run_prepare(path, tmp_path / out, split=split, quarantine=True)
    assert shards(tmp_path / "out1") == shards(tmp_path / "out2") == shards(tmp_path / "out3")


def test_when_every_row_is_bad(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", ["7" + "\t" * 7] * 20)
    with pytest.raises(ValueError, match=naming("train")):
        run_prepare(log, tmp_path / "out", ids=HASH, quarantine=True)


def test_comments_and_empty_lines_are_ignored(tmp_path: Path) -> None:
    layout = replace(LAYOUT, comment="#")
    lines = lines_of(60)
    log = write_log(tmp_path / "log", ["# made by hand", "", *lines[:30], "#" + lines[0], "", *lines[30:]])
    schema = run_prepare(log, tmp_path / "out", layout, ids=HASH, split=SplitOptions("", "", "0:50", "50:"))
    assert schema.source["lines_ignored"] == 4
    assert schema.source["rows_read"] == 64 == accounted(schema)
    assert schema.rows("train") + schema.rows("eval") == 60


def test_caps_and_expansions(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", lines_of(400))
    ids = IdOptions(max_ids=20, table_max_ids={"site": 5}, multi_hot={"user": 3})
    schema = run_prepare(log, tmp_path / "out", ids=ids)
    cardinalities = {feature.name: feature.cardinality for feature in schema.categorical}
    assert (cardinalities["site"], cardinalities["word"]) == (5, 20)
    kept = pq.read_table(tmp_path / "out" / "vocabulary" / "site.parquet")["value"].to_pylist()
    counts = Counter(value for value in column(lines_of(400)[:360], "site") if value)
    first = sorted(counts, key=lambda value: (-counts[value], value))[:3]
    assert kept == sorted(first)
    users = read_split(tmp_path / "out", schema, "train")["user"].to_pylist()
    assert {len(row) for row in users} == {3}
    hashed = run_prepare(log, tmp_path / "hashed", ids=replace(HASH, table_max_ids={"site": 7}))
    table = read_split(tmp_path / "hashed", hashed, "train").to_pydict()
    assert max(table["site"]) == 6
    assert max(table["word"]) < 100


def test_a_table_without_any_value(tmp_path: Path) -> None:
    lines = ["\t".join(["1" if row % 3 else "0", *[""] * 7]) for row in range(50)]
    schema = run_prepare(write_log(tmp_path / "log", lines), tmp_path / "out")
    assert {feature.cardinality for feature in schema.categorical} == {2}
    train = read_split(tmp_path / "out", schema, "train").to_pydict()
    assert train["site"] == [0] * 45
    assert train["tags"] == [[]] * 45
    assert np.isfinite(train["weight"]).all()


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("ids", ["hash", "vocabulary"])
def test_a_file_that_breaks_off(tmp_path: Path, suffix: str, ids: str) -> None:
    # A block of zstd holds 128 KiB.
    lines = lines_of(8000)
    whole = compressed("".join(f"{line}\n" for line in lines).encode(), suffix)
    broken = write_bytes(tmp_path / "x", whole[: len(whole) // 2]).rename(tmp_path / f"day_0{suffix}")
    last = write_log(tmp_path / f"day_1{suffix}", lines_of(100))
    options = HASH if ids == "hash" else IdOptions()
    # By rows, so that the lines are counted first.
    split = SplitOptions(train_files="0:1", eval_files="1:2", train_rows="0:1000000", eval_rows="0:1000000")
    with pytest.raises(ValueError, match=naming(broken.name)):
        run_prepare([broken, last], tmp_path / "stopped", ids=options, split=split)
    for by_rows in (True, False):
        out = tmp_path / f"out{by_rows}"
        ranges = split if by_rows else SplitOptions(train_files="0:1", eval_files="1:2")
        schema = run_prepare([broken, last], out, ids=options, split=ranges, quarantine=True)
        (row,) = map(json.loads, (out / "quarantine.jsonl").read_text().splitlines())
        read = schema.rows("train")
        assert 500 < read < 8000
        assert (row["file"], row["line"]) == (broken.name, read + 1)
        assert mentions(row["reason"], f"line {read}")
        assert schema.rows("eval") == 100
        table = read_split(out, schema, "train")
        assert table["click"].to_pylist() == [int(text) for text in column(lines[:read], "click")]


def test_log_in_braces(tmp_path: Path) -> None:
    directory = tmp_path / "{a} {0}"
    broken = write_bytes(directory / "x", b"\x1f\x8bnothing").rename(directory / "day_0.gz")
    with pytest.raises(ValueError, match=naming("day_0.gz")):
        run_prepare([broken, write_log(directory / "day_1", lines_of(50))], tmp_path / "out")


def test_numbers_too_large_for_the_data_set_are_bad(tmp_path: Path) -> None:
    lines = lines_of(60)
    lines[30] = "\t".join(["1", "5", "1e39", *lines[30].split("\t")[3:]])
    schema = run_prepare(write_log(tmp_path / "log", lines), tmp_path / "out", quarantine=True)
    assert schema.source["rows_quarantined"] == 1
    assert math.isfinite(schema.source["dense_scaling"]["weight"]["mean"])


@pytest.mark.usefixtures("small_segments")
def test_lines_are_not_counted_again_for_every_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line if number % 20 else "bad" for number, line in enumerate(lines_of(1500), 1)]
    log = write_log(tmp_path / "log", lines)
    read = []
    original = text_file.TextFile.read_into

    def read_into(file: text_file.TextFile, buffer: memoryview) -> int:
        read.append(original(file, buffer))
        return read[-1]

    monkeypatch.setattr(text_file.TextFile, "read_into", read_into)
    run_prepare(log, tmp_path / "out", ids=HASH, split=SplitOptions("", "", "0:1000", "1000:"), quarantine=True)
    found = [json.loads(line)["line"] for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert found == list(range(20, 1501, 20))
    # Once for the numbers of the rows, once for mean and deviation, once for the shards, each time with two blocks more
    # for the three of a segment.
    assert sum(read) < 6 * log.stat().st_size
