"""Layouts: those of public logs load, and a faulty file is refused with one line that names the place."""

from pathlib import Path
from typing import Any

import pytest

from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import READY, CategoricalColumn, Layout, read_layout
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from dlrm_mtl.model_schema import Task
from dlrm_mtl.records import build
from tests.messages import naming

READY_NAMES = sorted(path.stem for path in READY.glob("*.toml"))

VALID: dict[str, Any] = {
    "name": "log",
    "categorical": [{"column": "site"}, {"column": "ads", "multi_hot": True, "separator": " "}],
    "dense": [{"column": "age"}],
    "labels": [{"name": "click"}, {"name": "buy", "column": "price", "at_least": 1.0}],
    "tasks": [{"name": "ctr", "label": "click"}, {"name": "cvr", "label": "buy", "given": "click"}],
}


@pytest.mark.parametrize("name", READY_NAMES)
def test_ready_layouts_load(name: str) -> None:
    layout = read_layout(name)
    assert layout.name == name
    assert layout.licence
    assert layout.with_tasks([layout.tasks[0].name]).tasks == layout.tasks[:1]


def test_all_public_logs_have_a_layout() -> None:
    criteo = ["criteo", "criteo_attribution", "criteo_sponsored_search", "criteo_uplift"]
    assert set(READY_NAMES) == {"adult", "ali_ccp", "bank_marketing", "census_education", "census_income", *criteo}


@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("criteo_uplift", {"visit", "conversion", "exposure"}),
        (
            "criteo_sponsored_search",
            {"Sale", "SalesAmountInEuro", "time_delay_for_conversion", "product_price", "click_timestamp"},
        ),
        (
            "criteo_attribution",
            {"conversion", "conversion_timestamp", "conversion_id", "attribution", "click", "click_pos", "click_nb"}
            | {"cost", "cpo", "timestamp"},
        ),
        ("bank_marketing", {"duration", "y"}),
    ],
)
def test_outcomes_are_no_inputs(name: str, outcomes: set[str]) -> None:
    layout = read_layout(name)
    inputs = {*(column.column for column in layout.categorical), *(column.column for column in layout.dense)}
    assert not inputs & outcomes


def changed(path: str, value: Any) -> dict[str, Any]:
    """VALID with one entry replaced: ``labels.1.below`` is that of the second label."""
    whole: dict[str, Any] = {
        key: [dict(entry) for entry in item] if isinstance(item, list) else item for key, item in VALID.items()
    }
    *parents, last = path.split(".")
    place: Any = whole
    for parent in parents:
        place = place[int(parent)] if parent.isdigit() else place[parent]
    place[int(last) if last.isdigit() else last] = value
    return whole


def test_the_valid_layout() -> None:
    assert build(Layout, VALID, "layout").tables.keys() == {"site", "ads"}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("colour", 1, "layout: unknown key 'colour', expected name, "),
        ("dense.0.scale", "log", r"layout.dense\[0\]: unknown key 'scale', expected column, "),
        ("categorical.0", {}, r"layout.categorical\[0\]: missing key 'column'"),
        ("dense.0", "age", r"layout.dense\[0\]: expected an object, found 'age'"),
        ("labels.0", 7, r"layout.labels\[0\]: expected an object, found 7"),
        ("tasks", {"name": "ctr"}, "layout.tasks: expected a list"),
        ("name", 3, "layout.name: 3, expected str"),
        ("trim", "yes", "layout.trim: 'yes', expected bool"),
        ("missing", "?", "layout.missing: expected a list, found '[?]'"),
        ("missing", [1], r"layout.missing\[0\]: 1, expected str"),
        ("dense.0.shift", True, r"layout.dense\[0\].shift: True, expected float"),
        ("dense.0.transform", "sqrt", r"layout.dense\[0\].transform: 'sqrt', expected none or log"),
        ("categorical.0.kind", "int", r"layout.categorical\[0\].kind: 'int', expected hex or integer or string"),
        ("categorical.0.max_ids", 1.5, r"layout.categorical\[0\].max_ids: 1.5, expected int"),
        ("separator", "||", r"separator '\|\|': expected one character"),
        ("columns", ["site", "site"], "column 'site' is named twice"),
        ("columns", ["site", "click", "age", "price"], "column 'ads' is none of the columns site, click, age, price"),
        ("columns", ["\x1b[31m"], r"is none of the columns \\x1b\[31m$"),
        ("dense.0.column", "site", "feature 'site' is named twice"),
        ("dense.0.name", "ads", "feature 'ads' is named twice"),
        ("categorical.0.name", "age_missing", "dense 'age' marks missing values in 'age_missing'"),
        ("labels.1.name", "click", "label 'click' is named twice"),
        ("tasks.1.name", "ctr", "task 'ctr' is named twice"),
        ("categorical", [], "needs at least one categorical feature"),
        ("tasks", [], "needs at least one task"),
        ("tasks.0.label", "view", r"task 'ctr' names label 'view', which is none of \['buy', 'click'\]"),
        ("tasks.1.given", "view", "task 'cvr' names label 'view'"),
        ("tasks.1.given", "buy", "task 'cvr' is conditioned on its own label"),
        ("labels.1.column", "age", "column 'age' is a feature, and cannot be the source of label 'buy'"),
        ("categorical.0.name", "buy", "label 'buy' is also a feature"),
        ("dense.0", {"column": "age", "transform": "log", "shift": 0}, "dense 'age' has shift 0.0"),
        ("dense.0", {"column": "age", "transform": "log", "shift": float("inf")}, "dense 'age' has shift inf"),
        ("labels.1.positive", ["1"], "label 'buy' has positive texts and a range"),
        ("labels.0.negative", ["no"], "label 'click' has negative texts, but no positive ones"),
        (
            "labels.0",
            {"name": "click", "positive": ["y"], "negative": ["y"]},
            "'y' among its positive and its negative texts",
        ),
        ("labels.1.below", 1, "at_least 1.0 and below 1.0: no number is between"),
        ("categorical.1.multi_hot", False, "categorical 'ads': a separator needs multi_hot and kind string"),
        ("categorical.1.kind", "integer", "categorical 'ads': a separator needs multi_hot and kind string"),
        ("categorical.0.name", "si\nte", r"feature 'si\\nte': expected a name of 1 to 200 printable characters"),
        ("categorical.0.column", "", "feature '': expected a name"),
        ("categorical.0.table", "\x1b[31m", "expected a name of 1 to 200 printable characters"),
        ("categorical.0.table", "x" * 201, "expected a name of 1 to 200 printable characters"),
        ("labels.0", {"name": "", "column": "click"}, "label '': expected a name"),
        ("tasks.0.name", "", "task '': expected a name"),
        ("tasks.0.name", "ctr\u202e", r"task 'ctr\\u202e': expected a name"),
        ("dense.0.name", "\x00", r"feature '\\x00': expected a name"),
        ("categorical.0", {"column": "site", "kind": "hex", "table": "ads"}, "share table 'ads' differ in kind"),
        ("categorical.0", {"column": "site", "max_ids": 9, "table": "ads"}, "share table 'ads' differ in kind or"),
        ("dense.0", {"column": "site", "name": "size"}, "column 'site' is read as string and as number"),
    ],
)
def test_a_wrong_layout_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(Layout, changed(path, value), "layout")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("categorical.0.table", ""),
        ("categorical.0.table", "a/b"),
        ("categorical.0.table", ".."),
        ("categorical.0.name", "type"),
        ("dense.0.name", "ctr"),
        ("tasks.0.name", "a.b"),
        ("tasks.0.name", "site"),
        ("tasks.0.name", "点击 'x' | <b>"),
    ],
)
def test_strange_names_are_names(path: str, value: str) -> None:
    build(Layout, changed(path, value), "layout")


def test_one_column_may_tell_several_labels() -> None:
    labels = (LabelColumn("seen", "seconds", at_least=1), LabelColumn("finished", "seconds", at_least=30))
    layout = Layout("log", (CategoricalColumn("site"),), labels, (Task("seen", "seen"),))
    assert layout.uses == {"site": "string", "seconds": "number"}


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "log.toml"
    with pytest.raises(ValueError, match=naming("layout 'unknown'", "not found", "adult", "criteo")):
        read_layout("unknown")
    with pytest.raises(ValueError, match=naming("not found", ".toml")):
        read_layout(str(path))
    path.write_text("name = ")
    with pytest.raises(ValueError, match=naming("log.toml", "TOML")):
        read_layout(str(path))
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ValueError, match=naming("log.toml", "TOML")):
        read_layout(str(path))
    path.write_text('name = "log"\ncolour = 1\n')
    with pytest.raises(ValueError, match=naming("log.toml", "'colour'")):
        read_layout(str(path))
    with pytest.raises(ValueError, match=naming("task 'ctr'", "income, never_married")):
        read_layout("adult").with_tasks(["ctr"])


def test_an_unknown_text_of_a_label_is_a_bad_row(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("site,bought\na,yes\nb,no\nc,perhaps\n")
    labels = (LabelColumn("buy", "bought", positive=("yes",), negative=("no",)),)
    layout = Layout("log", (CategoricalColumn("site"),), labels, (Task("buy", "buy"),))
    with pytest.raises(ValueError, match=naming("log.csv, line 4, column 'bought'", "'perhaps'", "yes or no")):
        prepare("log", "test", layout, [log], tmp_path / "out", IdOptions(), SplitOptions(), WorkOptions())
