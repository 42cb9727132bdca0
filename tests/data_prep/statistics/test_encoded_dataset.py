"""The schema of parquet files that are encoded already: that of the preparation that wrote them, or a line that says
what is wrong with them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn
from data_prep.encoding.files import read_encoding
from data_prep.schema import parse_task
from data_prep.statistics.encoded_columns import Roles
from data_prep.statistics.encoded_dataset import describe_encoded
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import Schema, read_schema
from tests.data_prep.logs import LAYOUT, lines_of, run_prepare, write_log
from tests.entry_points.processes import complaint, python

TASKS = (Task("click", "click"), Task("heavy", "heavy", given="click"))
ROLES = Roles(TASKS, tables={"user_2": "user"})
PREPARED = replace(
    LAYOUT,
    columns=(*LAYOUT.columns, "user_2"),
    labels=(
        LabelColumn("click"),
        LabelColumn("heavy", "unused", positive=("xxx", "xxxx", "xxxxx"), missing_is_negative=True),
    ),
    tasks=TASKS,
    categorical=(*LAYOUT.categorical, CategoricalColumn("user_2", "integer", table="user")),
    cluster="user",
    segments=("word",),
)
SMALL = ["--batch-size", "32", "--model.head-mlp", "4", "--model.bottom-mlp", "8"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Schema]:
    directory = tmp_path_factory.mktemp("prepared")
    lines = [f"{line}\t{line.split(chr(9))[4]}" for line in lines_of(400)]
    logs = [write_log(directory / f"log-{i}", lines[i * 200 : i * 200 + 200]) for i in range(2)]
    return directory / "data", run_prepare(logs, directory / "data", PREPARED)


@pytest.fixture
def encoded(prepared: tuple[Path, Schema], tmp_path: Path) -> Path:
    """The shards alone."""
    for split in ("train", "eval"):
        shutil.copytree(prepared[0] / split, tmp_path / "data" / split)
    return tmp_path / "data"


def change(directory: Path, split: str, edit: Callable[[pa.Table], pa.Table]) -> None:
    [path] = sorted((directory / split).glob("*.parquet"))
    pq.write_table(edit(pq.read_table(path)), path)


def with_value(name: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
    def edit(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[row] = value
        column = pa.array(values, table.schema.field(name).type)
        return table.set_column(table.column_names.index(name), name, column)

    return edit


def test_the_schema_is_that_of_the_preparation(prepared: tuple[Path, Schema], encoded: Path) -> None:
    schema, remarks = describe_encoded(encoded, "small", ROLES)
    expected = prepared[1]
    assert remarks == []
    for field in ("name", "categorical", "dense", "tasks", "splits", "cluster"):
        assert getattr(schema, field) == getattr(expected, field), field
    for field in ("defined", "positives"):
        assert schema.source[field] == expected.source[field]
    [segment], codes = schema.segments[:1], [len(segment.values) for segment in expected.segments]
    assert [s.name for s in schema.segments] == [s.name for s in expected.segments]
    assert len(segment.values) == codes[0]


def test_the_command_writes_a_data_set_to_train_on(encoded: Path, tmp_path: Path) -> None:
    process = python("data_prep.schema", encoded, "--tasks", "click", "heavy:heavy:click", "--tables", "user_2", "user")
    assert process.returncode == 0, process.stderr
    schema = read_schema(encoded)
    assert schema.tasks[1].given == "click"
    assert read_encoding(encoded, schema.meaning).rows == "encoded"
    again = python("data_prep.schema", encoded, "--tasks", "click", "heavy")
    assert "schema.json" in complaint(again)
    run = python("dlrm_mtl.train", "--data", encoded, "--out", tmp_path / "run", *SMALL)
    assert run.returncode == 0, run.stderr
    assert python("data_prep.describe", encoded, "--json", tmp_path / "d.json").returncode == 0
    described: dict[str, Any] = json.loads((tmp_path / "d.json").read_text())
    assert [task["given"] for task in described["tasks"]] == ["", "click"]
    assert described["categorical"][0]["splits"]["train"]["missing_share"] is None


def test_tasks_on_the_command_line() -> None:
    assert [parse_task(text) for text in ("a", "a:b", "a:b:c")] == [Task("a", "a"), Task("a", "b"), Task("a", "b", "c")]
    with pytest.raises(ValueError, match="a:b:c:d"):
        parse_task("a:b:c:d")


def test_cardinalities_leave_room(encoded: Path) -> None:
    schema, remarks = describe_encoded(encoded, "small", replace(ROLES, cardinalities={"user": 5000, "site": 60}))
    sizes = {feature.name: feature.cardinality for feature in schema.categorical}
    assert (sizes["user"], sizes["user_2"], sizes["site"]) == (5000, 5000, 60)
    assert ["'user'" in remark or "'user_2'" in remark for remark in remarks] == [True, True]
    for cardinalities in ({"user": 3}, {"nowhere": 3}):
        with pytest.raises(ValueError, match=next(iter(cardinalities))):
            describe_encoded(encoded, "small", replace(ROLES, cardinalities=cardinalities))


def test_sparse_ids_and_forgotten_labels_are_said(encoded: Path) -> None:
    change(encoded, "eval", with_value("site", 3, 10**9))
    _, remarks = describe_encoded(encoded, "small", replace(ROLES, tasks=TASKS[:1]))
    assert [("'site'" in remark, "'heavy'" in remark) for remark in remarks] == [(True, False), (False, True)]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("site", -1, "row 7 is -1"),
        ("tags", [3, -2], "row 7 is -2"),
        ("click", 2, "row 7 is 2"),
        ("weight", float("nan"), "row 7 is nan"),
        ("word", None, "row 7 is null"),
    ],
)
def test_a_bad_value_is_named(encoded: Path, name: str, value: object, expected: str) -> None:
    def nullable(table: pa.Table) -> pa.Table:
        table = table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))
        return with_value(name, 7, value)(table)

    change(encoded, "train", nullable)
    with pytest.raises(ValueError, match=rf"train/part-.*parquet.*'{name}', {expected}"):
        describe_encoded(encoded, "small", ROLES)


def test_files_and_columns_that_do_not_fit(encoded: Path) -> None:
    def refuses(match: str, roles: Roles = ROLES) -> None:
        with pytest.raises(ValueError, match=match):
            describe_encoded(encoded, "small", roles)

    refuses("'nowhere'", replace(ROLES, ignored=("nowhere",)))
    refuses("'nowhere'", replace(ROLES, tables={"nowhere": "user"}))
    refuses("'nowhere'", replace(ROLES, tasks=(Task("click", "nowhere"),)))
    table = pq.read_table(next((encoded / "eval").iterdir()))
    pq.write_table(table.drop_columns(["word"]), encoded / "eval" / "part-1.parquet")
    refuses("part-1.parquet.*'word'")
    (encoded / "eval" / "part-1.parquet").write_text("text")
    refuses("part-1.parquet")
    (encoded / "eval" / "part-1.parquet").unlink()
    change(encoded, "train", lambda table: table.append_column("note", pa.array(["x"] * len(table))))
    refuses("'note'")
    change(encoded, "eval", lambda table: table.append_column("note", pa.array(["x"] * len(table))))
    refuses("'note' has type string")
    assert describe_encoded(encoded, "small", replace(ROLES, ignored=("note",)))[0].source["ignored"] == ["note"]
    one_class = pa.array(np.zeros(200, np.int8))
    change(encoded, "train", lambda t: t.set_column(t.column_names.index("click"), "click", one_class[: len(t)]))
    refuses("'click'", replace(ROLES, ignored=("note",)))
    shutil.rmtree(encoded / "eval")
    refuses("eval: not found")
