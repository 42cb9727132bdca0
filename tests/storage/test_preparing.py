"""Raw logs that are read from an S3 server, and data sets that are written to it: the same files as on a disk."""

from pathlib import Path

import pytest

from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from dlrm_mtl.files import sha256
from dlrm_mtl.location import Location, RemotePath, name_below
from dlrm_mtl.schema import Schema, read_schema
from dlrm_mtl.storage.store import Store
from tests.data_prep.logs import LAYOUT, checksums, lines_of, write_log
from tests.messages import naming
from tests.storage.s3_server import S3Server

FILES = ("day_2.gz", "day_10.zst", "day_11", "_SUCCESS", "x/day_12")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log in files of every compression."""
    directory = tmp_path_factory.mktemp("raw")
    for seed, name in enumerate(FILES):
        write_log(directory / name, lines_of(100, seed))
    return directory


def run(raw: Location, out: Location, work: Path | None) -> Schema:
    split = SplitOptions(train_files="0:4", eval_files="0:4", train_rows=":300", eval_rows="300:")
    return prepare("small", "tests", LAYOUT, [raw], out, IdOptions(), split, WorkOptions(work=work))


def stored_checksums(directory: RemotePath) -> dict[str, str]:
    return {name_below(directory, file): sha256(file) for file in directory.files_below()}


def without_plan(files: dict[str, str]) -> dict[str, str]:
    """All files but the plan, which holds the times of the raw files."""
    return {name: checksum for name, checksum in files.items() if name != "plan.json"}


def test_the_files_are_the_same_also_where_requests_fail(s3: S3Server, raw: Path, tmp_path: Path) -> None:
    local = run(raw, tmp_path / "local", None)
    s3.fail_every = 7
    failed, out = s3.failed, s3.root / "prepared"
    assert run(s3.store(raw, "raw"), out, tmp_path / "work") == local
    assert s3.failed > failed + 5
    assert without_plan(stored_checksums(out)) == without_plan(checksums(tmp_path / "local"))
    assert not list((tmp_path / "work").iterdir())


def test_an_interrupted_copy_goes_on(s3: S3Server, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It replaces another data set, whose files do not stay."""
    out, copied, possible = s3.root / "interrupted", list[str](), 4
    for name in ("schema.json", "train/part-00099.parquet"):
        Store(out).put(Path(__file__), name)

    put = Store.put

    def put_some(store: Store, path: Path, name: str) -> None:
        if len(copied) == possible:
            raise OSError("no answer")
        copied.append(name)
        put(store, path, name)

    monkeypatch.setattr(Store, "put", put_some)
    with pytest.raises(OSError, match=naming("no answer", tmp_path / "work")):
        run(raw, out, tmp_path / "work")
    with pytest.raises(ValueError, match=naming(out / "schema.json")):
        read_schema(out)
    possible = 1000
    run(raw, out, tmp_path / "work")
    assert copied.count("schema.json") == 1
    assert len(set(copied)) == len(copied)
    run(raw, tmp_path / "local", None)
    assert stored_checksums(out) == checksums(tmp_path / "local")


def test_what_a_uri_needs_is_asked_for(s3: S3Server, raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=naming(s3.root / "a", "--work")):
        run(raw, s3.root / "a", None)
    with pytest.raises(ValueError, match=naming("work", tmp_path)):
        run(raw, tmp_path / "out", tmp_path)
    other = s3.store(raw, "other")
    with pytest.raises(ValueError, match=naming(other, "schema.json")):
        run(raw, other, tmp_path / "work")
    with pytest.raises(ValueError, match=naming(s3.root / "nothing")):
        run(s3.root / "nothing", tmp_path / "out", None)
