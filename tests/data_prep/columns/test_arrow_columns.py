"""Values of every Arrow type, read for each use of a layout."""

import datetime
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.columns.arrow_columns import Column, read_lists, read_values
from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, Layout
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from data_prep.ids.keys import keys_of
from data_prep.sources.parquet_log import ParquetLog
from dlrm_mtl.model_schema import Task
from tests.messages import naming

INTEGERS = [
    pa.int8(),
    pa.uint8(),
    pa.int16(),
    pa.uint16(),
    pa.int32(),
    pa.uint32(),
    pa.int64(),
    pa.uint64(),
    pa.float16(),
    pa.float32(),
    pa.float64(),
    pa.decimal32(5, 1),
    pa.decimal64(12, 3),
    pa.decimal128(38, 0),
    pa.decimal128(20, 10),
    pa.decimal256(70, 5),
]
"""Types that hold the integers from 0 to 127."""

LISTS = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda kind: pa.list_(kind, 2)]


def array_of(values: Sequence[int | None], kind: pa.DataType) -> pa.Array:
    if pa.types.is_floating(kind):
        return pa.array(np.array([0 if value is None else value for value in values]), pa.int64()).cast(kind)
    if pa.types.is_decimal(kind):
        return pa.array([None if value is None else Decimal(value) for value in values], kind)
    return pa.array(values, kind)


def bad_rows(column: Column) -> list[int]:
    return sorted({int(row) for mask, _ in column.faults for row in np.flatnonzero(mask)})


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
def test_an_integer_has_one_key_whatever_its_type(kind: pa.DataType) -> None:
    values = array_of([123, 0, 7], kind)
    forms = [values, values.slice(1)]
    if kind.bit_width > 16 and not pa.types.is_decimal(kind):
        forms.append(values.dictionary_encode())
    for form in forms:
        wanted = [123, 0, 7][-len(form) :]
        for use, expected in (("string", [str(value) for value in wanted]), ("integer", wanted)):
            column = read_values(form, use, narrow_fractions=False)
            assert column.values.to_pylist() == expected
            assert bad_rows(column) == []
            reference = pa.array(expected, pa.string() if use == "string" else pa.int64())
            assert keys_of(column.values).tolist() == keys_of(reference).tolist()


@pytest.mark.parametrize("list_of", LISTS)
@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(12, 2)], ids=str)
def test_so_has_one_in_a_list_of_any_kind(kind: pa.DataType, list_of: Any) -> None:
    pairs: list[Any] = [[5, 6], None, [7, 8]]
    pairs = [pair and [Decimal(item) for item in pair] for pair in pairs] if pa.types.is_decimal(kind) else pairs
    lists = pa.array([*pairs, pairs[0]], list_of(kind)).slice(1)
    assert read_lists(lists, "integer", narrow_fractions=False).values.to_pylist() == [[], [7, 8], [5, 6]]
    assert read_lists(lists, "string", narrow_fractions=False).values.to_pylist() == [[], ["7", "8"], ["5", "6"]]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([-0.0, 0.5, 1e-7, -2.5e-5, 2.0**53 - 1, 12345678901.5]), ["0", "0.5", "0.0000001", "-0.000025"]),
        (pa.array([Decimal("0.50"), Decimal("-0.0000250")], pa.decimal128(20, 10)), ["0.5", "-0.000025"]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([Decimal(10) ** 37], pa.decimal128(38, 0)), ["1" + "0" * 37]),
        (pa.array([0.1], pa.float32()), ["0.10000000149011612"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([b"a", "ä".encode(), None], pa.large_binary()), ["a", "ä", None]),
        (pa.array([b"ab"], pa.binary(2)), ["ab"]),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (pa.nulls(2), [None, None]),
        (pa.array([datetime.date(2024, 1, 31)], pa.date32()), ["2024-01-31"]),
        (pa.array([datetime.date(2024, 1, 31)], pa.date64()), ["2024-01-31"]),
        (pa.array([1_500, -1], pa.timestamp("ms")), ["1970-01-01 00:00:01.5", "1969-12-31 23:59:59.999"]),
        (pa.array([3_600_000_000_001], pa.timestamp("ns", "Europe/Berlin")), ["1970-01-01 01:00:00.000000001Z"]),
        (pa.array([86_399_250], pa.time32("ms")), ["23:59:59.25"]),
    ],
)
def test_the_text_of_a_value(values: pa.Array, texts: list[str | None]) -> None:
    column = read_values(values, "string", narrow_fractions=True)
    assert column.values.to_pylist()[: len(texts)] == texts
    assert bad_rows(column) == []


def test_a_unit_or_a_scale_does_not_change_the_text() -> None:
    for values, units in (
        (pa.array([1, None, 86_399], pa.timestamp("s")), [pa.timestamp(unit) for unit in ("ms", "us", "ns")]),
        (pa.array([1, None, 86_399], pa.time32("s")), [pa.time32("ms"), pa.time64("us"), pa.time64("ns")]),
        (pa.array([Decimal("1.5"), Decimal(7)], pa.decimal128(5, 1)), [pa.decimal128(20, 9), pa.decimal256(50, 3)]),
    ):
        texts = read_values(values, "string", narrow_fractions=False).values
        assert texts.null_count == values.null_count
        for kind in units:
            assert read_values(values.cast(kind), "string", narrow_fractions=False).values.equals(texts)


@pytest.mark.parametrize(
    ("values", "use", "bad"),
    [
        (pa.array([2.0**53 - 1, 2.0**53, -(2.0**60), 1e300]), "string", [1, 2, 3]),
        (pa.array([2.0**53 - 1, 2.0**53, -(2.0**60), 1e300]), "integer", [1, 2, 3]),
        (pa.array([2.0**24 - 1, 2.0**24], pa.float32()), "integer", [1]),
        (pa.array([np.float16(2047), np.float16(2048)]), "string", [1]),
        (pa.array([1.0, float("inf"), -float("inf")]), "string", [1, 2]),
        (pa.array([1.0, 1.5, float("inf")]), "integer", [1, 2]),
        (pa.array([Decimal("1.00"), Decimal("1.01")]), "integer", [1]),
        (pa.array([Decimal(2**63 - 1), Decimal(2**63), Decimal(-(2**63))], pa.decimal128(38, 0)), "integer", [1]),
        (pa.array([2**63 - 1, 2**63], pa.uint64()), "integer", [1]),
        (pa.array([b"a", b"\xff", b"b"]), "string", [1]),
        (pa.array(["0000000a", "xyz"], pa.large_string()), "hex", [1]),
        (pa.array([0.5, 1.0], pa.float32()), "string", [0]),
    ],
)
def test_what_has_no_certain_key_is_bad(values: pa.Array, use: str, bad: list[int]) -> None:
    assert bad_rows(read_values(values, use, narrow_fractions=False)) == bad
    lists = pa.ListArray.from_arrays(pa.array([0, 0, 1, *([len(values)] * 2)], pa.int32()), values)
    in_lists = sorted({1 if row < 1 else 2 for row in bad})
    assert bad_rows(read_lists(lists, use, narrow_fractions=False)) == in_lists


def test_what_is_not_a_number_is_missing() -> None:
    values = pa.array([1.0, float("nan"), None])
    for form in (values, values.cast(pa.float32()), values.cast(pa.float16()), values.dictionary_encode()):
        for use in ("string", "integer", "number", "binary"):
            column = read_values(form, use, narrow_fractions=False)
            assert column.values.is_null().to_pylist() == [False, True, True], use
            assert bad_rows(column) == []


def layout_of(*categorical: CategoricalColumn, label: LabelColumn | None = None) -> Layout:
    label = label or LabelColumn("click")
    return Layout("log", categorical, (label,), (Task("ctr", label.name),))


def write(directory: Path, *columns: pa.Array, name: str = "user", rows: int = 40) -> list[Path]:
    """A file for each column, with a label."""
    files = []
    for number, column in enumerate(columns):
        clicks = pa.array([row % 2 for row in range(len(column))], pa.int8())
        files.append(directory / f"part-{number}.parquet")
        pq.write_table(pa.table({name: column, "click": clicks}), files[-1])
    return files


def test_types_that_differ_between_files_share_their_ids(tmp_path: Path) -> None:
    ids = [10**10 + row % 10 for row in range(40)]
    files = write(
        tmp_path,
        pa.array(ids, pa.int64()),
        pa.array([None, *map(float, ids[1:])]),
        pa.array(map(str, ids)).dictionary_encode(),
        pa.array(map(Decimal, ids), pa.decimal128(20, 0)),
        pa.nulls(40),
        pa.array(map(str, ids), pa.large_string()),
    )
    layout = layout_of(CategoricalColumn("user"))
    schema = prepare("log", "test", layout, files, tmp_path / "out", IdOptions(), SplitOptions(), WorkOptions())
    assert schema.source["unseen"] == {"train": {}, "eval": {}}
    assert schema.source["missing"] == {"train": {"user": 41}, "eval": {}}
    values = pq.read_table(tmp_path / "out/vocabulary/user.parquet")["value"].to_pylist()
    assert sorted(values) == [str(10**10 + number) for number in range(10)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([True]), pa.array([1])),
        (pa.array([0], pa.timestamp("s")), pa.array([0], pa.timestamp("s", "UTC"))),
        (pa.array([datetime.date(2024, 1, 31)]), pa.array([0], pa.timestamp("s"))),
        (pa.array([[True]]), pa.array([[1]])),
    ],
)
def test_types_that_would_give_one_value_two_keys_are_refused(tmp_path: Path, one: pa.Array, other: pa.Array) -> None:
    files = write(tmp_path, one, other)
    is_list = pa.types.is_list(one.type)
    with pytest.raises(ValueError, match=naming("part-1.parquet", "column 'user'", "part-0.parquet")):
        ParquetLog(layout_of(CategoricalColumn("user", multi_hot=is_list)), files)


def test_fractions_of_other_widths_are_refused_where_they_occur(tmp_path: Path) -> None:
    layout = layout_of(CategoricalColumn("user"))
    whole = write(tmp_path, pa.array([1.0, 2.0]), pa.array([1.0, 2.0], pa.float32()))
    assert [piece.rows.bad for file in (0, 1) for piece in ParquetLog(layout, whole).read(file, 0, None)] == [(), ()]
    mixed = write(tmp_path, pa.array([1.0, 2.5]), pa.array([0.5, 2.0], pa.float32()))
    log = ParquetLog(layout, mixed)
    assert [len(piece.rows.bad) for file in (0, 1) for piece in log.read(file, 0, None)] == [0, 1]
    [piece] = ParquetLog(layout, mixed[1:]).read(0, 0, None)
    assert piece.rows.table["user"].to_pylist() == ["0.5", "2"]


def test_a_value_that_python_cannot_show_is_quarantined(tmp_path: Path) -> None:
    moments = pa.array([253402300800 * 10**6, 1], pa.timestamp("us"))
    table = pa.table({"at": moments, "user": pa.array([b"\xff", b"a"]), "click": pa.array([1, 0])})
    pq.write_table(table, tmp_path / "log.parquet")
    layout = layout_of(CategoricalColumn("user"), CategoricalColumn("at"))
    [piece] = ParquetLog(layout, [tmp_path / "log.parquet"]).read(0, 0, None)
    [bad] = piece.rows.bad
    assert (bad.line, bad.column, bad.value) == (1, "user", "\udcff")


def test_a_label_of_not_a_number_follows_its_policy(tmp_path: Path) -> None:
    clicks = pa.array([1.0, float("nan"), 0.0, None], pa.float32())
    pq.write_table(pa.table({"user": pa.array([1, 2, 3, 4]), "click": clicks}), tmp_path / "log.parquet")
    for missing_is_negative, bad in ((False, [2, 4]), (True, [])):
        layout = layout_of(
            CategoricalColumn("user"), label=LabelColumn("click", missing_is_negative=missing_is_negative)
        )
        [piece] = ParquetLog(layout, [tmp_path / "log.parquet"]).read(0, 0, None)
        assert [row.line for row in piece.rows.bad] == bad
        assert all("missing_is_negative" in row.reason and "given" in row.reason for row in piece.rows.bad)
