"""Errors that stop a preparation, their messages, and how it resumes afterwards."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.engine import count_pass, encode_pass
from data_prep.engine.options import IdOptions
from data_prep.engine.split import SplitOptions
from data_prep.output import shards
from tests.children import children_of
from tests.data_prep.logs import (
    LAYOUT,
    WAIT_S,
    await_that,
    checksums,
    finish,
    lines_of,
    run_prepare,
    start,
    start_anew,
    without_progress,
    words,
    write_log,
    write_toml,
)
from tests.messages import mentions, naming

HASH = IdOptions("hash", max_ids=100)

LIMITED = (
    "import resource, runpy, signal, sys;"
    "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    "resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
    "sys.argv[0] = 'criteo'; runpy.run_module('data_prep.criteo', run_name='__main__')"
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    for day in range(3):
        write_log(tmp_path / "raw" / f"day_{day}", lines_of(4000, seed=day))
    return tmp_path / "raw"


@pytest.mark.parametrize("limit", [300, 30_000])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_clear_line(log: Path, tmp_path: Path, limit: int, workers: int) -> None:
    layout = write_toml(tmp_path / "small.toml")
    out = tmp_path / "out"
    arguments = words("--raw", log, "--out", out, "--layout", layout, "--workers", workers)
    # Spawned workers inherit limits and ignored signals.
    limited = [sys.executable, "-c", LIMITED.format(limit=limit), *arguments]
    process = subprocess.run(limited, capture_output=True, text=True, timeout=WAIT_S)
    errors = without_progress(process.stderr)
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("criteo: ")
    assert os.strerror(errno.EFBIG) in errors
    assert not out.exists()
    assert not list((tmp_path / "out.partial").glob("data/**/.*")) or workers > 1
    assert finish(start(arguments)) == (0, "")
    run_prepare(log, tmp_path / "other")
    assert checksums(out, "*.parquet") == checksums(tmp_path / "other", "*.parquet")
    assert not (tmp_path / "out.partial").exists()


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("module", "name"),
    [(encode_pass, "ShardWriter"), (shards.ShardWriter, "close"), (count_pass.CountPass, "begin"), (np, "save")],
)
def test_after_a_full_disk_it_goes_on(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, name, no_space)
        with pytest.raises(OSError, match="No space left on device"):
            run_prepare(log, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    run_prepare(log, tmp_path / "out")
    run_prepare(log, tmp_path / "other")
    assert checksums(tmp_path / "out") == checksums(tmp_path / "other")


@pytest.mark.parametrize("where", ["/proc/out", "/proc/1/deep/out"])
def test_a_place_that_cannot_be_written(log: Path, tmp_path: Path, where: str) -> None:
    layout = write_toml(tmp_path / "small.toml")
    code, errors = finish(start(words("--raw", log, "--out", where, "--layout", layout)))
    assert code == 2
    assert len(errors.splitlines()) == 1, errors
    assert "/proc/" in errors


def test_files_where_directories_are_expected(log: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "out.partial").write_text("")
    with pytest.raises(ValueError, match=naming("directory")):
        run_prepare(log, tmp_path / "file")
    with pytest.raises(OSError, match=r"file|out\.partial"):
        run_prepare(log, tmp_path / "file" / "out")
    with pytest.raises(OSError, match=r"out\.partial"):
        run_prepare(log, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match=naming("data set")):
        run_prepare(log, tmp_path / "full")


def test_a_second_process_is_refused(log: Path, tmp_path: Path) -> None:
    lock = tmp_path / "out.partial" / "work" / "lock-0"
    lock.parent.mkdir(parents=True)
    layout = write_toml(tmp_path / "small.toml")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, errors = finish(start(words("--raw", log, "--out", tmp_path / "out", "--layout", layout)))
    assert code == 2
    assert mentions(errors, "criteo", tmp_path / "out.partial", "another process")
    run_prepare(log, tmp_path / "out")


def test_two_processes_at_once(log: Path, tmp_path: Path) -> None:
    layout = write_toml(tmp_path / "small.toml")
    arguments = words("--raw", log, "--out", tmp_path / "out", "--layout", layout)
    results = [finish(process) for process in [start(arguments), start(arguments)]]
    codes = sorted(code for code, _ in results)
    assert codes in ([0, 0], [0, 2])
    assert all(code == 0 or "another process" in errors for code, errors in results)
    assert (tmp_path / "out" / "schema.json").is_file()
    assert not (tmp_path / "out.partial").exists()


def begin(log: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preparation that is stopped before it writes shards."""
    with monkeypatch.context() as patch:
        patch.setattr(encode_pass, "ShardWriter", no_space)
        with pytest.raises(OSError, match="No space"):
            run_prepare(log, out)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ids": IdOptions(min_count=2)}, "ids min_count = 1, now it is min_count = 2"),
        ({"ids": IdOptions(multi_hot={"user": 2})}, "ids multi_hot = user = None"),
        ({"split": SplitOptions(train_files="0:1", eval_files="1:2")}, "split"),
        ({"quarantine": True}, "quarantine False, now it is True"),
        ({"layout": replace(LAYOUT, missing=("", "-"))}, "layout missing"),
    ],
)
def test_other_options_than_begun(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], named: str
) -> None:
    out = tmp_path / "out"
    begin(log, out, monkeypatch)
    with pytest.raises(ValueError, match=naming("out.partial")) as error:
        run_prepare(log, out, **changes)
    assert named in str(error.value)
    run_prepare(log, out)


def test_other_options_before_anything_is_finished(log: Path, tmp_path: Path) -> None:
    """A layout is corrected after the first bad row."""
    lines = (log / "day_0").read_text()
    (log / "day_0").write_text(lines.partition("\t")[2])
    split = SplitOptions(train_rows="0:500", eval_rows="500:")
    with pytest.raises(ValueError, match=naming("day_0, line 1")):
        run_prepare(log, tmp_path / "out", split=split)
    schema = run_prepare(log, tmp_path / "out", split=split, quarantine=True)
    assert schema.source["rows_quarantined"] == 1
    assert not (tmp_path / "out.partial").exists()


def test_other_files_than_begun(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(log, tmp_path / "out", monkeypatch)
    write_log(log / "day_1", lines_of(4001, seed=1))
    with pytest.raises(ValueError, match=naming("files bytes")):
        run_prepare(log, tmp_path / "out")


def test_a_file_that_changes_meanwhile(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_work: Callable[..., Any] = encode_pass.EncodePass.begin

    def changing(stage: encode_pass.EncodePass, preparation: Any, file: int, segment: int) -> Any:
        with (log / "day_0").open("a") as sink:
            sink.write(lines_of(1)[0] + "\n")
        return begin_work(stage, preparation, file, segment)

    monkeypatch.setattr(encode_pass.EncodePass, "begin", changing)
    with pytest.raises(ValueError, match=naming("changed")):
        run_prepare(log, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_complete_data_set_is_returned_at_once(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    schema = run_prepare(log, out)
    before = checksums(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with monkeypatch.context() as patch:
        patch.setattr(count_pass.CountPass, "begin", no_space)
        assert run_prepare(log, out) == schema
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    # Work left by a process that was killed after publishing is removed; work of another plan is not.
    work = tmp_path / "out.partial" / "work"
    (work / "count").mkdir(parents=True)
    run_prepare(log, out)
    assert not work.exists()
    other = IdOptions(min_count=2)
    with monkeypatch.context() as patch:
        patch.setattr(encode_pass, "ShardWriter", no_space)
        with pytest.raises(OSError, match="No space"):
            run_prepare(log, out, ids=other)
    run_prepare(log, out)
    assert work.exists()
    assert checksums(out) == before
    run_prepare(log, out, ids=other)
    assert checksums(out) != before
    assert not work.exists()


def test_a_data_set_is_replaced_as_a_whole(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    run_prepare(log, out, ids=HASH)
    before = checksums(out)
    with monkeypatch.context() as patch:
        patch.setattr(encode_pass, "ShardWriter", no_space)
        with pytest.raises(OSError, match="No space"):
            run_prepare(log, out)
    assert checksums(out) == before
    replaced: list[bool] = []
    original = os.replace

    def replace_file(source: Any, target: Any) -> None:
        if Path(target) == out:
            # At no moment is there a part of a data set.
            replaced.append(out.exists())
        original(source, target)

    monkeypatch.setattr(os, "replace", replace_file)
    run_prepare(log, out)
    assert replaced == [False]
    assert "vocabulary/site.parquet" in checksums(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_what_is_wrong_with_the_files(tmp_path: Path) -> None:
    log = write_log(tmp_path / "day_0", lines_of(50))
    for raw, message in (
        ([tmp_path / "none"], "none: not found"),
        ([log, write_log(tmp_path / "day_0.gz", lines_of(50))], "is there twice"),
        ([log, log], "is there twice"),
        ([write_log(tmp_path / "empty", [])], "empty: is empty"),
        ([log, write_log(tmp_path / "x.parquet", [])], "no parquet file, although others are"),
    ):
        with pytest.raises(ValueError, match=message):
            run_prepare(raw, tmp_path / "out")
    (tmp_path / "directory").mkdir()
    with pytest.raises(ValueError, match="holds no file"):
        run_prepare(tmp_path / "directory", tmp_path / "out")


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        (IdOptions(min_count=0), ["min_count", 0, 1]),
        (IdOptions(table_max_ids={"none": 5}), ["table_max_ids", "'none'", "site"]),
        (IdOptions(multi_hot={"tags": 2}), ["multi_hot", "'tags'", "site"]),
        (IdOptions(multi_hot={"user": 0}), ["multi_hot", "user", 0, 1]),
        (IdOptions("hash"), ["'site'", "hash", "max_ids"]),
        (IdOptions(max_ids=2), ["'site'", "max_ids", 2, 3]),
    ],
)
def test_options_of_ids_that_cannot_be_are_named(
    log: Path, tmp_path: Path, ids: IdOptions, named: list[object]
) -> None:
    with pytest.raises(ValueError, match=naming(*named)):
        run_prepare(log, tmp_path / "out", ids=ids)
    with pytest.raises(ValueError, match=naming("workers", 0, 1)):
        run_prepare(log, tmp_path / "out", workers=0)


def test_a_killed_worker_is_said(log: Path, tmp_path: Path) -> None:
    layout = write_toml(tmp_path / "small.toml")
    process = start_anew(words("--raw", log, "--out", tmp_path / "out", "--layout", layout, "--workers", 2))
    await_that(lambda: len(children_of(process.pid)) > 2, process)  # two workers, and what multiprocessing needs
    os.kill(max(children_of(process.pid)), signal.SIGKILL)
    code, errors = finish(process)
    assert code == 2
    assert mentions(errors, "criteo", "worker", "killed")


def test_one_class_only(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", ["0" + line[1:] for line in lines_of(50)])
    with pytest.raises(ValueError, match=naming("one class")):
        run_prepare(log, tmp_path / "out", ids=HASH)


def test_an_interrupt_leaves_what_is_finished(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("data_prep.engine.prepare.assemble", interrupt)
        with pytest.raises(KeyboardInterrupt, match=naming("interrupted", tmp_path / "out.partial")):
            run_prepare(log, tmp_path / "out")
    assert list((tmp_path / "out.partial" / "work" / "encode").glob("*.json"))
    run_prepare(log, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "schema.json").read_text())
