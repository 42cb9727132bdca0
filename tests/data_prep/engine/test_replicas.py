"""Several processes, as on several machines, that prepare one data set together."""

import time
from pathlib import Path

import pytest

from data_prep.engine import work_directory
from data_prep.engine.work_directory import Replica, WorkDirectory
from dlrm_mtl.files import write_json
from tests.data_prep.logs import CONTEXT, checksums, finish, lines_of, start, words, write_log, write_toml
from tests.messages import mentions, naming

FILES = 5


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    for day in range(FILES):
        write_log(tmp_path / "raw" / f"day_{day}{'.gz' if day % 2 else ''}", lines_of(2000, seed=day))
    return words("--raw", tmp_path / "raw", "--layout", write_toml(tmp_path / "small.toml"))


def together(arguments: list[str], out: Path, size: int = 2, delays: tuple[float, ...] = ()) -> list[tuple[int, str]]:
    processes = []
    for rank in range(size):
        processes.append(start([*arguments, "--out", str(out)], RANK=str(rank), WORLD_SIZE=str(size)))
        time.sleep(delays[rank] if rank < len(delays) else 0)
    return [finish(process) for process in processes]


@pytest.mark.parametrize("size", [2, 3])
def test_replicas_make_the_same_bytes(arguments: list[str], tmp_path: Path, size: int) -> None:
    rows = ["--train-rows", "0:5000", "--eval-rows", "5000:", *CONTEXT]
    assert finish(start([*arguments, *rows, "--out", str(tmp_path / "one")])) == (0, "")
    out = tmp_path / "out"
    assert together([*arguments, *rows], out, size) == [(0, "")] * size
    assert checksums(out) == checksums(tmp_path / "one")
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("delay", [0.0, 1.5])
def test_the_last_stage_may_end_anyhow(arguments: list[str], tmp_path: Path, delay: float) -> None:
    """Without vocabularies there is one stage: a replica that has done its share may check again only after the other
    has published the data set."""
    hashed = [*arguments, "--ids", "hash", "--max-ids", "100"]
    for attempt in range(2):
        assert together(hashed, tmp_path / f"out{attempt}", delays=(delay,)) == [(0, "")] * 2
        assert not (tmp_path / f"out{attempt}.partial").exists()


@pytest.mark.parametrize("delays", [(0.0,), (0.3,), (0.9,)])
def test_a_replica_without_work_ends_with_the_others(
    arguments: list[str], tmp_path: Path, delays: tuple[float, ...]
) -> None:
    """The first replica may have finished all stages between two checks of the other."""
    raw = write_log(tmp_path / "single" / "log", lines_of(300))
    single = [*arguments, "--raw", str(raw), *CONTEXT]
    for attempt in range(2):
        assert together(single, tmp_path / f"out{attempt}", delays=delays) == [(0, "")] * 2
        assert not (tmp_path / f"out{attempt}.partial").exists()


@pytest.mark.parametrize("day", [0, 1])
def test_when_one_fails_the_other_stops(arguments: list[str], tmp_path: Path, day: int) -> None:
    lines = lines_of(2000, seed=day)
    write_log(tmp_path / "raw" / f"day_{day}{'.gz' if day % 2 else ''}", [*lines, "bad"])
    # The other begins first: an older failure would count as one of an earlier attempt for a minute.
    # The file's number says whose it is.
    running = start([*arguments, "--out", str(tmp_path / "out")], RANK=str(1 - day), WORLD_SIZE="2")
    while not (tmp_path / "out.partial" / "work" / f"lock-{1 - day}").exists():
        assert running.poll() is None
        time.sleep(0.01)
    begun = time.monotonic()
    failing = start([*arguments, "--out", str(tmp_path / "out")], RANK=str(day), WORLD_SIZE="2")
    failed, stopped = finish(failing), finish(running)
    assert time.monotonic() - begun < 30
    assert failed[0] == stopped[0] == 2
    assert mentions(failed[1], "line 2001", 1, 8)
    assert mentions(stopped[1], "stopped", f"replica {day}")
    assert all(len(errors.splitlines()) == 1 for _, errors in (failed, stopped))
    assert not (tmp_path / "out").exists()

    # Started again, in either order, they are not stopped by the earlier failure.
    again = [*arguments, "--on-bad-row", "quarantine"]
    results = together(again, tmp_path / "out")
    assert all(mentions(errors, "quarantine", False, True) for _, errors in results)
    assert together(again, tmp_path / "other") == [(0, "")] * 2


def test_a_failure_of_an_earlier_attempt_stops_nobody(arguments: list[str], tmp_path: Path) -> None:
    failures = tmp_path / "out.partial" / "work" / "failures"
    failures.mkdir(parents=True)
    for rank in range(2):
        write_json(failures / f"failed-{rank}.json", {"attempt": "---", "error": "long ago"})
    assert together(arguments, tmp_path / "out", delays=(2.5,)) == [(0, "")] * 2


def test_a_replica_that_failed_before_the_other_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_directory, "POLL_S", 0.01)
    first = WorkDirectory(tmp_path / "out", Replica(1, 2))
    (first.work / "failures").mkdir(parents=True)
    first.fail(ValueError("no such file"))
    time.sleep(0.01)
    second = WorkDirectory(tmp_path / "out", Replica(0, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work_directory, "GRACE_S", 0.5)
        begun = time.monotonic()
        with pytest.raises(ValueError, match=naming("replica 1", "no such file")):
            second.wait_for(lambda: False)
        assert time.monotonic() - begun > 0.3
    first.fail(KeyboardInterrupt())
    with pytest.raises(ValueError, match=naming("replica 1", "KeyboardInterrupt")):
        second.wait_for(lambda: False)


def test_failures_of_another_attempt_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_directory, "POLL_S", 0.01)
    one, other = (WorkDirectory(tmp_path / "out", Replica(rank, 2)) for rank in (0, 1))
    (one.work / "failures").mkdir(parents=True)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    other.fail(ValueError("before"))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    answers = iter([False] * 5 + [True])
    one.wait_for(lambda: next(answers))
