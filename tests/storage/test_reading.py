"""Data sets that are read from an S3 server: the same rows and results as from a disk, also where requests fail."""

import json
from pathlib import Path
from typing import Any

import pytest

from dlrm_mtl.data.checks import bad_values
from dlrm_mtl.data.dataset import open_dataset
from dlrm_mtl.ending import FAILED, REFUSED, exit_code
from dlrm_mtl.files import sha256
from dlrm_mtl.location import RemotePath
from dlrm_mtl.schema import read_schema
from tests.entry_points.processes import python
from tests.messages import naming
from tests.storage.s3_server import S3Server

TRAINING = ("--batch-size", "64", "--reader.shuffle-rows", "64", "--check", "full", "--model.embedding-dim", "4")


@pytest.fixture(scope="session")
def stored(small_dataset: Path, s3_server: S3Server) -> RemotePath:
    return s3_server.store(small_dataset, "small")


def results(out: Path) -> list[Any]:
    """What a run measured and which shards it began with."""
    tasks = json.loads((out / "result.json").read_text())["arms"]["multibalance"]["tasks"]
    shards = [{**shard, "mtime_ns": 0} for shard in json.loads((out / "data.json").read_text())["shards"]]
    return [tasks, shards]


def test_a_run_is_the_same_to_the_bit(s3: S3Server, stored: RemotePath, small_dataset: Path, tmp_path: Path) -> None:
    local = python("dlrm_mtl.train", "--data", small_dataset, "--out", tmp_path / "local", *TRAINING)
    assert local.returncode == 0, local.stderr
    s3.fail_every = 5
    failed = s3.failed
    remote = python("dlrm_mtl.train", "--data", str(stored), "--out", tmp_path / "remote", *TRAINING)
    assert remote.returncode == 0, remote.stderr
    assert s3.failed > failed + 5
    assert results(tmp_path / "remote") == results(tmp_path / "local")


def test_row_groups_and_checksums(s3: S3Server, stored: RemotePath, small_dataset: Path) -> None:
    local, remote = open_dataset(small_dataset), open_dataset(stored)
    assert remote.schema == local.schema
    for split, groups in local.row_groups.items():
        for here, there in zip(groups, remote.row_groups[split], strict=True):
            assert remote.read(there, remote.columns).equals(local.read(here, local.columns))
            assert sha256(there.file) == sha256(here.file)
    assert not list(bad_values(remote))


def test_a_damaged_shard_is_named(s3: S3Server, small_dataset: Path) -> None:
    damaged = s3.store(small_dataset, "damaged")
    shard = damaged / "train/part-00001.parquet"
    with shard.filesystem.open_output_stream(shard.key) as stream:
        stream.write((small_dataset / "train/part-00001.parquet").read_bytes()[:-100])
    with pytest.raises(ValueError, match=naming(shard)):
        open_dataset(damaged)
    [bad] = open_dataset(damaged, "skip").left_out
    assert bad.file == "train/part-00001.parquet"
    shard.filesystem.delete_file(shard.key)
    with pytest.raises(ValueError, match=naming(shard, "not found")):
        open_dataset(damaged)


def test_a_store_that_refuses_is_no_bad_shard(s3: S3Server, stored: RemotePath) -> None:
    dataset = open_dataset(stored, "skip")
    s3.refuse_all = True
    with pytest.raises(OSError, match="503") as refused:
        open_dataset(stored, "skip", dataset.schema)
    assert exit_code(refused.value) == FAILED


def test_a_missing_bucket_is_the_users_error(s3: S3Server) -> None:
    with pytest.raises((OSError, ValueError)) as missing:
        read_schema(RemotePath(str(s3.root).replace("bucket?", "none?")))
    assert exit_code(missing.value) == REFUSED
