"""Paths and URIs on the command line: what is parsed, and what is refused before any work."""

import pickle
from pathlib import Path

import pytest

from data_prep.synthetic import Options
from dlrm_mtl import cli
from dlrm_mtl.location import RemotePath, name_below, parse_location, parse_path
from dlrm_mtl.run_config import TrainConfig
from tests.messages import naming


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("s3://bucket/a/b", "bucket/a/b"),
        ("s3://bucket", "bucket"),
        ("s3://bucket//a%20b/?endpoint_override=h:1&scheme=http", "bucket/a b"),
        ("gs://bucket/a", "bucket/a"),
        ("hdfs://user@name-node:8020/a/b", "/a/b"),
    ],
)
def test_a_uri_is_a_remote_path(uri: str, key: str) -> None:
    location = parse_location(uri)
    assert isinstance(location, RemotePath)
    assert location.key == key
    assert parse_location(str(location)) == location == pickle.loads(pickle.dumps(location))
    below = location / "train/part 0.parquet"
    assert (below.name, below.suffix, below.key) == ("part 0.parquet", ".parquet", f"{key}/train/part 0.parquet")
    assert parse_location(str(below)) == below
    assert name_below(location, below) == "train/part 0.parquet"
    assert below.parent.parent == location


def test_a_path_stays_one() -> None:
    assert parse_location("a/b") == parse_path("a/b") == Path("a/b")
    assert parse_location("file:///a/b%20c") == parse_path("file:///a/b%20c") == Path("/a/b c")
    assert parse_location("./s3:/a") == Path("./s3:/a")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("s3:/bucket/a", "s3://"),
        ("s3a://bucket/a", "s3a://bucket/a"),
        ("s3:///a", "s3:///a"),
        ("s3://bucket/a#b", "s3://bucket/a#b"),
        ("file://host/a", "file://host/a"),
    ],
)
def test_other_uris_are_refused(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=naming(named)):
        parse_location(text)


@pytest.mark.parametrize("uri", ["s3://key:secret@bucket/a", "hdfs://user:secret@host/a"])
def test_credentials_in_a_uri_are_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(ValueError, match="credentials") as refused:
        parse_location(uri)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (TrainConfig, ["--data", "data", "--out", "s3://bucket/run"]),
        (Options, ["--out", "s3://bucket/data"]),
    ],
)
def test_a_uri_where_a_path_is_needed_ends_with_2(
    kind: type,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.parse(kind, "program", arguments)
    assert end.value.code == 2
    assert arguments[-2] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
