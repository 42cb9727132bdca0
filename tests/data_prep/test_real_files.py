"""Real files: every value, read with Python's csv module, is found again in the data set."""

import csv
import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import census_income
from data_prep.columns.layout import DenseColumn, Layout, read_layout
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from dlrm_mtl.meaning import TableFingerprint, without_fingerprint
from dlrm_mtl.schema import Schema, read_schema
from tests.data_prep.ids.test_fingerprints import digest

SPLITS = ("train", "eval")
UNSEEN = object()

Row = Mapping[str, str]
Columns = dict[str, list[str]]


@dataclass(frozen=True)
class RealLog:
    """A published data set: how it is read, and what its README says about it."""

    directory: str
    files: tuple[str, ...]
    layout: str
    rows: tuple[int, int]
    """Of the training and the evaluation split."""
    labels: Mapping[str, Callable[[Row], bool]]
    positives: Mapping[str, tuple[int, int]]
    ignored: int = 0


CENSUS_FILES = ("census-income.data.gz", "census-income.test-a.gz")
COLLEGE = ("Bachelors", "Masters", "Doctorate", "Prof school")
LOGS = [
    RealLog(
        "census-income-kdd",
        CENSUS_FILES,
        "census_income",
        (199_523, 49_881),
        {
            "income": lambda row: row["income_50k"] == "50000+.",
            "never_married": lambda row: row["marital_stat"] == "Never married",
        },
        {"income": (12_382, 3_143), "never_married": (86_485, 21_502)},
    ),
    RealLog(
        "census-income-kdd",
        CENSUS_FILES,
        "census_education",
        (199_523, 49_881),
        {
            "college": lambda row: row["education"].startswith(COLLEGE),
            "never_married": lambda row: row["marital_stat"] == "Never married",
        },
        {"college": (29_462, 7_366), "never_married": (86_485, 21_502)},
    ),
    RealLog(
        "adult",
        ("adult.data.gz", "adult.test.gz"),
        "adult",
        (32_561, 16_281),
        {
            "income": lambda row: ">50K" in row["income"],
            "never_married": lambda row: row["marital_status"] == "Never-married",
        },
        {"income": (7_841, 3_846), "never_married": (10_683, 5_434)},
        ignored=3,
    ),
    RealLog(
        "bank-marketing",
        ("bank-additional-full.csv.gz",),
        "bank_marketing",
        (37_070, 4_118),
        {"long_call": lambda row: int(row["duration"]) > 180, "conversion": lambda row: row["y"] == "yes"},
        {"long_call": (17_987, 2_496), "conversion": (2_748, 1_892)},
    ),
    RealLog(
        "criteo-1tb-sample",
        ("day_0_head1000.tsv",),
        "criteo",
        (900, 100),
        {"click": lambda row: row["click"] == "1"},
        {"click": (21, 0)},
    ),
]


def read_raw(path: Path, layout: Layout) -> Iterator[list[str]]:
    """Fields of each row; the first row is the header where the file has one."""
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        lines = (line for line in file if not (layout.comment and (line.startswith(layout.comment) or line == "\n")))
        fields_of = partial(csv.reader, lines, delimiter=layout.separator)
        for fields in fields_of() if layout.quoted else fields_of(quoting=csv.QUOTE_NONE):
            # Interned, so that the fields of the larger files fit into memory.
            yield [sys.intern(field.strip() if layout.trim else field) for field in fields]


@dataclass(frozen=True)
class Prepared:
    log: RealLog
    layout: Layout
    out: Path
    schema: Schema
    raw: dict[str, Columns]
    """Columns of the raw rows, by split."""
    tables: dict[str, pa.Table]


@pytest.fixture(scope="module", params=LOGS, ids=lambda log: log.layout)
def prepared(request: pytest.FixtureRequest, test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    log: RealLog = request.param
    files = [test_data / log.directory / name for name in log.files]
    for file in files:
        if not file.is_file():
            pytest.skip(f"no real data: {file} is not there")
    layout = read_layout(log.layout)
    out = tmp_path_factory.mktemp(log.layout) / "data"
    prepare(log.layout, "test", layout, files, out, IdOptions(), SplitOptions(), WorkOptions())
    contents = [list(read_raw(file, layout)) for file in files]
    names = list(layout.columns) or contents[0].pop(0)
    if len(files) == 1:
        contents = [contents[0][: log.rows[0]], contents[0][log.rows[0] :]]
    raw = {
        split: dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        for split, rows in zip(SPLITS, contents, strict=True)
    }
    tables = {split: pq.read_table(out / split) for split in SPLITS}
    return Prepared(log, layout, out, read_schema(out), raw, tables)


def rows_of(columns: Columns) -> Iterator[Row]:
    return (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))


def test_every_row_is_there_with_its_labels(prepared: Prepared) -> None:
    log, schema = prepared.log, prepared.schema
    assert [task.name for task in schema.tasks] == list(log.labels)
    for place, split in enumerate(SPLITS):
        assert schema.rows(split) == len(prepared.tables[split]) == log.rows[place]
        rows = list(rows_of(prepared.raw[split]))
        assert len(rows) == log.rows[place]
        for task in schema.tasks:
            expected = np.array([log.labels[task.name](row) for row in rows])
            assert np.array_equal(np.asarray(prepared.tables[split][task.label]), expected), task.name
            assert schema.source["positives"][split][task.name] == expected.sum() == log.positives[task.name][place]
            if split == "train":
                assert task.base_rate == expected.mean()
    assert schema.source["rows_read"] == sum(log.rows) + log.ignored
    assert schema.source["lines_ignored"] == log.ignored
    assert schema.source["rows_quarantined"] == schema.source["rows_outside"] == 0


def test_ids_name_the_raw_values(prepared: Prepared) -> None:
    layout, schema = prepared.layout, prepared.schema
    for feature in layout.categorical:
        raw = {split: prepared.raw[split][feature.column] for split in SPLITS}
        if feature.kind == "hex":
            raw = {split: [value.lower() for value in values] for split, values in raw.items()}
        vocabulary = pq.read_table(prepared.out / "vocabulary" / f"{feature.table_name}.parquet")
        values = [str(value) for value in vocabulary["value"].to_pylist()]
        counted = Counter(value for value in raw["train"] if value not in layout.missing)
        assert dict(zip(values, vocabulary["count"].to_pylist(), strict=True)) == counted, feature.feature
        [described] = [known for known in schema.categorical if known.name == feature.feature]
        fingerprint = schema.fingerprints.tables[feature.table_name]
        assert fingerprint == TableFingerprint("vocabulary", described.cardinality, sha256=digest(values))
        assert described.cardinality == len(values) + 2
        value_of = [None, UNSEEN, *values]
        expected_of = {value: value for value in counted} | dict.fromkeys(layout.missing)
        for split in SPLITS:
            found = [value_of[number] for number in prepared.tables[split][feature.feature].to_pylist()]
            assert found == [expected_of.get(value, UNSEEN) for value in raw[split]], feature.feature
            for kind, value in (("missing", None), ("unseen", UNSEEN)):
                assert schema.source[kind][split].get(feature.feature, 0) == found.count(value)


def test_dense_values_are_the_raw_ones_transformed(prepared: Prepared) -> None:
    layout, schema = prepared.layout, prepared.schema
    assert without_fingerprint(schema.meaning) == []
    assert list(schema.dense) == layout.dense_names
    for column in layout.dense:
        scaling = schema.source["dense_scaling"].get(column.feature, {"mean": 0.0, "deviation": 1.0})
        assert (column.feature in schema.source["dense_scaling"]) == column.standardise
        for split in SPLITS:
            texts = prepared.raw[split][column.column]
            is_missing = np.array([text in layout.missing for text in texts])
            expected = np.array([0.0 if text in layout.missing else float(text) for text in texts])
            if split == "train" and column.standardise:
                forward = transformed(expected[~is_missing], column)
                assert scaling == {
                    "mean": pytest.approx(forward.mean(), rel=1e-5, abs=1e-6),
                    "deviation": pytest.approx(forward.std(), rel=1e-5),
                }
            table = prepared.tables[split]
            stored = np.asarray(table[column.feature])
            assert stored.dtype == np.float32
            assert (stored[is_missing] == 0.0).all()
            values = stored.astype(np.float64) * scaling["deviation"] + scaling["mean"]
            if column.transform == "log":
                values = np.exp(values) - column.shift
            np.testing.assert_allclose(values[~is_missing], expected[~is_missing], rtol=1e-5, atol=1e-4)
            if column.mark_missing:
                assert np.array_equal(np.asarray(table[f"{column.feature}_missing"]), is_missing)
    assert schema.source["raised"] == {"train": {}, "eval": {}}


def transformed(values: np.ndarray, column: DenseColumn) -> np.ndarray:
    return np.log(values + column.shift) if column.transform == "log" else values


def test_what_is_no_input(prepared: Prepared) -> None:
    left_out = {
        "census_income": {"instance_weight", "marital_stat", "income_50k"},
        "census_education": {"instance_weight", "marital_stat", "income_50k", "education"},
        "adult": {"fnlwgt", "marital_status", "income"},
        "bank_marketing": {"duration", "y"},
        "criteo": {"click"},
    }[prepared.log.layout]
    inputs = {feature.name for feature in prepared.schema.categorical} | {*prepared.schema.dense}
    assert inputs - {f"{name}_missing" for name in inputs} == {*prepared.raw["train"]} - left_out


def test_the_census_entry_point_takes_the_two_files(test_data: Path, tmp_path: Path) -> None:
    raw = test_data / "census-income-kdd"
    if not raw.is_dir():
        pytest.skip(f"no real data: {raw} is not there")
    options = census_income.Options(raw=raw, out=tmp_path / "data", tasks="education", weights=True)
    schema = census_income.prepare_census(options)
    assert json.loads((tmp_path / "data/schema.json").read_text())["name"] == schema.name == "census_education"
    assert [(file["name"], file["rows"]) for file in schema.source["files"]] == [
        ("census-income.data.gz", 199_523),
        ("census-income.test-a.gz", 49_881),
    ]
    assert [task.weight for task in schema.tasks] == ["instance_weight"] * 2
    assert not {"instance_weight"} & {*schema.dense, *(feature.name for feature in schema.categorical)}
    raw_weights = {}
    for split, name in (("train", "census-income.data.gz"), ("eval", "census-income.test-a.gz")):
        with gzip.open(raw / name, "rt", newline="") as file:
            raw_weights[split] = np.array([float(row[24]) for row in csv.reader(file)])
        stored = pq.read_table(tmp_path / "data" / split, columns=["instance_weight"])["instance_weight"].to_numpy()
        assert stored == pytest.approx(raw_weights[split] / raw_weights["train"].mean(), rel=1e-6)
