"""What schema.json says is checked by type and range when it is read."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.schema import read_schema, write_schema
from tests.datasets import make_dataset
from tests.json_edits import Change, edit
from tests.messages import naming


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("schema") / "set", with_context=True)


@pytest.fixture
def directory(written: Path, tmp_path: Path) -> Path:
    """A copy of the schema, to be changed."""
    shutil.copy(written / "schema.json", tmp_path)
    return tmp_path


def put(place: str, value: Any) -> Change:
    """Changes one value, by its place as a message names it: ``tasks[0].name``."""

    def change(raw: Any) -> None:
        *path, last = place.replace("[", ".[").split(".")
        for key in path:
            raw = raw[int(key[1:-1])] if key.startswith("[") else raw[key]
        raw[int(last[1:-1]) if last.startswith("[") else last] = value

    return change


def test_a_schema_is_read_as_it_was_written(written: Path, directory: Path) -> None:
    schema = read_schema(written)
    write_schema(schema, directory)
    assert read_schema(directory) == schema


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2, expected 1"),
        ({"colour": "red"}, "unknown key 'colour', expected "),
        ({"tasks": []}, "at least one task"),
        ({"categorical": []}, "at least one categorical feature"),
        ({"dense": ["age", "age"]}, "feature 'age' is named twice"),
        ({"dense": ["age", "click"]}, "label 'click' is also a feature"),
        ({"tasks": [{"name": "a", "label": "click", "base_rate": 1.0}]}, "'a' has base rate 1.0"),
        (
            {"tasks": [{"name": "a", "label": "click", "given": "click", "base_rate": 0.5}]},
            "conditioned on its own label",
        ),
        ({"tasks": [{"name": "", "label": "click", "base_rate": 0.5}]}, "task '': expected a name of 1"),
        (
            {"tasks": [{"name": "a\r", "label": "click", "base_rate": 0.5}]},
            r"task 'a\\r': expected a name of 1 to 200 printable",
        ),
        ({"tasks": [{"label": "click"}]}, r"tasks\[0\]: missing key 'name'"),
        ({"splits": {"train": [{"file": "x", "rows": 1}]}}, "split 'eval' has no shard"),
        ({"splits": {"train": [{"file": "/etc/x", "rows": 1}]}}, "shard '/etc/x' lies outside"),
        ({"splits": {"train": [{"file": "train/../../x", "rows": 1}]}}, "shard 'train/../../x' lies outside"),
        (
            {
                "categorical": [
                    {"name": "a", "cardinality": 3, "table": "t"},
                    {"name": "b", "cardinality": 4, "table": "t"},
                ]
            },
            r"share table 't' differ in cardinality \(a: 3, b: 4\)",
        ),
    ],
)
def test_bad_schema(directory: Path, changes: dict[str, Any], message: str) -> None:
    edit(directory / "schema.json", lambda raw: raw.update(changes))
    with pytest.raises(ValueError, match=message) as error:
        read_schema(directory)
    assert "schema.json" in str(error.value)


NO_NUMBER: list[Any] = [None, "5", [5], {}, True]


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ("format", [None, "1", 1.0, True, 0, [1]]),
        ("name", [None, 5, ["a"], {}]),
        ("categorical", [None, 5, "user", {}, [5], [None], [[]], ["user"], [{}]]),
        ("categorical[0].name", [None, 5, ["a"], {}, ""]),
        ("categorical[0].cardinality", [*NO_NUMBER, 0, -5, 50.5, 50.0, 2**40 + 1, 2**63, 2**64]),
        ("categorical[0].multi_hot", [None, 0, 1, "true", []]),
        ("categorical[2].mean_length", [*NO_NUMBER, -0.1, 1e308, 2**64]),
        ("categorical[2].table", [None, 5, -1, ["item"]]),
        ("dense", [None, 1, "age", {}, [1], [None], [["age"]], [""]]),
        ("tasks", [None, 5, "click", {}, [5], ["click"], [[]]]),
        ("tasks[0].name", [None, 5, ["a"], {}, ""]),
        ("tasks[2].label", [None, 5, [], {}, ""]),
        ("tasks[2].given", [None, 5, [], False]),
        ("tasks[0].base_rate", [*NO_NUMBER, 0, 1, -0.5, 1.5]),
        ("tasks[0].bayes_ne", ["x", [0.5], True, -1, -1e-9]),
        ("splits", [None, 5, [], "train", {}, {"train": [], "eval": []}]),
        ("splits.eval", [None, 5, {}, "eval", [5], [[]], ["eval/part-00000.parquet"], [{}]]),
        ("splits.eval[0].file", [None, 5, [], "", ".", "a\0b", "/etc/passwd", "../x", "a/../../x"]),
        ("splits.eval[0].rows", [*NO_NUMBER, -1, 1000.0, 2**64]),
        ("splits.eval[0].sha256", [None, False, 0, [], "abc", "g" * 64, "A" * 64, "a" * 65]),
        ("source", [None, 5, [], "x"]),
        ("cluster", [None, 5, ["user"], {}, "a\nb", "x" * 201]),
        ("segments", [None, 5, "hour", {}, ["hour"], [{}], [{"name": "hour"}], [{"values": ["a"]}]]),
        ("segments[0].name", [None, 5, [], "", "a\tb", "x" * 201, "tab"]),
        ("segments[0].values", [None, 5, "a", [], [1], [""], ["a", "a"], ["a\rb"], [str(n) for n in range(257)]]),
    ],
)
def test_a_value_of_another_type_or_range_is_refused(directory: Path, place: str, values: list[Any]) -> None:
    path = directory / "schema.json"
    good = path.read_text()
    for value in values:
        path.write_text(good)
        edit(directory / "schema.json", put(place, value))
        with pytest.raises(ValueError, match=r"schema\.json: ") as error:
            read_schema(directory)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < len(str(path)) + 400


def test_fields_of_tasks_and_their_kinds(regression_dataset: Path, tmp_path: Path) -> None:
    shutil.copy(regression_dataset / "schema.json", tmp_path)
    written = read_schema(tmp_path)
    assert written.regression_labels == ("play", "spend")
    assert written.weight_columns == ("importance", "value")
    for place, values in {
        "tasks[1].kind": [None, 5, "ordinal", "binary"],
        "tasks[1].mean": [*NO_NUMBER, 1e39],
        "tasks[1].deviation": [*NO_NUMBER, 0, -1.0, 1e-39, 1e39],
        "tasks[1].huber": ["x", [1.0], 0, -0.5],
        "tasks[1].base_rate": [0.5],
        "tasks[1].through": ["buy"],
        "tasks[1].weight": [None, 5, "age", "click", "spend"],
        "tasks[2].given": ["play"],
        "tasks[2].through": ["play"],
        "tasks[2].label": ["play"],
        **{f"tasks[0].{field}": [value] for field, value in (("mean", 2.0), ("huber", 1.0), ("unit", "s"))},
    }.items():
        for value in values:
            write_schema(written, tmp_path)
            edit(tmp_path / "schema.json", put(place, value))
            with pytest.raises(ValueError, match=r"schema\.json: "):
                read_schema(tmp_path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 5000])
@pytest.mark.parametrize("place", ["categorical[0].cardinality", "categorical[2].mean_length", "tasks[0].base_rate"])
def test_what_is_no_number_of_json_is_refused(directory: Path, place: str, number: str) -> None:
    edit(directory / "schema.json", put(place, "NUMBER"))
    path = directory / "schema.json"
    path.write_text(path.read_text().replace('"NUMBER"', number))
    with pytest.raises(ValueError, match=r"schema\.json: "):
        read_schema(directory)


@pytest.mark.parametrize("text", ["", "5", "[]", "null", '"schema"', "[" * 100_000, '{"format": 1, "format": 1}'])
def test_what_is_no_schema_at_all_is_refused(directory: Path, text: str) -> None:
    (directory / "schema.json").write_text(text)
    with pytest.raises(ValueError, match=r"schema\.json: "):
        read_schema(directory)


@pytest.mark.parametrize("same", ["{}", "./{}", "train/.././{}", "{}/"])
@pytest.mark.parametrize("split", ["train", "eval"])
def test_a_shard_is_listed_once(directory: Path, split: str, same: str) -> None:
    def repeat(raw: Any) -> None:
        shard = dict(raw["splits"]["train"][0])
        shard["file"] = same.format(shard["file"])
        raw["splits"][split].append(shard)

    edit(directory / "schema.json", repeat)
    with pytest.raises(ValueError, match=r"shard '.*' (stands in split .* and in split 'train'|lies outside)"):
        read_schema(directory)


def test_no_feature_or_label_has_the_column_of_a_segment_or_the_cluster(directory: Path) -> None:
    for place, name in (("segments[0].name", "hour"), ("cluster", "visitor")):
        column = f"{place.split('[')[0].rstrip('s')}:{name}"
        edit(directory / "schema.json", put("dense[0]", column))
        edit(directory / "schema.json", lambda raw: raw.pop("fingerprints", None))
        with pytest.raises(ValueError, match=naming(f"column '{column}'")):
            read_schema(directory)


def test_a_schema_from_before_there_were_segments(directory: Path) -> None:
    edit(directory / "schema.json", lambda raw: [raw.pop(key) for key in ("cluster", "segments")])
    schema = read_schema(directory)
    assert (schema.cluster, schema.segments) == ("", ())


PERIOD = {"start": "2024-01-01", "stop": "2024-01-02T12:00:00"}
TABLE = {"method": "hash", "size": 30, "function": "splitmix64 of the 64-bit integer"}
RESET = {"file": "reset/item.parquet", "rows": 2, "sha256": "a" * 64}


@pytest.fixture
def stream(directory: Path) -> Path:
    """The schema of a data set of a period."""

    def change(raw: Any) -> None:
        raw["splits"] = {"stream": raw["splits"]["eval"]}
        raw["period"] = PERIOD
        raw["continues"] = {"data_set": "small", "tables": {"item": TABLE}, "reset": {"item": RESET}}

    edit(directory / "schema.json", change)
    return directory


def test_a_period_and_what_it_continues_are_read_as_they_were_written(stream: Path, tmp_path: Path) -> None:
    schema = read_schema(stream)
    write_schema(schema, tmp_path)
    assert read_schema(tmp_path) == schema
    assert schema.split_names == ("stream",)
    assert schema.evaluated_split == "stream"
    assert schema.of_split("stream").cluster == "visitor"
    assert schema.continues is not None
    assert schema.continues.reset["item"].rows == 2
    for split in ("train", "eval"):
        with pytest.raises(ValueError, match=naming(split, "stream")):
            schema.rows(split)


def test_a_day_may_have_one_class(stream: Path) -> None:
    edit(stream / "schema.json", put("tasks[0].base_rate", 0.0))
    assert read_schema(stream).tasks[0].base_rate == 0.0


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ("splits.eval", [[{"file": "eval/part.parquet", "rows": 5}]]),
        ("tasks[0].base_rate", [*NO_NUMBER, -0.5, 1.5]),
        ("period", [5, "2024-01-01", {"start": "2024-01-01"}]),
        ("period.start", [None, 20, "", "monday", "2024-01-03", "2024-01-01T00:00:00+01:00", "5"]),
        ("continues", [5, "small", {}]),
        ("continues.tables.item.size", [*NO_NUMBER, 0, 31]),
        ("continues.tables", [{"other": TABLE}, {}]),
        ("continues.reset", [None, {"item": RESET, "tags": RESET}, {"item": []}]),
        ("continues.reset.item.rows", [*NO_NUMBER, 0, 31]),
        ("continues.reset.item.file", [None, "", "/etc/x", "a/../../x"]),
        ("continues.reset.item.sha256", [None, "", "g" * 64]),
    ],
)
def test_an_invalid_period_or_continuation_is_refused(stream: Path, place: str, values: list[Any]) -> None:
    path = stream / "schema.json"
    good = path.read_text()
    for value in values:
        path.write_text(good)
        edit(path, put(place, value))
        with pytest.raises(ValueError, match=r"schema\.json: "):
            read_schema(stream)


def test_only_a_stream_has_a_period(directory: Path) -> None:
    edit(directory / "schema.json", put("period", PERIOD))
    with pytest.raises(ValueError, match=naming("period", "stream")):
        read_schema(directory)


def test_large_numbers_are_read_as_they_are(directory: Path) -> None:
    edit(directory / "schema.json", lambda raw: raw.pop("fingerprints"))
    edit(directory / "schema.json", put("categorical[0].cardinality", 2**40))
    edit(directory / "schema.json", put("categorical[2].mean_length", 3))
    edit(directory / "schema.json", put("tasks[0].bayes_ne", 0.75))
    schema = read_schema(directory)
    assert schema.categorical[0].cardinality == 2**40
    assert schema.categorical[2].mean_length == 3.0
    assert schema.tasks[0].bayes_ne == 0.75
