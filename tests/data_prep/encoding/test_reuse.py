"""Rows that are encoded by the encoding of another data set."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout
from data_prep.engine import count_pass, encode_pass, preparation
from data_prep.engine.options import IdOptions
from data_prep.engine.split import SplitOptions
from data_prep.sources import raw_text
from dlrm_mtl.schema import Schema, read_schema
from tests.data_prep.engine.test_preparation_errors import no_space
from tests.data_prep.logs import COLUMNS, LAYOUT, checksums, lines_of, read_split, run_prepare, write_log
from tests.datasets import make_dataset
from tests.messages import naming

BY_FILE = SplitOptions(train_files="0:1", eval_files="1:2")
LEARNT = IdOptions(min_count=2, table_max_ids={"word": 20}, multi_hot={"user": 3})
HASHED = IdOptions("hash", max_ids=50)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of two days; the second has values that the first lacks."""
    directory = tmp_path_factory.mktemp("raw")
    write_log(directory / "day_0", lines_of(300, seed=1))
    others = [line.replace("wörd1", "new").replace("\tt3", "\tt77") for line in lines_of(200, seed=2)]
    write_log(directory / "day_1", others)
    return directory


@pytest.fixture(scope="module")
def first(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set whose training rows are those of the first day."""
    out = tmp_path_factory.mktemp("data") / "first"
    run_prepare(raw, out, ids=LEARNT, split=BY_FILE)
    return out


@pytest.fixture(scope="module")
def hashed(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "hashed"
    run_prepare(raw, out, ids=HASHED, split=BY_FILE)
    return out


def rows_of(out: Path, schema: Schema) -> pa.Table:
    return pa.concat_tables(read_split(out, schema, split) for split in schema.splits)


def counts_of(schema: Schema, kind: str) -> Counter[str]:
    return sum((Counter(schema.source[kind][split]) for split in schema.splits), Counter())


@pytest.mark.parametrize(("name", "workers"), [("first", 1), ("first", 2), ("hashed", 1)])
def test_ids_and_dense_values_are_those_of_the_other_data_set(
    request: pytest.FixtureRequest, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, workers: int
) -> None:
    """What encodes the evaluation rows of a data set encodes them as rows of another one."""
    learnt: Path = request.getfixturevalue(name)
    if workers == 1:  # patches do not reach spawned workers
        monkeypatch.setattr(raw_text, "SEGMENT_BYTES", 3000)
        monkeypatch.setattr(preparation, "SEGMENT_BYTES", 3000)
    monkeypatch.setattr(count_pass.CountPass, "begin", no_space)
    out, before = tmp_path / "out", read_schema(learnt)
    schema = run_prepare(raw / "day_1", out, ids=IdOptions(encoding=learnt), workers=workers)
    assert (schema.rows("train"), schema.rows("eval")) == (180, 20)
    assert rows_of(out, schema).equals(read_split(learnt, before, "eval"))
    assert schema.fingerprints == before.fingerprints
    assert [replace(feature, mean_length=0) for feature in schema.categorical] == [
        replace(feature, mean_length=0) for feature in before.categorical
    ]
    for kind in ("unseen", "missing", "raised"):
        assert counts_of(schema, kind) == Counter(before.source[kind]["eval"])
    assert (counts_of(schema, "unseen")["word"] > 20) == (name == "first")
    kept = {name: checksum for name, checksum in checksums(learnt).items() if "vocabulary" in name or "enc" in name}
    assert kept.items() <= checksums(out).items()
    assert schema.source["encoding"] == {
        "data_set": "small", "directory": str(learnt), "sha256": kept["encoding.json"],
    }  # fmt: skip


def test_parquet_is_encoded_as_text_was(raw: Path, first: Path, tmp_path: Path) -> None:
    lines = [line.split("\t") for line in (raw / "day_1").read_text().splitlines()]
    columns = {name: [value or None for value in values] for name, *values in zip(COLUMNS, *lines, strict=True)}
    for name, kind in (("click", int), ("count", int), ("user", int), ("weight", float)):
        columns[name] = [None if value is None else kind(value) for value in columns[name]]
    pq.write_table(pa.table(columns), tmp_path / "day_1.parquet")
    schema = run_prepare(tmp_path / "day_1.parquet", tmp_path / "out", ids=IdOptions(encoding=first))
    assert rows_of(tmp_path / "out", schema).equals(read_split(first, read_schema(first), "eval"))
    own, other = (json.loads((path / "encoding.json").read_text()) for path in (tmp_path / "out", first))
    assert own == other | {"text": None}


def test_other_tasks_and_splits(raw: Path, first: Path, tmp_path: Path) -> None:
    layout = replace(LAYOUT, name="other", cluster="user", segments=("unused",))
    schema = run_prepare(
        raw, tmp_path / "out", layout, IdOptions(encoding=first), SplitOptions(eval_rows="250:", train_rows=":250")
    )
    assert (schema.rows("train"), schema.rows("eval")) == (250, 250)
    assert schema.fingerprints == read_schema(first).fingerprints
    assert [segment.name for segment in schema.segments] == ["unused", "user"]


def test_it_resumes_with_the_same_encoding_only(
    raw: Path, first: Path, hashed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, ids = tmp_path / "out", IdOptions(encoding=first)
    with monkeypatch.context() as patch:
        patch.setattr(encode_pass, "ShardWriter", no_space)
        with pytest.raises(OSError, match=naming("out.partial")):
            run_prepare(raw, out, ids=ids)
    for other in (IdOptions(encoding=hashed), IdOptions()):
        with pytest.raises(ValueError, match=naming("out.partial", "encoding")):
            run_prepare(raw, out, ids=other)
    moved = shutil.copytree(first, tmp_path / "moved")
    schema = run_prepare(raw, out, ids=IdOptions(encoding=moved))
    run_prepare(raw, tmp_path / "whole", ids=IdOptions(encoding=moved))
    assert checksums(out) == checksums(tmp_path / "whole")
    monkeypatch.setattr(encode_pass, "ShardWriter", no_space)
    assert run_prepare(raw, out, ids=ids) == schema


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (HASHED, ["ids", "'hash'", "encoding"]),
        (IdOptions(min_count=2), ["min_count", 2]),
        (IdOptions(max_ids=9), ["max_ids", 9]),
        (IdOptions(table_max_ids={"user": 9}), ["table_max_ids", "'user': 9"]),
        (IdOptions(multi_hot={"user": 3}), ["multi_hot", "'user': 3"]),
    ],
)
def test_options_of_learning_are_refused(
    raw: Path, first: Path, tmp_path: Path, options: IdOptions, named: list[object]
) -> None:
    with pytest.raises(ValueError, match=naming(*named)):
        run_prepare(raw, tmp_path / "out", ids=replace(options, encoding=first))


COUNT, WEIGHT = LAYOUT.dense
SITE, USER, WORD, TAGS = LAYOUT.categorical


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        (replace(LAYOUT, categorical=(SITE, USER, WORD)), ["number 4", "none", "'tags'"]),
        (replace(LAYOUT, categorical=(USER, SITE, WORD, TAGS)), ["number 1", "'user'", "'site'"]),
        (replace(LAYOUT, categorical=(*LAYOUT.categorical, CategoricalColumn("unused"))), ["'unused'", "none"]),
        (replace(LAYOUT, categorical=(CategoricalColumn("site"), USER, WORD, TAGS)), ["'site'", "'string'", "'hex'"]),
        (
            replace(LAYOUT, categorical=(SITE, USER, CategoricalColumn("unused", name="word"), TAGS)),
            ["'word'", "column", "'unused'", "'word'"],
        ),
        (replace(LAYOUT, categorical=(SITE, USER, WORD, replace(TAGS, separator=";"))), ["'tags'", "';'", "'|'"]),
        (replace(LAYOUT, categorical=(SITE, USER, WORD, replace(TAGS, table="word"))), ["'tags'", "table", "'word'"]),
        (replace(LAYOUT, dense=(COUNT, DenseColumn("weight"))), ["'weight'", "standardise", False, True]),
        (replace(LAYOUT, dense=(replace(COUNT, shift=4.0), WEIGHT)), ["'count'", "shift", 4.0, 3.0]),
        (replace(LAYOUT, missing=("", "-")), ["missing", "'-'", "encoding.json"]),
        (replace(LAYOUT, trim=True), ["trim", True, False]),
    ],
)  # fmt: skip
def test_other_features_are_named(raw: Path, first: Path, tmp_path: Path, layout: Layout, named: list[object]) -> None:
    with pytest.raises(ValueError, match=naming(*named)):
        run_prepare(raw, tmp_path / "out", layout, IdOptions(encoding=first))
    assert not list(tmp_path.iterdir())


def of_an_earlier_version(directory: Path) -> None:
    (directory / "encoding.json").unlink()


def without_a_vocabulary(directory: Path) -> None:
    (directory / "vocabulary/word.parquet").unlink()


def with_another_vocabulary(directory: Path) -> None:
    shutil.copy(directory / "vocabulary/tags.parquet", directory / "vocabulary/word.parquet")


def without_a_schema(directory: Path) -> None:
    (directory / "schema.json").unlink()


def with_another_scale(directory: Path) -> None:
    encoding = json.loads((directory / "encoding.json").read_text())
    encoding["fingerprints"]["dense"]["weight"]["mean"] = 4.5
    (directory / "encoding.json").write_text(json.dumps(encoding))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (of_an_earlier_version, ["encoding.json", "earlier"]),
        (without_a_vocabulary, ["vocabulary/word.parquet", "'word'"]),
        (with_another_vocabulary, ["vocabulary/word.parquet", "encoding.json"]),
        (without_a_schema, ["schema.json"]),
        (with_another_scale, ["encoding.json", "'weight'", 4.5]),
    ],
)
def test_a_damaged_data_set_is_refused_before_any_work(
    raw: Path, first: Path, tmp_path: Path, change: Callable[[Path], None], named: list[object]
) -> None:
    directory = shutil.copytree(first, tmp_path / "first")
    change(directory)
    with pytest.raises(ValueError, match=naming(directory, *named)):
        run_prepare(raw, tmp_path / "out", ids=IdOptions(encoding=directory))
    assert list(tmp_path.iterdir()) == [directory]


def test_other_data_sets_are_refused(raw: Path, first: Path, tmp_path: Path) -> None:
    encoded = make_dataset(tmp_path / "encoded", rows=64, eval_rows=64)
    with pytest.raises(ValueError, match=naming(encoded / "encoding.json", "'encoded'", "'log'")):
        run_prepare(raw, tmp_path / "out", ids=IdOptions(encoding=encoded))
    before = checksums(first)
    with pytest.raises(ValueError, match=naming("out", first)):
        run_prepare(raw, first, ids=IdOptions(encoding=first))
    assert checksums(first) == before
