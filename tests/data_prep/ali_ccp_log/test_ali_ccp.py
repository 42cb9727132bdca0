"""Ali-CCP from files in its published format: against a plain join, and after a kill."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.columns.labels import LabelColumn
from data_prep.columns.layout import CategoricalColumn, DenseColumn, Layout, read_layout
from data_prep.engine import preparation
from data_prep.engine.options import StreamOptions
from data_prep.sources import raw_text
from dlrm_mtl.meaning import without_fingerprint
from dlrm_mtl.model_schema import Task
from dlrm_mtl.schema import read_schema
from tests.data_prep.ali_ccp_log.prepared import decoded, run
from tests.data_prep.ali_ccp_log.raw_ali_ccp import (
    MULTI_HOT,
    common_line,
    join,
    read_lines,
    row_line,
    write,
    write_lines,
)
from tests.data_prep.logs import checksums
from tests.messages import naming

PARTS = {"train": "train", "eval": "test"}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ali_ccp")
    write(directory)
    return directory


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    run(raw, out)
    return out


def test_every_value_is_that_of_a_plain_join(raw: Path, prepared: Path) -> None:
    known: dict[str, set[int]] = {}
    for row in join(raw, "train"):
        for field, value in row.items():
            known.setdefault(field, set()).update(
                value if isinstance(value, list) else [] if value is None else [value]
            )

    def seen(field: str, value: int | None) -> int | str | None:
        return value if value is None or value in known[field] or field in ("click", "buy") else "unseen"

    for split, part in PARTS.items():
        expected = [
            {f: [seen(f, i) for i in v] if isinstance(v, list) else seen(f, v) for f, v in row.items()}
            for row in join(raw, part)
        ]
        assert decoded(prepared, split) == expected
    assert any(value is None for row in decoded(prepared, "train") for value in row.values())
    assert any([] in row.values() for row in decoded(prepared, "train"))
    assert any("unseen" in str(row) for row in decoded(prepared, "eval"))


def test_schema(raw: Path, prepared: Path) -> None:
    assert without_fingerprint(read_schema(prepared).meaning) == []
    schema = read_schema(prepared)
    rows = join(raw, "train")
    clicked = [row for row in rows if row["click"]]
    assert [(task.name, task.label, task.given) for task in schema.tasks] == [
        ("click", "click", ""),
        ("conversion", "conversion", "click"),
        ("click_conversion", "conversion", ""),
    ]
    rates = {task.name: task.base_rate for task in schema.tasks}
    bought = sum(row["buy"] == 1 for row in rows)
    assert rates == pytest.approx(
        {"click": len(clicked) / len(rows), "conversion": bought / len(clicked), "click_conversion": bought / len(rows)}
    )
    assert {split: schema.rows(split) for split in schema.splits} == {"train": 300, "eval": 300}
    assert {feature.name for feature in schema.categorical if feature.multi_hot} == {
        feature.feature for feature in read_layout("ali_ccp").categorical if feature.column in MULTI_HOT
    }
    assert [file["name"] for file in schema.source["files"]] == [f"sample_skeleton_{p}.csv" for p in ("train", "test")]


def test_the_cluster_is_the_user_who_may_have_training_rows(raw: Path, prepared: Path) -> None:
    schema = read_schema(prepared)
    assert (schema.cluster, schema.segment_names) == ("user_id", ("user",))
    trained, evaluated = ([row["101"] for row in join(raw, part)] for part in ("train", "test"))
    expected = ["missing" if user is None else "known" if user in trained else "new" for user in evaluated]
    table = pa.concat_tables([pq.read_table(prepared / shard.file) for shard in schema.splits["eval"]])
    assert [schema.segments[0].values[code] for code in table["segment:user"].to_pylist()] == expected
    assert len(table["cluster:user_id"].unique().drop_null()) == len({*evaluated} - {None})
    with pytest.raises(ValueError, match=naming("'999'", "expected")):
        run(raw, prepared, replace(read_layout("ali_ccp"), cluster="999"))


def test_a_layout_may_leave_fields_out(raw: Path, prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "few.toml").write_text(
        """
        name = "few"
        labels = [{ name = "click" }]
        tasks = [{ name = "click", label = "click" }]
        categorical = [
            { column = "205", name = "item_id", kind = "integer" },
            { column = "110_14", name = "user_shops", kind = "integer", multi_hot = true },
        ]
        """
    )
    schema = run(raw, tmp_path / "out", read_layout(str(tmp_path / "few.toml")))
    assert [feature.name for feature in schema.categorical] == ["item_id", "user_shops"]
    for split in PARTS:
        [few], [all_] = (
            [pq.read_table(out / s.file) for s in read_schema(out).splits[split]]
            for out in (tmp_path / "out", prepared)
        )
        assert few.equals(all_.select(few.column_names))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"categorical": (CategoricalColumn("999", "integer"),)}, ["'999'", "101"]),
        ({"categorical": (CategoricalColumn("205"),)}, ["'205'", "integer"]),
        ({"labels": (LabelColumn("click", at_least=1),)}, ["'click'", "click or buy"]),
        ({"dense": (DenseColumn("508"),)}, ["'508'", "no dense feature"]),
        ({"time_column": "508"}, ["'508'", "no times"]),
        ({"segments": ("109_14",)}, ["'109_14'", "one id per row"]),
    ],
)
def test_layouts_that_the_files_cannot_fill(raw: Path, tmp_path: Path, changes: Any, named: list[object]) -> None:
    click = (Task("click", "click"),)
    layout = Layout("l", (CategoricalColumn("205", "integer"),), (LabelColumn("click"),), click)
    with pytest.raises(ValueError, match=naming(*named)):
        run(raw, tmp_path / "out", replace(layout, **changes))


def test_compressed_files(raw: Path, prepared: Path, tmp_path: Path) -> None:
    write(tmp_path / "raw", suffix=".gz")
    run(tmp_path / "raw", tmp_path / "out")
    for split in PARTS:
        assert decoded(tmp_path / "out", split) == decoded(prepared, split)


def test_data_sets_of_periods_continue_each_other(raw: Path, prepared: Path, tmp_path: Path) -> None:
    first = run(raw, tmp_path / "first", stream=StreamOptions(stream=True))
    later = run(raw, tmp_path / "later", stream=StreamOptions(extend=tmp_path / "first"))
    before = read_schema(prepared)
    assert first.rows("stream") == before.rows("train") + before.rows("eval")
    assert decoded(tmp_path / "first", "stream") == decoded(tmp_path / "later", "stream")
    assert later.fingerprints == first.fingerprints
    assert {*later.source["unseen_before"].values()} == {0.0}
    assert first.fingerprints.tables["user_id"].size > before.fingerprints.tables["user_id"].size


def test_two_workers(raw: Path, prepared: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "out", workers=2)
    assert checksums(tmp_path / "out") == checksums(prepared)


def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_text, "SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(raw_text, "BLOCK_BYTES", 3_000)
    monkeypatch.setattr(preparation, "SEGMENT_BYTES", 20_000)


def test_segments_and_blocks_hold_the_same_rows(
    raw: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_segments(monkeypatch)
    schema = run(raw, tmp_path / "out")
    assert len(schema.splits["train"]) > 2
    for split in PARTS:
        assert decoded(tmp_path / "out", split) == decoded(prepared, split)


KILLED = """
import os, signal, sys
from pathlib import Path
from typing import Any
from data_prep.engine.work_directory import WorkDirectory
from tests.data_prep.ali_ccp_log.prepared import run
finish, left = WorkDirectory.finish, [{left}]
def killed(self, stage, key, record, files):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    finish(self, stage, key, record, files)
WorkDirectory.finish = killed
run(Path({raw!r}), Path({out!r}))
"""


@pytest.mark.parametrize("left", [0, 1, 3, 27])
def test_a_killed_preparation_goes_on(raw: Path, prepared: Path, tmp_path: Path, left: int) -> None:
    out = tmp_path / "out"
    code = KILLED.format(left=left, raw=str(raw), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    markers = list((tmp_path / "out.partial" / "work").glob("*/0*.json"))
    assert len(markers) == left
    run(raw, out)
    assert checksums(out) == checksums(prepared)
    assert not (tmp_path / "out.partial").exists()


def test_damaged_common_features_are_built_again(raw: Path, prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = KILLED.format(left=3, raw=str(raw), out=str(out))
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True)
    [damaged] = (tmp_path / "out.partial" / "work" / "common").glob("0000-110_14.npy")
    damaged.write_bytes(damaged.read_bytes()[:-8] + bytes(8))
    run(raw, out)
    assert checksums(out) == checksums(prepared)


def test_other_common_features_are_another_data_set(raw: Path, tmp_path: Path) -> None:
    write(tmp_path / "raw")
    run(tmp_path / "raw", tmp_path / "out")
    first = (tmp_path / "out" / "plan.json").read_text()
    run(tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out" / "plan.json").read_text() == first
    path = tmp_path / "raw" / "common_features_test.csv"
    lines = read_lines(path)
    write_lines(path, [*lines, common_line("another", [("101", 7)])])
    run(tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out" / "plan.json").read_text() != first


def test_a_list_may_be_empty(tmp_path: Path) -> None:
    write(tmp_path / "raw", rows=30)
    for name in ("sample_skeleton_train.csv", "common_features_train.csv"):
        path = tmp_path / "raw" / name
        lines = read_lines(path)
        start = lines[4].rsplit(",", 2)[0]
        write_lines(path, [*lines[:4], f"{start},0,", *lines[5:]])
    run(tmp_path / "raw", tmp_path / "out")
    assert decoded(tmp_path / "out", "train") == join(tmp_path / "raw", "train")


def test_ids_of_64_bits(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write(raw, rows=30)
    path = raw / "common_features_train.csv"
    large = common_line("large", [("110_14", 2**63 - 1), ("101", -(2**63)), ("110_14", -5)])
    write_lines(path, [*read_lines(path), large])
    skeleton = raw / "sample_skeleton_train.csv"
    write_lines(skeleton, [*read_lines(skeleton), row_line(2, 0, 0, "large", [("853", 2**62), ("205", 2**40)])])
    run(raw, tmp_path / "out")
    expected = join(raw, "train")
    assert expected[-1]["110_14"] == [2**63 - 1, -5]
    # The integer that marks a missing value elsewhere is an ordinary value here.
    assert expected[-1]["101"] == np.iinfo(np.int64).min
    assert decoded(tmp_path / "out", "train")[-1]["853"] == [2**62]
    assert decoded(tmp_path / "out", "train")[-1]["110_14"] == expected[-1]["110_14"]
