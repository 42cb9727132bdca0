"""Ali-CCP from bad files: the line, the column and the value are named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data_prep.ali_ccp_log.prepared import decoded, run
from tests.data_prep.ali_ccp_log.raw_ali_ccp import (
    common_line,
    feature_list,
    join,
    read_lines,
    row_line,
    write,
    write_lines,
)
from tests.messages import mentions, naming


def item(**changes: Any) -> str:
    values: dict[str, Any] = {"sample": 1, "click": 0, "buy": 0, "index": "", "features": [("205", 5)]} | changes
    return row_line(values["sample"], values["click"], values["buy"], values["index"], values["features"])


BAD_ROWS: list[tuple[Callable[[str], str], str, str, list[object]]] = [
    (lambda i: item(index=i, buy=1), "buy", "1", []),
    (lambda i: item(index=i, click=2), "click", "2", []),
    (lambda i: item(index=i, click=1, buy=""), "buy", "", []),
    (lambda i: item(index=f"{i}0"), "common_feature_index", "{index}0", []),
    (lambda i: item(index=i, features=[("999", 1)]), "feature_list", "999", []),
    (lambda i: item(index=i, features=[("101", 1)]), "feature_list", "101", []),
    (lambda i: item(index=i, features=[("205", 5), ("205", 6)]), "205", "6", [5]),
    (lambda i: item(index=i, features=[("205", "x")]), "205", "x", ["64-bit integer"]),
    (lambda i: item(index=i, features=[("210", 2**63)]), "210", str(2**63), ["64-bit integer"]),
    (lambda i: item(index=i, features=[("205", " 5")]), "205", " 5", ["64-bit integer"]),
    (lambda i: f"1,0,0,{i},1,205\x025\x03", "205", "", ["finite number"]),
    (lambda i: f"1,0,0,{i},1,205\x025\x03nan", "205", "nan", ["finite number"]),
    (lambda i: f"1,0,0,{i},1,205\x025", "feature_list", "205\x025", []),
    (lambda i: f"1,0,0,{i},1,205\x035\x021", "feature_list", "205\x035\x021", []),
    (lambda i: f"1,0,0,{i},2,205\x025\x031", "feature_num", "2", [1]),
    (lambda i: f"1,0,0,{i},1,", "feature_num", "1", [0]),
    (lambda i: f"1\0,0,0,{i},0,", "", "", ["NUL"]),
    (lambda i: f"1,0,0,{i}", "", "4 fields", [6]),
    (lambda i: "", "", "1 fields", [6]),
    (lambda i: f"1,0,0,{i}\r,0,", "", "", ["carriage return"]),
]
"""Line, the column and the value that are named, and what else is."""


@pytest.mark.parametrize(("make", "column", "value", "named"), BAD_ROWS)
def test_bad_rows(tmp_path: Path, make: Callable[[str], str], column: str, value: str, named: list[object]) -> None:
    skeleton, index = written(tmp_path / "raw")
    lines = read_lines(skeleton)
    write_lines(skeleton, [*lines[:7], make(index), *lines[7:]])
    with pytest.raises(ValueError, match=r", line 8\b") as error:
        run(tmp_path / "raw", tmp_path / "out")
    value = value.format(index=index)
    place = f"{skeleton}, line 8" + (f", column {column!r}: {value!r}, " if column else f": {value}")
    assert str(error.value).startswith(place)
    assert mentions(str(error.value).removeprefix(place), *named)


def written(raw: Path) -> tuple[Path, str]:
    """The training rows of files in ``raw``, and an index that they may have."""
    write(raw, rows=30)
    return raw / "sample_skeleton_train.csv", read_lines(raw / "common_features_train.csv")[3].split(",")[0]


def test_bad_rows_in_quarantine(tmp_path: Path) -> None:
    skeleton, index = written(tmp_path / "raw")
    lines, bad = read_lines(skeleton), [make(index) for make, *_ in BAD_ROWS]
    write_lines(skeleton, [*lines[:7], *bad, *lines[7:]])
    schema = run(tmp_path / "raw", tmp_path / "out", on_bad_row="quarantine")
    rows = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    for number, (row, (_, column, value, named)) in enumerate(zip(rows, BAD_ROWS, strict=True)):
        assert mentions(row.pop("reason"), *named)
        place = {"file": skeleton.name, "line": 8 + number, "column": column, "value": value.format(index=index)}
        assert row == {**place, "text": bad[number]}
    assert schema.source["rows_quarantined"] == len(BAD_ROWS)
    write_lines(skeleton, lines)
    assert decoded(tmp_path / "out", "train") == join(tmp_path / "raw", "train")


BAD_COMMON: list[tuple[Callable[[str], str], list[object]]] = [
    (lambda i: common_line(i, [("101", 1)]), ["common_feature_index", "{i}", "line 4"]),
    (lambda i: common_line("new", [("205", 1)]), ["feature_list", "205"]),
    (lambda i: common_line("new", [("101", 1), ("101", 2)]), ["101", 2, 1]),
    (lambda i: f"new,3,{feature_list([('101', 1)])}", ["feature_num", 3, 1]),
    (lambda i: "new", [1, 3]),
]


@pytest.mark.parametrize(("make", "named"), BAD_COMMON)
def test_bad_common_features(tmp_path: Path, make: Callable[[str], str], named: list[object]) -> None:
    path = tmp_path / "raw" / "common_features_train.csv"
    _, index = written(tmp_path / "raw")
    write_lines(path, [*read_lines(path), make(index)])
    for policy in ("stop", "quarantine"):
        with pytest.raises(ValueError, match=naming(f"{path}, line 21", *(str(n).format(i=index) for n in named))):
            run(tmp_path / "raw", tmp_path / policy, on_bad_row=policy)


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
