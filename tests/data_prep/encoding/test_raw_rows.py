"""Raw rows that cannot be read: column, row and value are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_prep.encoding.encoding import Encoding, of_encoded
from data_prep.encoding.files import read_encoding
from data_prep.encoding.raw_rows import RawRows
from dlrm_mtl.schema import read_schema
from tests.data_prep.logs import lines_of, run_prepare, write_log
from tests.messages import naming

pd = pytest.importorskip("pandas")

ROW = {"count": 3, "weight": 0.5, "site": "0a0B0c0d", "user": -7, "word": "wörd1", "tags": "t1|t2"}
IDS = {"user": 3, "item": 29, "history": [1, 29], "tags": [], "age": 0.5, "price": -1.0}


@pytest.fixture(scope="module")
def encoding(tmp_path_factory: pytest.TempPathFactory) -> Encoding:
    directory = tmp_path_factory.mktemp("raw")
    run_prepare(write_log(directory / "log", lines_of(300)), directory / "data")
    return read_encoding(directory / "data", read_schema(directory / "data").meaning)


def test_missing_values(encoding: Encoding) -> None:
    """None, NaN and the texts that stand for a missing value in the log; an empty list of a multi-hot text."""
    missing: list[dict[str, Any]] = [
        dict.fromkeys(ROW),
        {**dict.fromkeys(ROW, ""), "count": None, "user": None, "weight": None},
    ]
    missing += [dict.fromkeys(ROW, float("nan"))]
    for rows in (missing, pd.DataFrame(missing), pa.Table.from_pylist(missing[:2])):
        table = RawRows(encoding).read(rows)
        assert [column.null_count for column in table.columns] == [len(table)] * len(ROW)


def test_numbers_of_any_type(encoding: Encoding) -> None:
    """pandas makes floats of integers where a value is missing."""
    rows = [
        {**ROW, "count": np.int16(3), "user": 7.0},
        {**ROW, "count": True, "weight": 2**60},
        {**ROW, "user": None, "word": 15, "weight": np.float32(0.5)},
    ]
    expected = {
        "count": [3, 1, 3],
        "user": [7, -7, None],
        "word": ["wörd1", "wörd1", "15"],
        "weight": [0.5, 2.0**60, 0.5],
    }
    table = RawRows(encoding).read(rows)
    assert {name: table[name].to_pylist() for name in expected} == expected
    assert RawRows(encoding).read([{**row, "more": object()} for row in rows]).equals(table)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 2.5),
        ("count", "3"),
        ("count", 2**63),
        ("weight", "heavy"),
        ("weight", 1e39),
        ("weight", [1.0]),
        ("site", "0a0b0c0"),
        ("site", 10),
        ("user", b"7"),
        ("word", 2.0),
        ("word", ["a"]),
        ("word", b"\xff"),
        ("word", {}),
        ("tags", 1.5),
    ],
)
def test_a_value_of_a_wrong_type_is_named(encoding: Encoding, name: str, value: Any) -> None:
    for before in (ROW, {**ROW, "user": None}):
        with pytest.raises(ValueError, match=naming("row 2", repr(name))) as error:
            RawRows(encoding).read([before, before, {**ROW, name: value}, {**ROW, name: value}])
        assert repr(value)[:20] in str(error.value)


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([ROW, {name: value for name, value in ROW.items() if name != "word"}], ("row 1", "'word'")),
        ([ROW, 3], ("row 1", "3")),
        ([ROW, "word"], ("row 1", "'word'")),
        (ROW, ("'count': 3",)),
        ("rows.csv", ("'rows.csv'",)),
        (pa.table({"count": [1]}), ("'site'", "count")),
        (pd.DataFrame([ROW]).drop(columns="site"), ("'site'", "count, weight, user")),
        (pa.Table.from_pylist([ROW]).append_column("word", pa.array(["b"])), ("'word'", "twice")),
        (pa.table({**pa.Table.from_pylist([ROW]).to_pydict(), "word": [pa.scalar(0.5)]}), ("row 0", "'word'", "0.5")),
    ],
)
def test_a_column_that_is_not_there_is_named(encoding: Encoding, rows: Any, parts: Any) -> None:
    with pytest.raises(ValueError, match=naming(*parts)):
        RawRows(encoding).read(rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [("user", 50), ("user", -1), ("user", None), ("history", [2, 30]), ("tags", [7]), ("tags", 3), ("age", None)],
)
def test_ids_and_values_must_be_in_range(small_dataset: Path, name: str, value: Any) -> None:
    rows = RawRows(of_encoded(read_schema(small_dataset)))
    assert rows.read([IDS, {**IDS, "tags": None}])["tags"].to_pylist() == [[], []]
    with pytest.raises(ValueError, match=naming("row 1", repr(name), value)):
        rows.read([IDS, {**IDS, name: value}, {**IDS, name: value}])
