"""Bad shards when a run begins and when it goes on: named, and under "skip" left out by every rank alike."""

import json
import os
import re
from pathlib import Path

import pytest
import torch

from dlrm_mtl.data.checks import check_labels_differ
from dlrm_mtl.data.dataset import Dataset, open_dataset, open_recorded
from dlrm_mtl.data.inspection import combine, inspect_values, recheck_shards, record_shards
from dlrm_mtl.data.reader import EvaluationReader, TrainingReader
from dlrm_mtl.data.shards import DataRecord
from dlrm_mtl.data.source import RowSource
from dlrm_mtl.run_config import Check, OnBadShard
from dlrm_mtl.schema import read_schema
from tests.data.faults import FAULTS, Fault, change_a_value, flip_a_byte, truncate, use_an_unknown_id
from tests.datasets import make_dataset
from tests.json_edits import Change, drop, put
from tests.messages import mentions, naming

WORLD_SIZE = 3
CHECKS: tuple[Check, ...] = ("full", "footers", "none")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "set", eval_rows=600)  # both splits: 256, 256 and 88 rows


def begin(
    directory: Path, on_bad_shard: OnBadShard, world_size: int = WORLD_SIZE, check: Check = "full"
) -> tuple[Dataset, DataRecord]:
    """What every rank ends with at the start of a run."""
    dataset, ranks = open_dataset(directory, on_bad_shard), range(world_size)
    if check == "full":
        bad = [bad for rank in ranks for bad in inspect_values(dataset, on_bad_shard, rank, world_size)]
        dataset = dataset.without(bad)
    return combine(dataset, [record_shards(dataset, check, on_bad_shard, rank, world_size) for rank in ranks])


def resume(directory: Path, record: DataRecord, on_bad_shard: OnBadShard, check: Check = "full") -> Dataset:
    return go_on(directory, record, on_bad_shard, check)[0]


def go_on(
    directory: Path, record: DataRecord, on_bad_shard: OnBadShard, check: Check = "full"
) -> tuple[Dataset, DataRecord]:
    """What every rank ends with when the run goes on."""
    dataset = open_recorded(directory, record, read_schema(directory))
    parts = [recheck_shards(dataset, record, check, on_bad_shard, rank, WORLD_SIZE) for rank in range(WORLD_SIZE)]
    looked_at = [(shard.split, shard.file) for part in parts for shard in part.shards]
    looked_at += [(shard.split, shard.file) for part in parts for shard in part.bad]
    assert sorted(looked_at) == sorted((shard.split, shard.file) for shard in record.shards)  # each by one rank
    dataset = dataset.losing(shard for part in parts for shard in part.bad)
    return dataset, record.updated(shard for part in parts for shard in part.shards)


def remove_checksums(directory: Path) -> None:
    """Of the shards, from schema.json."""
    raw = json.loads((directory / "schema.json").read_text())
    for shards in raw["splits"].values():
        for shard in shards:
            shard["sha256"] = ""
    (directory / "schema.json").write_text(json.dumps(raw))


def rows_read(dataset: Dataset) -> list[int]:
    reader = TrainingReader(RowSource(dataset), 2, 0, 0, 1, 100)
    rows: list[int] = torch.cat([batch.rows for batch in reader]).tolist()
    return rows


def test_a_good_data_set_is_recorded(directory: Path) -> None:
    dataset, record = begin(directory, "stop")
    assert dataset == open_dataset(directory)
    assert record.bad == ()
    for found, (split, shard) in zip(record.shards, dataset.shards, strict=True):
        size = (directory / shard.file).stat().st_size
        assert (found.split, found.file, found.rows, found.bytes) == (split, shard.file, shard.rows, size)
        assert found.sha256 == shard.sha256
        assert found.row_groups == ((64,) * 4 if shard.rows == 256 else (64, 24))
    assert DataRecord.from_json(json.loads(json.dumps(record.as_json()))) == record
    assert record == begin(directory, "skip", world_size=1)[1]


@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_a_bad_shard_stops_the_run_or_is_left_out(directory: Path, split: str, fault: Fault, message: str) -> None:
    bad = directory / split / "part-00001.parquet"
    fault(bad)
    message = rf"^{re.escape(str(bad))}\b.*{message}"
    with pytest.raises(ValueError, match=message):
        begin(directory, "stop")
    dataset, record = begin(directory, "skip")
    assert record.shards == begin(directory, "skip", world_size=1)[1].shards
    [found] = record.bad
    assert dataset.left_out == record.bad
    assert (found.split, found.file, found.rows) == (split, f"{split}/part-00001.parquet", 256)
    assert re.match(message, found.why)
    assert found.file not in [shard.file for shard in record.shards]
    assert len(record.shards) == 5
    assert dataset.schema.rows(split) == 600 - 256
    check_labels_differ(dataset)
    good = [*range(256), *range(512, 600)]
    assert sorted(rows_read(dataset)) == (good if split == "train" else list(range(600)))
    evaluated = [row for batch in EvaluationReader(RowSource(dataset), 50, 0, 1) for row in batch.rows.tolist()]
    assert evaluated == (good if split == "eval" else list(range(600)))
    assert mentions(str(found), "256 rows", f"split {split!r}", "left out")


def test_faults_in_several_shards_are_all_found(directory: Path) -> None:
    truncate(directory / "train/part-00000.parquet")
    use_an_unknown_id(directory / "train/part-00002.parquet")
    flip_a_byte(directory / "eval/part-00002.parquet")
    dataset, record = begin(directory, "skip")
    assert [shard.file for shard in record.bad] == [
        "train/part-00000.parquet",
        "train/part-00002.parquet",
        "eval/part-00002.parquet",
    ]
    assert sorted(rows_read(dataset)) == list(range(256, 512))


@pytest.mark.parametrize("fault", [Path.unlink, use_an_unknown_id, flip_a_byte])
def test_a_split_without_a_good_shard_is_an_error(directory: Path, fault: Fault) -> None:
    for index in range(3):
        fault(directory / f"eval/part-{index:05}.parquet")
    with pytest.raises(ValueError, match=naming("split 'eval'", "eval/part-00000.parquet")):
        begin(directory, "skip")


def test_without_checksums_in_the_schema_the_files_are_still_recorded(directory: Path) -> None:
    remove_checksums(directory)
    flip_a_byte(directory / "train/part-00001.parquet")
    _, record = begin(directory, "stop")
    assert all(len(shard.sha256) == 64 for shard in record.shards)


def test_nothing_has_changed(directory: Path) -> None:
    begun, record = begin(directory, "stop")
    assert resume(directory, record, "stop") == begun


CHANGES: list[tuple[Fault, str]] = [
    (Path.unlink, "not found, though the run began with it"),
    (truncate, r"changed since the run began: \d+ bytes with sha256 \w+, expected \d+ bytes with sha256 \w+"),
    (flip_a_byte, "changed since the run began"),
    (change_a_value, "changed since the run began"),
]


@pytest.mark.parametrize(("fault", "message"), CHANGES)
def test_a_shard_that_changed_since_the_run_began(directory: Path, fault: Fault, message: str) -> None:
    begun, record = begin(directory, "stop")
    changed = directory / "train/part-00001.parquet"
    fault(changed)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(changed))}: {message}"):
        resume(directory, record, "stop")
    dataset = resume(directory, record, "skip")
    [lost] = dataset.lost
    assert (lost.file, lost.rows) == ("train/part-00001.parquet", 256)
    assert (dataset.schema, dataset.row_groups, dataset.left_out) == (begun.schema, begun.row_groups, ())


def replace_bytes(path: Path) -> None:
    """Others of the same number, at the same time: who sees it has read the file."""
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_was_checked_is_not_read_again(directory: Path) -> None:
    begun, record = begin(directory, "stop")
    for _, shard in begun.shards:
        replace_bytes(directory / shard.file)
    for check in CHECKS:
        assert go_on(directory, record, "stop", check) == (begun, record)


def test_a_shard_of_another_time_is_read_again_once(directory: Path) -> None:
    begun, record = begin(directory, "stop")
    os.utime(directory / "train/part-00001.parquet", ns=(1, 2))
    dataset, again = go_on(directory, record, "stop")
    assert dataset == begun
    assert [shard.mtime_ns for shard in again.shards if shard.mtime_ns < 1000] == [2]
    for _, shard in begun.shards:
        replace_bytes(directory / shard.file)
    assert go_on(directory, again, "stop") == (begun, again)
    with pytest.raises(ValueError, match=naming("part-00001.parquet", "changed")):
        go_on(directory, record, "stop")


def test_footers_alone_are_read_if_that_is_wanted(directory: Path) -> None:
    use_an_unknown_id(directory / "train/part-00001.parquet")
    begun, record = begin(directory, "stop", check="footers")
    assert {shard.sha256 for shard in record.shards} == {""}
    assert resume(directory, record, "stop", "footers") == begun
    with pytest.raises(ValueError, match=naming("part-00001.parquet", "sha256", "schema.json")):
        resume(directory, record, "stop", "full")
    remove_checksums(directory)
    with pytest.raises(ValueError, match=naming("part-00001.parquet, row group 0, column 'user', row 0", 50)):
        resume(directory, record, "stop", "full")
    dataset, checked = go_on(directory, record, "skip", "full")
    assert [shard.file for shard in dataset.lost] == ["train/part-00001.parquet"]
    assert sum(len(shard.sha256) == 64 for shard in checked.shards) == 5


@pytest.mark.parametrize("check", ["footers", "none"])
def test_without_a_full_check_a_bad_footer_is_still_named(directory: Path, check: Check) -> None:
    truncate(directory / "train/part-00001.parquet")
    with pytest.raises(ValueError, match=naming("row group")):
        begin(directory, "stop", check=check)


def test_footers_notice_another_size(directory: Path) -> None:
    _, record = begin(directory, "stop", check="footers")
    change_a_value(directory / "train/part-00001.parquet")
    with pytest.raises(ValueError, match=naming("part-00001.parquet", "changed")):
        resume(directory, record, "stop", "footers")


def test_nothing_is_looked_at_if_that_is_wanted(directory: Path) -> None:
    begun, record = begin(directory, "stop", check="none")
    (directory / "train/part-00001.parquet").unlink()
    assert go_on(directory, record, "stop", "none") == (begun, record)
    with pytest.raises(ValueError, match=naming("not found")):
        resume(directory, record, "stop", "footers")


def test_a_record_from_before_times_were_kept_is_read(directory: Path) -> None:
    begun, record = begin(directory, "stop")
    raw = record.as_json()
    for shard in raw["shards"]:
        del shard["mtime_ns"]
    assert go_on(directory, DataRecord.from_json(json.loads(json.dumps(raw))), "stop") == (begun, record)


def test_what_was_left_out_stays_out_though_it_is_good_again(directory: Path) -> None:
    bad = directory / "train/part-00000.parquet"
    good = bad.read_bytes()
    truncate(bad)
    begun, record = begin(directory, "skip")
    bad.write_bytes(good)
    resumed = resume(directory, record, "skip")
    assert rows_read(resumed) == rows_read(begun)


def test_every_shard_of_a_split_lost_is_an_error(directory: Path) -> None:
    _, record = begin(directory, "stop")
    for index in range(3):
        (directory / f"train/part-{index:05}.parquet").unlink()
    with pytest.raises(ValueError, match=naming("split 'train'", "part-00000.parquet", "not found")):
        resume(directory, record, "skip")


def test_another_list_of_shards_is_refused(directory: Path) -> None:
    _, record = begin(directory, "stop")
    path = directory / "schema.json"
    raw = json.loads(path.read_text())
    raw["splits"]["train"].reverse()
    path.write_text(json.dumps(raw))
    with pytest.raises(
        ValueError,
        match=r"schema.json: lists train shard 'train/part-00002.parquet' of 88 rows where the run began with"
        r" train shard 'train/part-00000.parquet' of 256 rows",
    ):
        open_recorded(directory, record, read_schema(directory))
    raw["splits"]["train"] = raw["splits"]["train"][::-1]
    raw["splits"]["eval"].pop()
    path.write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=naming("eval shard")):
        open_recorded(directory, record, read_schema(directory))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("bad"), "expected an object of shards and bad"),
        (put("bad", {}), "bad: expected a list, found {}"),
        (drop("shards", 0, "bytes"), r"shards\[0\]: missing .*'bytes'"),
        (put("shards", 1, "rows", "5"), r"shards\[1\]\.rows: '5', expected int"),
        (put("shards", 1, "mtime_ns", 0.5), r"shards\[1\]\.mtime_ns: 0\.5, expected int"),
        (lambda raw: raw["bad"].append({"file": "x"}), r"bad\[0\]: missing .*'split', 'rows'"),
        (lambda raw: raw["shards"][0]["row_groups"].pop(), "row groups of 192 rows, expected 256"),
    ],
)
def test_a_damaged_record_is_refused(directory: Path, change: Change, message: str) -> None:
    raw = json.loads(json.dumps(begin(directory, "stop")[1].as_json()))
    change(raw)
    with pytest.raises(ValueError, match=message):
        DataRecord.from_json(raw)
