"""Copies of data sets on a node: whole, shared, and made again where they are not whole."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dlrm_mtl.files import sha256
from dlrm_mtl.location import Location
from dlrm_mtl.schema import read_schema
from dlrm_mtl.storage.node_cache import cached
from tests.datasets import make_dataset
from tests.messages import naming
from tests.storage.s3_server import S3Server

SHARD = "train/part-00000.parquet"


def files(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): sha256(path) for path in directory.rglob("*") if path.is_file()}


def needed(data: Path) -> dict[str, str]:
    """What a copy holds of a data set."""
    shards = [shard.file for shards in read_schema(data).splits.values() for shard in shards]
    return {file: sha256(data / file) for file in (*shards, "schema.json")}


@pytest.mark.parametrize("remote", [False, True])
def test_one_process_copies_and_the_others_wait(
    s3: S3Server, small_dataset: Path, tmp_path: Path, remote: bool
) -> None:
    source: Location = s3.store(small_dataset, "to-cache") if remote else small_dataset
    with ThreadPoolExecutor(4) as threads:  # a lock of a file is one of each opening of it
        copies = set(threads.map(lambda _: cached(source, tmp_path), range(4)))
    [copy] = copies
    assert files(copy) == needed(small_dataset)
    if remote:
        assert {s3.read[f"to-cache/{file}"] for file in files(copy) if file != "schema.json"} == {1}
    times = {path: path.stat().st_ctime_ns for path in copy.rglob("*.parquet")}
    assert cached(source, tmp_path) == copy
    assert {path: path.stat().st_ctime_ns for path in copy.rglob("*.parquet")} == times


def test_what_a_killed_process_left_is_completed(small_dataset: Path, tmp_path: Path) -> None:
    copy = cached(small_dataset, tmp_path)
    (copy / SHARD).unlink()
    (copy / f"train/.part-00000.parquet.{0:016x}.tmp").write_bytes(b"half")
    (copy / "eval/part-00000.parquet").write_bytes(b"cut")
    assert cached(small_dataset, tmp_path) == copy
    assert files(copy) == needed(small_dataset)


def test_a_changed_data_set_is_another_copy(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", rows=64, eval_rows=64)
    before = cached(data, tmp_path / "cache")
    shutil.rmtree(data)
    make_dataset(data, rows=128, eval_rows=64)
    after = cached(data, tmp_path / "cache")
    assert (read_schema(before).rows("train"), read_schema(after).rows("train")) == (64, 128)


def test_what_cannot_be_copied_is_named(small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    shutil.copytree(small_dataset, data)
    content = (data / SHARD).read_bytes()
    (data / SHARD).write_bytes(content[:-1] + b"x")
    with pytest.raises(ValueError, match=naming(data / SHARD, "sha256")):
        cached(data, tmp_path / "cache")
    assert SHARD not in files(tmp_path / "cache")
    (data / SHARD).unlink()
    with pytest.raises(ValueError, match=naming(data / SHARD, "not found")):
        cached(data, tmp_path / "cache")
    (data / SHARD).write_bytes(content)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ValueError, match=naming("1000 B")):
        cached(data, tmp_path / "other")
