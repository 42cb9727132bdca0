"""encoding.json: complete, the same on any number of workers, and refused where it contradicts itself or its files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_prep.columns.layout import CategoricalColumn
from data_prep.encoding.files import read_assignments, read_encoding
from data_prep.engine.options import IdOptions
from dlrm_mtl.schema import read_schema
from tests.data_prep.logs import LAYOUT, lines_of, run_prepare, write_log
from tests.json_edits import Change, drop, edit, put
from tests.messages import naming


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose vocabularies hold every kind of key."""
    directory = tmp_path_factory.mktemp("data")
    layout = replace(LAYOUT, categorical=(*LAYOUT.categorical, CategoricalColumn("unused", table="word")))
    run_prepare(write_log(directory / "log", lines_of(500)), directory / "data", layout)
    return directory / "data"


def test_it_says_what_the_schema_says(data: Path) -> None:
    schema = read_schema(data)
    encoding = read_encoding(data, schema.meaning)
    assert encoding.fingerprints == schema.fingerprints
    assert [replace(feature, mean_length=1.0) for feature in schema.categorical] == encoding.features
    assert encoding.dense_scaling == schema.source["dense_scaling"]
    for table, assignment in read_assignments(encoding, data).items():
        assert assignment.cardinality == schema.tables[table][0].cardinality
        assert len(pq.read_table(data / encoding.vocabularies[table].file)) == assignment.cardinality - 2


def other_vocabulary(directory: Path) -> None:
    path = directory / "vocabulary" / "word.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)


def no_vocabulary(directory: Path) -> None:
    (directory / "vocabulary" / "word.parquet").unlink()


def changed(change: Change) -> Callable[[Path], object]:
    return lambda directory: edit(directory / "encoding.json", change)


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (changed(put("format", 2)), ("encoding.json", "format", "2")),
        (changed(put("rows", "pickle")), ("encoding.json", "rows", "'pickle'")),
        (changed(put("categorical", 0, "kind", "integer")), ("site.parquet", "integer")),
        (changed(put("categorical", 1, "newest", "x")), ("encoding.json", "categorical[1].newest", "'x'")),
        (changed(drop("fingerprints", "tables", "user")), ("encoding.json", "table 'user'")),
        (
            changed(put("fingerprints", "dense", "weight", "mean", 0.5)),
            ("encoding.json", "dense feature 'weight'", "0.5"),
        ),
        (changed(put("categorical", 0, "name", "place")), ("encoding.json", "'place'")),
        (changed(put("vocabularies", "word", "file", "../word.parquet")), ("encoding.json", "'../word.parquet'")),
        (changed(drop("vocabularies", "word")), ("encoding.json", "table 'word'")),
        (other_vocabulary, ("word.parquet", "sha256")),
        (no_vocabulary, ("word.parquet", "table 'word'")),
        (lambda directory: (directory / "encoding.json").unlink(), ("encoding.json", "not found")),
        (lambda directory: (directory / "encoding.json").write_text("{"), ("encoding.json", "not valid JSON")),
    ],
)
def test_what_does_not_fit_is_named(data: Path, tmp_path: Path, damage: Callable[[Path], Any], parts: Any) -> None:
    directory = Path(copytree(data, tmp_path / "data"))
    damage(directory)
    with pytest.raises(ValueError, match=naming(*parts)):
        read_assignments(read_encoding(directory, read_schema(directory).meaning), directory)


def test_a_hash_that_this_version_lacks_is_refused(tmp_path: Path) -> None:
    run_prepare(write_log(tmp_path / "log", lines_of(200)), tmp_path / "data", ids=IdOptions("hash", max_ids=50))
    encoding = read_encoding(tmp_path / "data", read_schema(tmp_path / "data").meaning)
    tables = {**encoding.fingerprints.tables, "word": replace(encoding.fingerprints.tables["word"], function="crc32")}
    other = replace(encoding, fingerprints=replace(encoding.fingerprints, tables=tables))
    with pytest.raises(ValueError, match=naming("table 'word'", "crc32")):
        read_assignments(other, tmp_path / "data")
