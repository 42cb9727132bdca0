"""A killed preparation resumes and ends with the same bytes."""

import json
import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from data_prep.criteo_log import Options, generate
from tests.data_prep.logs import (
    LAYOUT,
    WAIT_S,
    await_that,
    checksums,
    finish,
    kill_group,
    lines_of,
    run_prepare,
    start,
    start_anew,
    words,
    write_log,
)
from tests.waiting import wait_for

ROWS, FILES = 15_000, 4

WITH_CONTEXT = replace(LAYOUT, cluster="user", segments=("word", "unused"))

STAGES = ("index", "count", "merge", "encode", "context", "evaluation")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("killed") / "raw"
    generate(Options(directory, ROWS, files=FILES))
    return directory


def arguments_of(raw: Path, out: Path, workers: int) -> list[str]:
    # A split by rows has a stage that counts the lines.
    splits = ("--train-rows", f"0:{3 * ROWS}", "--eval-rows", f"{3 * ROWS}:")
    context = ("--cluster", "cat_0", "--segments", "int_0")
    return words("--raw", raw, "--out", out, "--workers", workers, *splits, *context)


@pytest.fixture(scope="module")
def uninterrupted(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    assert finish(start(arguments_of(raw, out, 1))) == (0, "")
    return checksums(out)


def has_begun(out: Path, stage: str, finished: int) -> bool:
    """Whether a stage has finished so many pieces; 0: whether the stage before it is finished."""
    work = out.with_name(f"{out.name}.partial") / "work"
    if finished:
        return len(list((work / stage).glob("*.json"))) >= finished
    before = STAGES.index(stage) - 1
    pieces = {"merge": 26, "context": 1}
    return before < 0 or len(list((work / STAGES[before]).glob("*.json"))) >= pieces.get(STAGES[before], FILES)


def kill_main(process: subprocess.Popen[str]) -> None:
    """Kills the main process alone, which leaves its workers without a parent."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait(WAIT_S)


def close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_it_goes_on_after_every_kill(raw: Path, uninterrupted: dict[str, str], tmp_path: Path, workers: int) -> None:
    draw = random.Random(workers)
    out = tmp_path / "out"
    moments = [("index", 0), ("count", 0), ("count", 2), ("merge", 3), ("encode", 0), ("encode", 1), ("encode", 3)]
    moments.append(("evaluation", 0))
    killed = 0
    for stage, finished in moments:
        process = start_anew(arguments_of(raw, out, workers))

        def reached(stage: str = stage, finished: int = finished) -> bool:
            return has_begun(out, stage, finished)

        await_that(reached, process)
        time.sleep(draw.random() * 0.1)
        killed += process.poll() is None
        if draw.random() < 0.5:
            kill_main(process)
            # A worker that is left must end soon, and must not disturb those of the next run.
        else:
            kill_group(process)
        close(process)
        if out.exists():
            break
    assert killed >= 4
    assert finish(start(arguments_of(raw, out, workers))) == (0, "")
    assert checksums(out) == uninterrupted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("finished", [0, 1, FILES - 1])
def test_workers_end_with_their_main_process(raw: Path, tmp_path: Path, finished: int) -> None:
    """Both those at work and one that waits for work while another does the last piece."""
    out = tmp_path / "out"
    process = start_anew(arguments_of(raw, out, 2))
    await_that(lambda: has_begun(out, "count", finished), process)
    assert process.poll() is None
    kill_main(process)
    try:
        wait_for(lambda: group_is_gone(process.pid), 5, lambda: "workers remain")
    except AssertionError:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        close(process)


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """OUT of a preparation whose stages are all finished, but which is not published."""
    for day in range(3):
        lines = lines_of(500, seed=day)
        write_log(tmp_path / "raw" / f"day_{day}", lines)
    with monkeypatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise RuntimeError("interrupted")

        patch.setattr("data_prep.engine.prepare.assemble", interrupt)
        with pytest.raises(RuntimeError, match="interrupted"):
            run_prepare(tmp_path / "raw", tmp_path / "out", WITH_CONTEXT)
    return tmp_path / "out"


def damages() -> list[tuple[str, str]]:
    files = [
        "work/count/0001-00000.json",
        "work/runs/0001-00000.arrow",
        "work/merge/002.json",
        "work/vocabulary/002.npy",
        "work/vocabulary/002.parquet",
        "work/encode/0002-00000.json",
        "work/quarantine/0001-00000.jsonl",
        "data/train/part-0001-00000.parquet",
        "data/eval/part-0002-00000.parquet",
    ]
    of_context = [
        "work/clusters/0001-00000.npy",
        "work/context/000.json",
        "work/context/known.npy",
        "work/evaluation/000.json",
        "work/evaluation-rows/0002-00000.parquet",
    ]
    damaged = [(file, how) for file in files for how in ("cut", "empty", "changed", "gone", "other")]
    return damaged + [(file, how) for file in of_context for how in ("changed", "gone")]


@pytest.mark.parametrize(("file", "how"), damages())
def test_what_is_damaged_is_done_again(begun: Path, file: str, how: str, tmp_path: Path) -> None:
    run_prepare(tmp_path / "raw", tmp_path / "whole", WITH_CONTEXT)
    path = begun.with_name("out.partial") / file
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        middle = len(data) // 2
        changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else b"x"
        path.write_bytes({"cut": data[:middle], "empty": b"", "changed": changed, "other": b"{}"}[how])
    run_prepare(tmp_path / "raw", begun, WITH_CONTEXT)
    assert checksums(begun) == checksums(tmp_path / "whole")
    assert not begun.with_name("out.partial").exists()


def test_leftovers_of_killed_processes_are_no_part_of_the_data_set(begun: Path, tmp_path: Path) -> None:
    partial = begun.with_name("out.partial")
    for name in ("data/train/.part-0000-00000.parquet.123.tmp", "data/.schema.json.123.tmp", "work/.plan.json.9.tmp"):
        (partial / name).write_text("half")
    (partial / "data" / "quarantine.jsonl").write_text("half")
    schema = run_prepare(tmp_path / "raw", begun, WITH_CONTEXT)
    files = {shard.file for shards in schema.splits.values() for shard in shards}
    assert checksums(begun).keys() == files | {"schema.json", "encoding.json", "plan.json"} | {
        f"vocabulary/{name}.parquet" for name in ("site", "user", "word", "tags")
    }
    assert json.loads((begun / "schema.json").read_text())["name"] == "small"
