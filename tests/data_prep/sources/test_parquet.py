"""Parquet logs against plain Python, the same table in every file format, and the entry points as processes."""

import csv
import gzip
import json
import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import Schema
from tests.entry_points.processes import complaint, python
from tests.messages import mentions, naming

SPLITS = ("train", "eval")
ROWS = 400

LAYOUT = Layout(
    "shop",
    (
        CategoricalColumn("user", "integer"),
        CategoricalColumn("site"),
        CategoricalColumn("device", "hex"),
        CategoricalColumn("is_app"),
        CategoricalColumn("watched", "integer", multi_hot=True),
        CategoricalColumn("tags", multi_hot=True, separator="|"),
    ),
    (LabelColumn("click"), LabelColumn("buy", "seconds_to_buy", below=3600, missing_is_negative=True)),
    (Task("ctr", "click"), Task("cvr", "buy", "click")),
    (DenseColumn("age", "integer"), DenseColumn("price.net", name="price", transform="log", standardise=True)),
)
NO_LISTS = Layout(
    "shop", tuple(c for c in LAYOUT.categorical if c.column != "watched"), LAYOUT.labels, LAYOUT.tasks, LAYOUT.dense
)


def random_rows(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a log; None is a missing value."""
    random = np.random.default_rng(seed)

    def maybe(value: Any) -> Any:
        return None if random.random() < 0.1 else value

    return [
        {
            "user": maybe(int(random.integers(-5, 20)) * 2**40),
            "site": maybe(f"s{random.integers(9)}, \u00e9"),
            "device": maybe(f"{random.integers(4) * 2**29:08x}"),
            "is_app": maybe(bool(random.random() < 0.3)),
            "watched": maybe([int(item) for item in random.integers(0, 8, random.integers(4))]),
            "tags": maybe("|".join(f"t{item}" for item in random.integers(0, 5, random.integers(1, 4)))),
            "click": int(random.random() < 0.5),
            "seconds_to_buy": float(random.integers(0, 7200)) if random.random() < 0.5 else None,
            "age": maybe(int(random.integers(0, 90))),
            "price.net": maybe(round(float(random.exponential(20)), 2)),
            "price": "not that one",
        }
        for _ in range(number)
    ]


def table_of(rows: Sequence[dict[str, Any]]) -> pa.Table:
    types = {"user": pa.int64(), "watched": pa.list_(pa.int32()), "click": pa.int8(), "age": pa.int16()}
    return pa.table({name: pa.array([row[name] for row in rows], types.get(name)) for name in rows[0]})


def run(layout: Layout, files: Sequence[Path], out: Path, **work: Any) -> tuple[Schema, dict[str, pa.Table]]:
    schema = prepare("shop", "test", layout, files, out, IdOptions(), SplitOptions(), WorkOptions(**work))
    return schema, {split: pq.read_table(out / split) for split in SPLITS}


def vocabulary(out: Path, table: str) -> list[Any]:
    return [None, "unseen", *pq.read_table(out / "vocabulary" / f"{table}.parquet")["value"].to_pylist()]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return random_rows(ROWS)


def test_every_value_is_found_again(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """Of several files, row groups and types."""
    table = table_of(rows)
    encoded = table.set_column(1, "site", table["site"].dictionary_encode())
    encoded = encoded.set_column(4, "watched", table["watched"].cast(pa.large_list(pa.int64())))
    files = [tmp_path / f"part-{i}.parquet" for i in range(3)]
    pq.write_table(encoded.slice(0, 150), files[0], row_group_size=40)
    pq.write_table(encoded.slice(150, 150), files[1], row_group_size=7)
    pq.write_table(table.slice(300), files[2])
    out = tmp_path / "out"
    schema, tables = run(LAYOUT, files, out)
    assert [file["rows"] for file in schema.source["files"]] == [150, 150, 100]
    parts = {"train": rows[:300], "eval": rows[300:]}
    prices = np.log1p([row["price.net"] for row in parts["train"] if row["price.net"] is not None])
    for split, part in parts.items():
        found = tables[split].to_pylist()
        assert len(found) == len(part)
        for feature in LAYOUT.categorical:
            name, values = feature.feature, vocabulary(out, feature.table_name)
            for row, ids in zip(part, found, strict=True):
                raw = row[name]
                if name == "is_app" and raw is not None:
                    raw = str(raw).lower()
                if name == "tags":
                    raw = raw.split("|") if raw else []
                if feature.multi_hot:
                    assert [values[number] for number in ids[name]] == (raw or [])
                else:
                    assert values[ids[name]] == raw
        for row, stored in zip(part, found, strict=True):
            assert stored["click"] == row["click"]
            assert stored["buy"] == (row["seconds_to_buy"] is not None and row["seconds_to_buy"] < 3600)
            assert (stored["age"], stored["age_missing"]) == (row["age"] or 0, row["age"] is None)
            price = row["price.net"]
            expected = 0.0 if price is None else (math.log1p(price) - prices.mean()) / prices.std()
            assert stored["price"] == pytest.approx(expected, abs=1e-5)
    clicked = [row for row in parts["train"] if row["click"]]
    bought = [row for row in clicked if row["seconds_to_buy"] is not None and row["seconds_to_buy"] < 3600]
    assert schema.tasks[1].base_rate == len(bought) / len(clicked)


def write_text(path: Path, rows: Sequence[dict[str, Any]], separator: str) -> Path:
    columns = [name for name in rows[0] if name != "watched"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            values = [row[name] for name in columns]
            writer.writerow(str(value).lower() if isinstance(value, bool) else value for value in values)
    return path


def test_all_formats_give_the_same_data_set(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    comma = write_text(tmp_path / "log.csv", rows, ",")
    tab = write_text(tmp_path / "log.tsv", rows, "\t")
    zipped = tmp_path / "log.csv.gz"
    zipped.write_bytes(gzip.compress(comma.read_bytes()))
    zstd = tmp_path / "log.tsv.zst"
    with pa.output_stream(str(zstd), compression="zstd") as stream:
        stream.write(tab.read_bytes())
    parquet = tmp_path / "log.parquet"
    pq.write_table(table_of(rows), parquet)
    results = []
    for path in (comma, tab, zipped, zstd, parquet):
        layout = Layout(**{**vars(NO_LISTS), "separator": "\t" if ".tsv" in path.name else ",", "quoted": True})
        schema, tables = run(layout, [path], tmp_path / f"out-{path.name}")
        source = {key: value for key, value in schema.source.items() if key != "files"}
        results.append((schema.categorical, schema.dense, schema.tasks, source, tables))
    for result in results[1:]:
        assert result == results[0]


@pytest.mark.parametrize(
    ("column", "values", "row", "message"),
    [
        ("click", [0, 2, 1], 2, "'2', expected a label, 0 or 1"),
        ("click", [0, 1, None], 3, "'None', a label is missing"),
        ("click", [0.0, 0.5, 1.0], 2, "'0.5', expected a label, 0 or 1"),
        ("click", [0.0, math.nan, 1.0], 2, "'nan', a label is missing"),
        ("price.net", [1.0, math.inf, 2.0], 2, "'inf', expected a finite number"),
        ("price.net", [1.0, 2.0, -math.inf], 3, "'-inf', expected a finite number"),
        ("price.net", [1e300, 2.0, 1.0], 1, r"'1e\+300', expected a finite number"),
        ("device", ["0000000a", "xyz", "0000000a"], 2, "'xyz', expected 8 hexadecimal digits"),
        ("watched", [[1], [2, None], []], 2, r"'\[2, None\]', expected a list of values"),
        ("age", pa.array([1, 2, 2**64 - 1], pa.uint64()), 3, "'18446744073709551615', expected a 64-bit integer"),
    ],
)
def test_bad_rows(tmp_path: Path, column: str, values: Any, row: int, message: str) -> None:
    rows = [{**row, "click": i % 2} for i, row in enumerate(random_rows(40, seed=1))]
    good = table_of(rows)
    bad = good.slice(0, 3).set_column(good.column_names.index(column), column, pa.array(values))
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet", tmp_path / "c.parquet"]
    pq.write_table(good, files[0])
    pq.write_table(bad, files[1], row_group_size=2)
    pq.write_table(good, files[2])
    with pytest.raises(ValueError, match=f"b.parquet, line {row}, column '{column}': {message}"):
        run(LAYOUT, files, tmp_path / "stopped")
    schema, tables = run(LAYOUT, files, tmp_path / "out", on_bad_row="quarantine")
    assert schema.source["rows_quarantined"] == 1
    assert (len(tables["train"]), len(tables["eval"])) == (42, 40)
    [line] = (tmp_path / "out/quarantine.jsonl").read_text().splitlines()
    assert json.loads(line).items() >= {"file": "b.parquet", "line": row, "column": column}.items()


def one_label(label: LabelColumn) -> Layout:
    return Layout("log", (CategoricalColumn("site"),), (label,), (Task("task", label.name),))


def test_an_unknown_text_of_a_label_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"site": ["a", "b", "c"], "bought": ["yes", "no", "perhaps"]}), path)
    layout = one_label(LabelColumn("buy", "bought", positive=("yes",), negative=("no",)))
    with pytest.raises(ValueError, match=naming("log.parquet, line 3, column 'bought'", "'perhaps'", "yes or no")):
        run(layout, [path], tmp_path / "out")


def test_not_a_number_tells_no_label(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"site": ["a", "b"] * 10, "seconds": [5.0, math.nan] * 10}), path)
    with pytest.raises(ValueError, match=naming("log.parquet, line 2, column 'seconds'", "'nan'")):
        run(one_label(LabelColumn("seen", "seconds", at_least=1)), [path], tmp_path / "stopped")
    label = LabelColumn("seen", "seconds", at_least=1, missing_is_negative=True)
    _, tables = run(one_label(label), [path], tmp_path / "out")
    assert tables["train"]["seen"].to_pylist() == [1, 0] * 9


@pytest.mark.parametrize(
    ("label", "values"),
    [
        (LabelColumn("y", missing_is_negative=True), [1, 0, None]),
        (LabelColumn("y", positive=("1",), missing_is_negative=True), ["1", "0", None]),
        (LabelColumn("y", positive=("1",), negative=("0",), missing_is_negative=True), ["1", "0", None]),
        (LabelColumn("y", below=5, missing_is_negative=True), [1, 7, None]),
        (LabelColumn("y", at_least=1, missing_is_negative=True), [Decimal("1.5"), Decimal(0), None]),
        (LabelColumn("y"), [True, False, False]),
    ],
)
def test_labels_of_missing_values(tmp_path: Path, label: LabelColumn, values: list[Any]) -> None:
    parquet, text = tmp_path / "log.parquet", tmp_path / "log.csv"
    pq.write_table(pa.table({"site": ["a", "b", "c"] * 10, "y": values * 10}), parquet)
    lines = [
        f"{site},{'' if y is None else int(y) if isinstance(y, bool) else y}"
        for site, y in zip("abc", values, strict=True)
    ]
    text.write_text("site,y\n" + "\n".join(lines * 10) + "\n")
    for path in (parquet, text):
        _, tables = run(one_label(label), [path], tmp_path / f"out{path.suffix}")
        assert tables["train"]["y"].to_pylist() == [1, 0, 0] * 9


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("click", ["0", "1"], "'click' is of type string, which cannot be read as binary"),
        ("age", ["1", "2"], "'age' is of type string, which cannot be read as integer"),
        ("site", [["a"], ["b"]], "which cannot be read as string"),
        ("device", [1, 2], "'device' is of type int64, which cannot be read as hex"),
        ("watched", [1, 2], "'watched' is of type int64, which cannot be read as list"),
        ("watched", [["a"], ["b"]], "which cannot be read as list"),
        ("watched", [[{"a": 1}], []], "which cannot be read as list"),
    ],
)
def test_types_that_do_not_fit(tmp_path: Path, column: str, values: Any, message: str) -> None:
    table = table_of(random_rows(2))
    pq.write_table(table.set_column(table.column_names.index(column), column, pa.array(values)), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=f"a.parquet: column {message}|a.parquet: column .* {message}"):
        run(LAYOUT, [tmp_path / "a.parquet"], tmp_path / "out")


def test_files_that_do_not_fit(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    table = table_of(rows)
    whole, lacking = tmp_path / "a.parquet", tmp_path / "b.parquet"
    pq.write_table(table, whole)
    pq.write_table(table.drop_columns(["site"]), lacking)
    text = write_text(tmp_path / "c.csv", rows, ",")
    with pytest.raises(ValueError, match=naming("b.parquet", "column 'site'", "user, device")):
        run(LAYOUT, [whole, lacking], tmp_path / "out-0")
    with pytest.raises(ValueError, match=naming("c.csv", "parquet")):
        run(LAYOUT, [whole, text], tmp_path / "out-1")
    with pytest.raises(ValueError, match=naming("c.csv", "column 'watched'", "separator")):
        run(LAYOUT, [text], tmp_path / "out-2")
    lacking.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(ValueError, match=naming("b.parquet")):
        run(LAYOUT, [whole, lacking], tmp_path / "out-3")
    twice = pa.table([table["site"], table["site"], table["click"]], ["site", "site", "click"])
    pq.write_table(twice, lacking)
    with pytest.raises(ValueError, match=naming("b.parquet", "column 'site'", "twice")):
        run(one_label(LabelColumn("click")), [lacking], tmp_path / "out-4")


def test_an_empty_file_among_others(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    table = table_of(rows)
    for name, part in (("a", table), ("b", table.slice(0, 0)), ("c", table.slice(0, 50))):
        pq.write_table(part, tmp_path / f"{name}.parquet")
    schema, _ = run(LAYOUT, [tmp_path], tmp_path / "out")
    assert (schema.rows("train"), schema.rows("eval")) == (ROWS, 50)


LAYOUT_FILE = """
name = "shop"
categorical = [{ column = "site" }]
labels = [{ name = "click" }]
tasks = [{ name = "ctr", label = "click" }]
"""


def test_entry_points(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    layout, log, out = tmp_path / "shop.toml", tmp_path / "log.parquet", tmp_path / "out"
    layout.write_text(LAYOUT_FILE)
    pq.write_table(table_of(rows), log)
    process = python("data_prep.parquet", "--raw", log, "--layout", layout, "--out", out, "--min-count", "2")
    assert process.returncode == 0, process.stderr
    assert mentions(process.stdout, out, "train 360 rows", "eval 40 rows")
    assert mentions(process.stdout, "400 rows", "0 in no split", "0 quarantined", "0 lines")
    assert json.loads((out / "schema.json").read_text())["source"]["generator"] == "data_prep.parquet"
    raw = ("--raw", log, "--out", tmp_path / "other")
    assert mentions(complaint(python("data_prep.parquet", *raw, "--layout", "nowhere")), "'nowhere'", "not found")
    wrong = complaint(python("data_prep.parquet", *raw, "--layout", layout, "--tasks", "cvr"))
    assert mentions(wrong, "parquet", "task 'cvr'", "ctr")
    text = write_text(tmp_path / "log.csv", rows, ",")
    process = python("data_prep.criteo", "--raw", text, *raw[2:])
    assert process.returncode == 2
    last = process.stderr.splitlines()[-1]
    assert mentions(last, "criteo", f"{text}, line 1", 1, 40)
    census = python("data_prep.census_income", "--raw", tmp_path, *raw[2:], "--tasks", "income")
    assert complaint(census) == (
        f"census_income: {tmp_path}: not found; expected one of census-income.data, plain, .gz or .zst"
    )
    assert not (tmp_path / "other").exists()
