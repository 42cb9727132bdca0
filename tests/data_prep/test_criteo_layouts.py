"""The layouts of Criteo's smaller public logs, on rows of the published form."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.columns.layout import read_layout
from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from dlrm_mtl.schema import Schema

ROWS = 60


def run(layout: str, path: Path, lines: Sequence[str]) -> tuple[Schema, pa.Table]:
    """All rows as training rows, and the same as evaluation rows."""
    path.write_text("".join(f"{line}\n" for line in lines))
    again = path.with_name(f"again-{path.name}")
    again.write_bytes(path.read_bytes())
    out = path.parent / "out"
    options = (IdOptions(), SplitOptions(), WorkOptions())
    schema = prepare(layout, "test", read_layout(layout), [path, again], out, *options)
    return schema, pq.read_table(out / "train")


def test_uplift(tmp_path: Path) -> None:
    header = ",".join([*(f"f{i}" for i in range(12)), "treatment", "conversion", "visit", "exposure"])
    values = [[i + 0.5 * f for f in range(12)] for i in range(ROWS)]
    lines = [",".join(map(str, [*row, i % 2, int(i % 6 == 0), int(i % 3 == 0), 1])) for i, row in enumerate(values)]
    schema, table = run("criteo_uplift", tmp_path / "uplift.csv", [header, *lines])
    assert [(task.name, task.given, task.base_rate) for task in schema.tasks] == [
        ("visit", "", 1 / 3),
        ("conversion", "visit", 0.5),
    ]
    assert table["treatment"].to_pylist() == [2 + i % 2 for i in range(ROWS)]
    scale = schema.source["dense_scaling"]["f7"]
    stored = np.asarray(table["f7"]) * scale["deviation"] + scale["mean"]
    np.testing.assert_allclose(stored, [row[7] for row in values], rtol=1e-5, atol=1e-5)
    assert table.column_names == ["treatment", *schema.dense, "visit", "conversion"]


def test_sponsored_search(tmp_path: Path) -> None:
    lines = []
    for i in range(ROWS):
        sold, delay = (1, 50_000 * (i % 3)) if i % 2 else (0, -1)
        outcome = [sold, 19.9 if sold else -1.0, delay, 1_596_439_471 + i]
        product = [f"A{i % 5}", f"B{i % 2}", *["C"] * 3, *["D", "E", *["-1"] * 5], "F", f"G{i}"]
        title = "-1" if i % 10 == 0 else "T1 T2" if i % 2 else "T3"
        line = [*outcome, i % 7 - 1, 0.0, *product, title, "P", f"U{i % 4}"]
        lines.append("\t".join(map(str, line)))
    assert {line.count("\t") for line in lines} == {22}
    schema, table = run("criteo_sponsored_search", tmp_path / "CriteoSearchData", lines)
    assert table["sale"].to_pylist() == [i % 2 for i in range(ROWS)]
    assert table["sale_in_a_day"].to_pylist() == [int(i % 2 == 1 and i % 3 < 2) for i in range(ROWS)]
    assert table["nb_clicks_1week_missing"].to_pylist() == [float(i % 7 == 0) for i in range(ROWS)]
    assert set(table["product_category_7"].to_pylist()) == {0}
    titles = [len(ids) for ids in table["product_title"].to_pylist()]
    assert titles == [0 if i % 10 == 0 else 2 if i % 2 else 1 for i in range(ROWS)]
    assert {feature.name for feature in schema.categorical if feature.multi_hot} == {"product_title"}


def test_attribution(tmp_path: Path) -> None:
    names = ["timestamp", "uid", "campaign", "conversion", "conversion_timestamp", "conversion_id", "attribution"]
    names += ["click", "click_pos", "click_nb", "cost", "cpo", "time_since_last_click"]
    header = "\t".join([*names, *(f"cat{i}" for i in range(1, 10))])
    lines = []
    for i in range(ROWS):
        click, conversion, attribution = i % 2, int(i % 3 == 0), int(i % 6 == 0)
        later = [9_000 + i, 77] if conversion else [-1, -1]
        row = [i, 1000 + i % 7, 5, conversion, *later, attribution, click, -1, -1, 1e-05, 0.39, i - 1]
        lines.append("\t".join(map(str, [*row, *range(100, 109)])))
    schema, table = run("criteo_attribution", tmp_path / "criteo_attribution_dataset.tsv", [header, *lines])
    assert [(task.name, task.given, task.base_rate) for task in schema.tasks] == [
        ("click", "", 0.5),
        ("conversion", "click", 1 / 3),
        ("attribution", "conversion", 0.5),
    ]
    assert table["uid"].to_pylist() == [2 + i % 7 for i in range(ROWS)]
    assert table["time_since_last_click_missing"].to_pylist() == [1.0] + [0.0] * (ROWS - 1)
