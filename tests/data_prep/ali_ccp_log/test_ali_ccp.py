"""Ali-CCP from files in its published format: against a plain join, with bad input, and after a kill."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.ali_ccp import prepare_ali_ccp
from data_prep.columns.layout import Layout, read_layout
from data_prep.engine import preparation
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.split import SplitOptions
from data_prep.sources import raw_text
from dlrm_mtl.meaning import without_fingerprint
from dlrm_mtl.schema import Schema, read_schema
from tests.data_prep.ali_ccp_log.raw_ali_ccp import (
    MULTI_HOT,
    common_line,
    feature_list,
    join,
    read_lines,
    row_line,
    write,
    write_lines,
)
from tests.messages import naming

PARTS = {"train": "train", "eval": "test"}


def run(raw: Path, out: Path, layout: Layout | None = None, ids: IdOptions | None = None, **work: Any) -> Schema:
    return prepare_ali_ccp(
        layout or read_layout("ali_ccp"), raw, out, ids or IdOptions(), SplitOptions(), WorkOptions(**work)
    )


def bytes_of(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def decoded(out: Path, split: str) -> list[dict[str, Any]]:
    """The rows of a split with values in place of ids: None where missing, "unseen" for unseen ones."""
    schema, layout = read_schema(out), read_layout("ali_ccp")
    tables = [pq.read_table(out / shard.file).to_pydict() for shard in schema.splits[split]]
    columns: dict[str, list[Any]] = {name: [v for table in tables for v in table[name]] for name in tables[0]}
    rows: dict[str, list[Any]] = {"click": columns["click"], "buy": columns["conversion"]}
    for feature in layout.categorical:
        vocabulary = pq.read_table(out / "vocabulary" / f"{feature.feature}.parquet")["value"].to_pylist()
        values = [None, "unseen", *(int(value) for value in vocabulary)]
        ids = columns[feature.feature]
        rows[feature.column] = [[values[i] for i in row] if feature.multi_hot else values[row] for row in ids]
    return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ali_ccp")
    write(directory)
    return directory


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    run(raw, out)
    return out


def test_every_value_is_that_of_a_plain_join(raw: Path, prepared: Path) -> None:
    known: dict[str, set[int]] = {}
    for row in join(raw, "train"):
        for field, value in row.items():
            known.setdefault(field, set()).update(
                value if isinstance(value, list) else [] if value is None else [value]
            )

    def seen(field: str, value: int | None) -> int | str | None:
        return value if value is None or value in known[field] or field in ("click", "buy") else "unseen"

    for split, part in PARTS.items():
        expected = [
            {f: [seen(f, i) for i in v] if isinstance(v, list) else seen(f, v) for f, v in row.items()}
            for row in join(raw, part)
        ]
        assert decoded(prepared, split) == expected
    assert any(value is None for row in decoded(prepared, "train") for value in row.values())
    assert any([] in row.values() for row in decoded(prepared, "train"))
    assert any("unseen" in str(row) for row in decoded(prepared, "eval"))


def test_schema(raw: Path, prepared: Path) -> None:
    assert without_fingerprint(read_schema(prepared).meaning) == []
    schema = read_schema(prepared)
    rows = join(raw, "train")
    clicked = [row for row in rows if row["click"]]
    assert [(task.name, task.label, task.given) for task in schema.tasks] == [
        ("click", "click", ""),
        ("conversion", "conversion", "click"),
        ("click_conversion", "conversion", ""),
    ]
    rates = {task.name: task.base_rate for task in schema.tasks}
    bought = sum(row["buy"] == 1 for row in rows)
    assert rates == pytest.approx(
        {"click": len(clicked) / len(rows), "conversion": bought / len(clicked), "click_conversion": bought / len(rows)}
    )
    assert {split: schema.rows(split) for split in schema.splits} == {"train": 300, "eval": 300}
    assert {feature.name for feature in schema.categorical if feature.multi_hot} == {
        feature.feature for feature in read_layout("ali_ccp").categorical if feature.column in MULTI_HOT
    }
    assert [file["name"] for file in schema.source["files"]] == [f"sample_skeleton_{p}.csv" for p in ("train", "test")]


def test_the_cluster_is_the_user_who_may_have_training_rows(raw: Path, prepared: Path) -> None:
    schema = read_schema(prepared)
    assert (schema.cluster, schema.segment_names) == ("user_id", ("user",))
    trained, evaluated = ([row["101"] for row in join(raw, part)] for part in ("train", "test"))
    expected = ["missing" if user is None else "known" if user in trained else "new" for user in evaluated]
    table = pa.concat_tables([pq.read_table(prepared / shard.file) for shard in schema.splits["eval"]])
    assert [schema.segments[0].values[code] for code in table["segment:user"].to_pylist()] == expected
    assert len(table["cluster:user_id"].unique().drop_null()) == len({*evaluated} - {None})
    with pytest.raises(ValueError, match=naming("'999'", "expected")):
        run(raw, prepared, replace(read_layout("ali_ccp"), cluster="999"))


def test_a_layout_may_leave_fields_out(raw: Path, prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "few.toml").write_text(
        """
        name = "few"
        labels = [{ name = "click" }]
        tasks = [{ name = "click", label = "click" }]
        categorical = [
            { column = "205", name = "item_id", kind = "integer" },
            { column = "110_14", name = "user_shops", kind = "integer", multi_hot = true },
        ]
        """
    )
    schema = run(raw, tmp_path / "out", read_layout(str(tmp_path / "few.toml")))
    assert [feature.name for feature in schema.categorical] == ["item_id", "user_shops"]
    for split in PARTS:
        [few], [all_] = (
            [pq.read_table(out / s.file) for s in read_schema(out).splits[split]]
            for out in (tmp_path / "out", prepared)
        )
        assert few.equals(all_.select(few.column_names))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{ column = "999", kind = "integer" }', "categorical '999': no field '999'; expected 101, "),
        ('{ column = "205" }', "categorical '205': expected kind integer, without a separator"),
    ],
)
def test_layouts_that_the_files_cannot_fill(raw: Path, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "l.toml").write_text(
        'name = "l"\nlabels = [{name = "click"}]\ntasks = [{name = "click", label = "click"}]\n'
        f"categorical = [{line}]"
    )
    with pytest.raises(ValueError, match="^" + message):
        run(raw, tmp_path / "out", read_layout(str(tmp_path / "l.toml")))


def test_compressed_files(raw: Path, prepared: Path, tmp_path: Path) -> None:
    write(tmp_path / "raw", suffix=".gz")
    run(tmp_path / "raw", tmp_path / "out")
    for split in PARTS:
        assert decoded(tmp_path / "out", split) == decoded(prepared, split)


def test_two_workers(raw: Path, prepared: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "out", workers=2)
    assert bytes_of(tmp_path / "out") == bytes_of(prepared)


def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_text, "SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(raw_text, "BLOCK_BYTES", 3_000)
    monkeypatch.setattr(preparation, "SEGMENT_BYTES", 20_000)


def test_segments_and_blocks_hold_the_same_rows(
    raw: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_segments(monkeypatch)
    schema = run(raw, tmp_path / "out")
    assert len(schema.splits["train"]) > 2
    for split in PARTS:
        assert decoded(tmp_path / "out", split) == decoded(prepared, split)


KILLED = """
import os, signal, sys
from pathlib import Path
from data_prep.engine.work_directory import WorkDirectory
from tests.data_prep.ali_ccp_log.test_ali_ccp import run
finish, left = WorkDirectory.finish, [{left}]
def killed(self, stage, key, record, files):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    finish(self, stage, key, record, files)
WorkDirectory.finish = killed
run(Path({raw!r}), Path({out!r}))
"""


@pytest.mark.parametrize("left", [0, 1, 3, 27])
def test_a_killed_preparation_goes_on(raw: Path, prepared: Path, tmp_path: Path, left: int) -> None:
    out = tmp_path / "out"
    code = KILLED.format(left=left, raw=str(raw), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    markers = list((tmp_path / "out.partial" / "work").glob("*/0*.json"))
    assert len(markers) == left
    run(raw, out)
    assert bytes_of(out) == bytes_of(prepared)
    assert not (tmp_path / "out.partial").exists()


def test_damaged_common_features_are_built_again(raw: Path, prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = KILLED.format(left=3, raw=str(raw), out=str(out))
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True)
    [damaged] = (tmp_path / "out.partial" / "work" / "common").glob("0000-110_14.npy")
    damaged.write_bytes(damaged.read_bytes()[:-8] + bytes(8))
    run(raw, out)
    assert bytes_of(out) == bytes_of(prepared)


def test_other_common_features_are_another_data_set(raw: Path, tmp_path: Path) -> None:
    write(tmp_path / "raw")
    run(tmp_path / "raw", tmp_path / "out")
    first = (tmp_path / "out" / "plan.json").read_text()
    run(tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out" / "plan.json").read_text() == first
    path = tmp_path / "raw" / "common_features_test.csv"
    lines = read_lines(path)
    write_lines(path, [*lines, common_line("another", [("101", 7)])])
    run(tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out" / "plan.json").read_text() != first


def item(**changes: Any) -> str:
    values: dict[str, Any] = {"sample": 1, "click": 0, "buy": 0, "index": "", "features": [("205", 5)]} | changes
    return row_line(values["sample"], values["click"], values["buy"], values["index"], values["features"])


BAD_ROWS: list[tuple[Callable[[str], str], str, str, str]] = [
    (lambda i: item(index=i, buy=1), "buy", "1", "a purchase without a click"),
    (lambda i: item(index=i, click=2), "click", "2", "expected a label, 0 or 1"),
    (lambda i: item(index=i, click=1, buy=""), "buy", "", "expected a label, 0 or 1"),
    (lambda i: item(index=f"{i}0"), "common_feature_index", "{index}0", "is no index of the common features"),
    (lambda i: item(index=i, features=[("999", 1)]), "feature_list", "999", "a field that this file does not have"),
    (lambda i: item(index=i, features=[("101", 1)]), "feature_list", "101", "a field that this file does not have"),
    (
        lambda i: item(index=i, features=[("205", 5), ("205", 6)]),
        "205",
        "6",
        "a second id of a one-hot field, the first is 5",
    ),
    (lambda i: item(index=i, features=[("205", "x")]), "205", "x", "expected a 64-bit integer"),
    (lambda i: item(index=i, features=[("210", 2**63)]), "210", str(2**63), "expected a 64-bit integer"),
    (lambda i: item(index=i, features=[("205", " 5")]), "205", " 5", "expected a 64-bit integer"),
    (lambda i: f"1,0,0,{i},1,205\x025\x03", "205", "", "expected a finite number"),
    (lambda i: f"1,0,0,{i},1,205\x025\x03nan", "205", "nan", "expected a finite number"),
    (
        lambda i: f"1,0,0,{i},1,205\x025",
        "feature_list",
        "205\x025",
        "expected a field, \\x02, an id, \\x03 and a number",
    ),
    (
        lambda i: f"1,0,0,{i},1,205\x035\x021",
        "feature_list",
        "205\x035\x021",
        "expected a field, \\x02, an id, \\x03 and a number",
    ),
    (lambda i: f"1,0,0,{i},2,205\x025\x031", "feature_num", "2", "the list has 1 features"),
    (lambda i: f"1,0,0,{i},1,", "feature_num", "1", "the list has 0 features"),
    (lambda i: f"1\0,0,0,{i},0,", "", "", "a carriage return or NUL inside the line"),
    (lambda i: f"1,0,0,{i}", "", "4 fields", "expected 6 fields"),
    (lambda i: "", "", "1 fields", "expected 6 fields"),
    (lambda i: f"1,0,0,{i}\r,0,", "", "", "a carriage return or NUL inside the line"),
]


@pytest.mark.parametrize("number", range(len(BAD_ROWS)))
def test_bad_rows(tmp_path: Path, number: int) -> None:
    make, column, value, reason = BAD_ROWS[number]
    write(tmp_path / "raw", rows=30)
    skeleton = tmp_path / "raw" / "sample_skeleton_train.csv"
    lines = read_lines(skeleton)
    index = read_lines(tmp_path / "raw" / "common_features_train.csv")[3].split(",")[0]
    value = value.format(index=index)
    write_lines(skeleton, [*lines[:7], make(index), *lines[7:]])
    fault = f"column {column!r}: {value!r}, {reason}" if column else f": {value}{', ' if value else ''}{reason}"
    with pytest.raises(ValueError) as error:  # noqa: PT011
        run(tmp_path / "raw", tmp_path / "out")
    assert str(error.value) == f"{skeleton}, line 8{', ' if column else ''}{fault}"


def test_bad_rows_in_quarantine(tmp_path: Path) -> None:
    write(tmp_path / "raw", rows=30)
    skeleton = tmp_path / "raw" / "sample_skeleton_train.csv"
    lines = read_lines(skeleton)
    index = read_lines(tmp_path / "raw" / "common_features_train.csv")[3].split(",")[0]
    bad = [make(index) for make, *_ in BAD_ROWS]
    write_lines(skeleton, [*lines[:7], *bad, *lines[7:]])
    schema = run(tmp_path / "raw", tmp_path / "out", on_bad_row="quarantine")
    rows = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert rows == [
        {
            "file": skeleton.name,
            "line": 8 + number,
            "column": column,
            "value": value.format(index=index),
            "reason": reason,
            "text": bad[number],
        }
        for number, (_, column, value, reason) in enumerate(BAD_ROWS)
    ]
    assert schema.source["rows_quarantined"] == len(BAD_ROWS)
    write_lines(skeleton, lines)
    assert decoded(tmp_path / "out", "train") == join(tmp_path / "raw", "train")


def test_a_list_may_be_empty(tmp_path: Path) -> None:
    write(tmp_path / "raw", rows=30)
    for name in ("sample_skeleton_train.csv", "common_features_train.csv"):
        path = tmp_path / "raw" / name
        lines = read_lines(path)
        start = lines[4].rsplit(",", 2)[0]
        write_lines(path, [*lines[:4], f"{start},0,", *lines[5:]])
    run(tmp_path / "raw", tmp_path / "out")
    assert decoded(tmp_path / "out", "train") == join(tmp_path / "raw", "train")


BAD_COMMON: list[tuple[Callable[[str], str], str]] = [
    (
        lambda i: common_line(i, [("101", 1)]),
        r"line 21, column 'common_feature_index': '{i}', is there twice, first in line 4",
    ),
    (
        lambda i: common_line("new", [("205", 1)]),
        "line 21, column 'feature_list': '205', a field that this file does not have",
    ),
    (
        lambda i: common_line("new", [("101", 1), ("101", 2)]),
        "line 21, column '101': '2', a second id of a one-hot field, the first is 1",
    ),
    (lambda i: f"new,3,{feature_list([('101', 1)])}", "line 21, column 'feature_num': '3', the list has 1 features"),
    (lambda i: "new", "line 21: 1 fields, expected 3 fields"),
]


@pytest.mark.parametrize("number", range(len(BAD_COMMON)))
def test_bad_common_features(tmp_path: Path, number: int) -> None:
    make, message = BAD_COMMON[number]
    write(tmp_path / "raw", rows=30)
    path = tmp_path / "raw" / "common_features_train.csv"
    lines = read_lines(path)
    index = lines[3].split(",")[0]
    write_lines(path, [*lines, make(index)])
    for policy in ("stop", "quarantine"):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            run(tmp_path / "raw", tmp_path / policy, on_bad_row=policy)
        assert str(error.value) == f"{path}, {message.format(i=index)}"


def test_files_that_are_not_there_or_wrong(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write(raw, rows=30)
    skeleton, common = raw / "sample_skeleton_test.csv", raw / "common_features_test.csv"
    moved = skeleton.rename(raw / "moved")
    with pytest.raises(ValueError, match=naming("sample_skeleton_test.csv", "not found")):
        run(raw, tmp_path / "out")
    skeleton.write_bytes(common.read_bytes())
    with pytest.raises(ValueError, match=naming("sample_skeleton_test.csv, line 1", 3, 6)):
        run(raw, tmp_path / "out")
    moved.replace(skeleton)
    write_lines(raw / "common_features_test.csv.gz", read_lines(common))
    with pytest.raises(ValueError, match=naming("common_features_test.csv.gz", "twice")):
        run(raw, tmp_path / "other")
    (raw / "common_features_test.csv.gz").unlink()
    common.write_bytes(b"")
    with pytest.raises(ValueError, match=naming("common_features_test.csv", "empty")):
        run(raw, tmp_path / "another")


def test_ids_of_64_bits(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write(raw, rows=30)
    path = raw / "common_features_train.csv"
    large = common_line("large", [("110_14", 2**63 - 1), ("101", -(2**63)), ("110_14", -5)])
    write_lines(path, [*read_lines(path), large])
    skeleton = raw / "sample_skeleton_train.csv"
    write_lines(skeleton, [*read_lines(skeleton), item(index="large", features=[("853", 2**62), ("205", 2**40)])])
    run(raw, tmp_path / "out")
    expected = join(raw, "train")
    assert expected[-1]["110_14"] == [2**63 - 1, -5]
    # The integer that marks a missing value elsewhere is an ordinary value here.
    assert expected[-1]["101"] == np.iinfo(np.int64).min
    assert decoded(tmp_path / "out", "train")[-1]["853"] == [2**62]
    assert decoded(tmp_path / "out", "train")[-1]["110_14"] == expected[-1]["110_14"]
