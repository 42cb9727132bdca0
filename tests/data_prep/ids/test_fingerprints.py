"""Fingerprints of prepared data sets are equal if and only if all ids and values have the same meaning."""

import hashlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import kuairand, synthetic
from data_prep.columns.layout import DenseColumn
from data_prep.engine.options import IdOptions
from data_prep.engine.split import SplitOptions
from data_prep.generated.ground_truth import Distribution
from data_prep.ids.fingerprints import of_vocabulary
from data_prep.kuairand_log.options import Options as KuaiRandOptions
from dlrm_mtl.meaning import DenseFingerprint, without_fingerprint
from dlrm_mtl.schema import Schema
from tests.data_prep.kuairand_log.raw_kuairand import default_users, write_raw
from tests.data_prep.logs import LAYOUT, lines_of, run_prepare, write_log

HALVES = [SplitOptions(train_rows=rows, eval_rows="2000:") for rows in ("0:1000", "1000:2000")]


def digest(values: list[str]) -> str:
    """As schema.json's ``sha256`` is documented."""
    texts = [value.encode() for value in values]
    return hashlib.sha256(b"".join([*(struct.pack("<I", len(text)) for text in texts), *texts])).hexdigest()


def changed(before: Schema, after: Schema) -> set[str]:
    """Names of the tables and dense features whose fingerprints differ."""
    old, new = ({**some.fingerprints.tables, **some.fingerprints.dense} for some in (before, after))
    assert old.keys() == new.keys()
    return {name for name in old if old[name] != new[name]}


def test_the_checksum_is_of_the_values_in_their_order() -> None:
    texts = ["é", "", "b", "xyz"]
    whole = pa.chunked_array([pa.array(texts)])
    pieces = pa.chunked_array([pa.array(["-", *texts[:1]])[1:], pa.array(texts[1:3]), pa.array(texts[3:])])
    assert of_vocabulary(whole).sha256 == of_vocabulary(pieces).sha256 == digest(texts)
    assert of_vocabulary(whole).size == 6
    assert of_vocabulary(whole[:2]).sha256 == digest(texts[:2])
    assert of_vocabulary(pa.chunked_array([pa.array([5, -7])])).sha256 == digest(["5", "-7"])
    assert of_vocabulary(pa.chunked_array([pa.array([], pa.string())])).sha256 == digest([])
    others = [["é", "", "xyz", "b"], ["é", "b", "xyz"], ["", "é", "b", "xyz"], ["éb", "", "", "xyz"]]
    assert len({digest(texts), *map(digest, others)}) == 5


@pytest.mark.parametrize("ids", [IdOptions(), IdOptions("hash", max_ids=100), IdOptions("modulo", max_ids=100)])
def test_every_table_and_dense_feature_has_one(tmp_path: Path, ids: IdOptions) -> None:
    log = write_log(tmp_path / "log", lines_of(2100))
    first, second = (run_prepare(log, tmp_path / f"{i}", ids=ids, split=half) for i, half in enumerate(HALVES))
    assert without_fingerprint(first.meaning) == []
    for name, table in first.fingerprints.tables.items():
        assert (table.method, table.size) == (ids.ids, first.tables[name][0].cardinality)
        if ids.ids == "vocabulary":
            values = pq.read_table(tmp_path / "0" / "vocabulary" / f"{name}.parquet")["value"]
            assert table.sha256 == digest([str(value) for value in values.to_pylist()])
    dense = first.fingerprints.dense
    assert dense["count"] == DenseFingerprint("log", 3.0)
    scale = first.source["dense_scaling"]["weight"]
    assert dense["weight"] == DenseFingerprint("none", 0.0, scale["mean"], scale["deviation"])
    assert dense["weight_missing"] == DenseFingerprint("missing")
    # Both halves have all sites, users, words and tags, so they have the same ids, although rows and counts differ.
    assert changed(first, second) == {"weight"}


def test_one_value_more_or_another_order_is_another_vocabulary(tmp_path: Path) -> None:
    lines = lines_of(2100)
    first = run_prepare(write_log(tmp_path / "log", lines), tmp_path / "first", split=HALVES[0])
    renamed = [line.replace("wörd7", "wörd99") for line in lines]
    second = run_prepare(write_log(tmp_path / "renamed", renamed), tmp_path / "second", split=HALVES[0])
    assert changed(first, second) == {"word"}
    assert first.fingerprints.tables["word"].size == second.fingerprints.tables["word"].size
    third = run_prepare(tmp_path / "log", tmp_path / "third", ids=IdOptions(table_max_ids={"user": 9}), split=HALVES[0])
    assert changed(first, third) == {"user"}


def test_hashes_differ_by_size_and_by_kind_of_key(tmp_path: Path) -> None:
    log, ids = write_log(tmp_path / "log", lines_of(2100)), IdOptions("hash", max_ids=100)
    first = run_prepare(log, tmp_path / "first", ids=ids)
    assert changed(first, run_prepare(log, tmp_path / "second", ids=replace(ids, table_max_ids={"word": 99}))) == {
        "word"
    }
    texts = replace(
        LAYOUT,
        categorical=tuple(replace(column, kind="string") for column in LAYOUT.categorical),
        dense=(DenseColumn("count", transform="log", shift=4.0), LAYOUT.dense[1]),
    )
    assert changed(first, run_prepare(log, tmp_path / "third", texts, ids=ids)) == {"site", "user", "count"}


def test_a_string_of_kuairand_is_its_text_not_its_place(tmp_path: Path) -> None:
    """Its codes are numbers in the order in which the table has the strings."""

    def prepared(name: str, **tables: Any) -> Schema:
        raw = write_raw(tmp_path / name, **tables)
        return kuairand.prepare(KuaiRandOptions(raw, raw / "out", "feeds"))

    first = prepared("first")
    assert without_fingerprint(first.meaning) == []
    assert changed(first, prepared("again")) == set()
    users = [{**row, "is_lowactive_period": 5} for row in default_users()]
    second = prepared("second", users=users)
    assert changed(first, second) == {"is_lowactive_period"}
    table = second.fingerprints.tables["is_lowactive_period"]
    assert (table.size, table.sha256) == (first.fingerprints.tables["is_lowactive_period"].size, digest(["5"]))
    assert second.fingerprints.tables["user_active_degree"].sha256 == digest(["full_active"])
    third = prepared("third", users=default_users()[::-1])
    assert changed(first, third) == {"onehot_feat4"}
    for schema, texts in ((first, ["2.0", "1.0"]), (third, ["1.0", "2.0"])):
        assert schema.fingerprints.tables["onehot_feat4"].sha256 == digest(texts)
    assert first.fingerprints.tables["video_id"].sha256 == digest(["10", "11", "12"])
    for name, scale in first.source["dense_scaling"].items():
        expected = DenseFingerprint("log", 1.0, scale["mean"], scale["deviation"])
        assert first.fingerprints.dense[name] == expected


def test_generated_ids_stand_for_their_hidden_factors(tmp_path: Path) -> None:
    def generated(seed: int = 0, rows: int = 2000, **knobs: Any) -> Schema:
        distribution = replace(Distribution((50, 20), (30,), dense=2), **knobs)
        return synthetic.generate(synthetic.Options(tmp_path / "out", rows, 500, seed, distribution))

    first = generated()
    assert without_fingerprint(first.meaning) == []
    assert changed(first, generated(rows=1000, conflict=0.9)) == set()
    assert changed(first, generated(seed=1)) == {"id_0", "id_1", "list_0"}
    assert changed(first, generated(exponent=1.2)) == {"id_0", "id_1", "list_0"}
    assert changed(first, generated(cardinalities=(50, 21))) == {"id_1"}
