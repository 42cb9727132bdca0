"""Fingerprints: kept by schema.json, and compared."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.meaning import (
    DenseFingerprint,
    Fingerprints,
    Meaning,
    TableFingerprint,
    find_difference,
    without_fingerprint,
)
from dlrm_mtl.schema import read_schema
from tests.datasets import FINGERPRINTS

MEANING = Meaning({"user": "user", "item": "item", "history": "item", "tags": "tags"}, **vars(FINGERPRINTS))

TABLES, DENSE = FINGERPRINTS.tables, FINGERPRINTS.dense


def test_a_schema_keeps_them(small_dataset: Path) -> None:
    assert read_schema(small_dataset).fingerprints == FINGERPRINTS
    assert read_schema(small_dataset).meaning == MEANING
    assert Meaning.from_json(json.loads(json.dumps(MEANING.as_json())), "here") == MEANING
    assert without_fingerprint(MEANING) == []


def test_a_schema_from_before_says_nothing(small_dataset: Path, tmp_path: Path) -> None:
    raw = json.loads((small_dataset / "schema.json").read_text())
    del raw["fingerprints"]
    (tmp_path / "schema.json").write_text(json.dumps(raw))
    schema = read_schema(tmp_path)
    assert schema.fingerprints == Fingerprints()
    assert without_fingerprint(schema.meaning) == [
        *("table 'user'", "table 'item'", "table 'tags'", "dense feature 'age'", "dense feature 'price'")
    ]
    assert find_difference(MEANING, schema.meaning) is None
    assert find_difference(schema.meaning, MEANING) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tables, dense: tables["user"].update(sha256="ab"), r"tables\.user: sha256 'ab', expected 64 hex"),
        (lambda tables, dense: tables["user"].update(method="guess"), "'guess', expected vocabulary or hash or"),
        (lambda tables, dense: tables["item"].update(size=31), "table 'item' has 31 ids, .* cardinality 30"),
        (lambda tables, dense: tables["item"].update(size="30"), "'30', expected int"),
        (lambda tables, dense: tables["item"].pop("method"), "'method'"),
        (lambda tables, dense: tables.update(shop=tables["item"]), "no feature has table 'shop'"),
        (lambda tables, dense: dense.update(sex=dense["age"]), "no dense feature 'sex'"),
        (lambda tables, dense: dense["age"].update(scale=3), "unknown key 'scale'"),
    ],
)
def test_one_that_cannot_be_is_refused(
    small_dataset: Path, tmp_path: Path, change: Callable[[Any, Any], Any], message: str
) -> None:
    raw = json.loads((small_dataset / "schema.json").read_text())
    change(raw["fingerprints"]["tables"], raw["fingerprints"]["dense"])
    (tmp_path / "schema.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=f"schema.json: fingerprints.*{message}"):
        read_schema(tmp_path)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("table 'user'", {"tables": {**TABLES, "user": replace(TABLES["user"], sha256="fe" * 32)}}),
        ("table 'user'", {"tables": {**TABLES, "user": replace(TABLES["user"], size=51)}}),
        ("table 'user'", {"tables": {**TABLES, "user": TableFingerprint("unknown", 51)}}),
        ("table 'item'", {"tables": {**TABLES, "item": replace(TABLES["item"], method="modulo")}}),
        ("table 'item'", {"tables": {**TABLES, "item": replace(TABLES["item"], function="other")}}),
        ("table 'tags'", {"tables": {**TABLES, "tags": replace(TABLES["tags"], seed=4)}}),
        ("dense feature 'age'", {"dense": {**DENSE, "age": replace(DENSE["age"], mean=2.5000000000000004)}}),
        ("dense feature 'age'", {"dense": {**DENSE, "age": replace(DENSE["age"], shift=2.0)}}),
        ("dense feature 'price'", {"dense": {**DENSE, "price": DenseFingerprint("none", missing=-1.0)}}),
        ("dense feature number 1", {"dense": {name: DENSE[name] for name in ("price", "age")}}),
        ("dense feature number 3", {"dense": {**DENSE, "sex": DenseFingerprint("none")}}),
        ("dense feature number 2", {"dense": {"age": DENSE["age"]}}),
        (
            "categorical feature number 1",
            {"features": {name: MEANING.features[name] for name in ("tags", "history", "item", "user")}},
        ),
        ("categorical feature number 3", {"features": {**MEANING.features, "history": "tags"}}),
    ],
)
def test_what_stands_for_something_else(what: str, changes: dict[str, Any]) -> None:
    other = replace(MEANING, **changes)
    for before, now in ((MEANING, other), (other, MEANING)):
        difference = find_difference(before, now)
        assert difference is not None
        assert difference.what == what
        assert difference.before != difference.now


def test_what_one_alone_has_cannot_be_compared() -> None:
    silent = replace(MEANING, tables={**TABLES, "user": TableFingerprint("unknown", 50)})
    assert find_difference(MEANING, silent) is None
    assert find_difference(silent, MEANING) is None
    assert without_fingerprint(silent) == ["table 'user'"]
