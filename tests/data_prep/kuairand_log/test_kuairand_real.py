"""KuaiRand preparation on real rows, against the raw files read with Python's csv module."""

import csv
import gzip
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.kuairand import prepare
from data_prep.kuairand_log.options import Options
from dlrm_mtl.schema import Schema

UNSEEN = 1
Rows = list[dict[str, str]]


def read_gzip(path: Path) -> Rows:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def raw(test_data: Path) -> Path:
    directory = test_data / "kuairand-pure"
    if not directory.is_dir():
        pytest.skip(f"no real data: {directory} is not there")
    return directory


@pytest.fixture(scope="module")
def log(raw: Path) -> Rows:
    return read_gzip(raw / "log_standard_4_25_to_5_05_pure.csv.gz")


@pytest.fixture(scope="module")
def data_set(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Schema, dict[str, pa.Table]]:
    out = tmp_path_factory.mktemp("kuairand") / "feeds"
    schema = prepare(Options(raw, out, "feeds"))
    return schema, {split: pq.read_table(out / split) for split in ("train", "eval")}


def split_of(row: dict[str, str]) -> str:
    return "train" if row["date"] < "20220504" else "eval"


def test_every_row_is_there_with_its_labels(log: Rows, data_set: tuple[Schema, dict[str, pa.Table]]) -> None:
    schema, tables = data_set
    assert (schema.rows("train"), schema.rows("eval")) == (154_071, 30_990)
    sources = {"click": "is_click", "like": "is_like", "profile_enter": "is_profile_enter", "comment": "is_comment"}
    for split, table in tables.items():
        rows = [row for row in log if split_of(row) == split]
        for task in schema.tasks:
            expected = np.array([row[sources.get(task.name, task.name)] == "1" for row in rows])
            assert np.array_equal(np.asarray(table[task.label]) == 1, expected)
            if split == "train":
                assert task.base_rate == expected.mean()


@pytest.mark.parametrize(
    ("feature", "file", "key"),
    [
        ("user_id", "", ""),
        ("video_id", "", ""),
        ("tab", "", ""),
        ("onehot_feat3", "user_features_pure.csv.gz", "user_id"),
        ("fans_user_num_range", "user_features_pure.csv.gz", "user_id"),
        ("author_id", "video_features_basic_pure.csv.gz", "video_id"),
        ("music_type", "video_features_basic_pure.csv.gz", "video_id"),
    ],
)
def test_ids_name_the_raw_values(
    raw: Path, log: Rows, data_set: tuple[Schema, dict[str, pa.Table]], feature: str, file: str, key: str
) -> None:
    schema, tables = data_set
    table = {row[key]: row[feature] for row in read_gzip(raw / file)} if file else {}
    ids_of_value = defaultdict(set)
    unseen = 0
    train_values = set()
    for split in ("train", "eval"):
        values = [table[row[key]] if file else row[feature] for row in log if split_of(row) == split]
        if split == "train":
            train_values = set(values)
        for value, number in zip(values, tables[split][feature].to_pylist(), strict=True):
            if value in train_values:
                ids_of_value[value].add(number)
            else:
                assert number == UNSEEN
                unseen += 1
    assert ids_of_value.pop("", {0}) == {0}
    assert all(len(ids) == 1 for ids in ids_of_value.values())
    numbers = sorted(number for ids in ids_of_value.values() for number in ids)
    assert numbers == list(range(2, len(numbers) + 2))
    assert next(f.cardinality for f in schema.categorical if f.name == feature) == len(numbers) + 2
    assert schema.source["unseen_ids"]["eval"][feature] == unseen


def test_histories_are_those_of_the_users(raw: Path, log: Rows, data_set: tuple[Schema, dict[str, pa.Table]]) -> None:
    histories = {row["user_id"]: row for row in pq.read_table(raw / "user_history_to_4_24.parquet").to_pylist()}
    train = data_set[1]["train"]
    rows = [row for row in log if split_of(row) == "train"]
    video_ids = dict(zip((int(row["video_id"]) for row in rows), train["video_id"].to_pylist(), strict=True))
    sample = np.random.default_rng(0).choice(len(rows), 2_000, replace=False)
    for name in ("watch_seq", "like_seq", "long_watch_seq"):
        found = train[name].take(sample).to_pylist()
        for row, ids in zip((rows[i] for i in sample), found, strict=True):
            history = histories.get(int(row["user_id"]), {name: []})[name]
            assert ids == [video_ids.get(video, UNSEEN) for video in history]


def test_dense_features_are_standardised_on_training_rows(data_set: tuple[Schema, dict[str, pa.Table]]) -> None:
    schema, tables = data_set
    for name in schema.dense:
        values = np.asarray(tables["train"][name], np.float64)
        assert np.isfinite(np.asarray(tables["eval"][name])).all()
        if name.endswith("_missing"):
            assert set(values) == {0.0, 1.0}
        elif f"{name}_missing" not in schema.dense:
            assert values.mean() == pytest.approx(0.0, abs=1e-4)
            assert values.std() == pytest.approx(1.0, abs=1e-4)
    assert (
        np.asarray(tables["train"]["duration_ms_missing"]).sum()
        + np.asarray(tables["eval"]["duration_ms_missing"]).sum()
        == 2_793
    )


def test_conversions(raw: Path, log: Rows, tmp_path: Path) -> None:
    start = time.monotonic()
    schema = prepare(Options(raw, tmp_path / "ads", "ads"))
    assert time.monotonic() - start < 30
    rows = [row for row in log if split_of(row) == "train"]
    clicks = [row for row in rows if row["is_click"] == "1"]
    long_views = sum(row["long_view"] == "1" for row in clicks)
    assert [task.base_rate for task in schema.tasks] == [
        len(clicks) / len(rows),
        long_views / len(clicks),
        long_views / len(rows),
    ]
