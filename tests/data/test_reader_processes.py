"""Processes that read: batches as they are, errors as errors, and an end in every case."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dlrm_mtl.data.reader_processes import PROGRAM, ReaderProcesses
from tests.children import LIMIT_S, readers_of
from tests.entry_points.processes import ROOT
from tests.messages import naming
from tests.waiting import wait_for


def numbers(first: int, count: int) -> Iterator[list[Tensor]]:
    for number in range(first, first + count):
        yield [torch.full((2, 3), number), torch.zeros(0), torch.arange(12.0).reshape(3, 4).T]


def endless(first: int = 0) -> Iterator[list[Tensor]]:
    return numbers(first, 1 << 60)


def one_and(action: Callable[[], object]) -> Iterator[list[Tensor]]:
    yield from numbers(0, 1)
    action()


def refuse() -> None:
    raise ValueError("day 3: no such column")


def break_down() -> None:
    raise KeyError("a defect")


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stay() -> None:
    time.sleep(600)


def few_files() -> Iterator[list[Tensor]]:
    open_files = len(os.listdir("/proc/self/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    return endless()


def shared_memory_files() -> Iterator[list[Tensor]]:
    """How many files in /dev/shm and sockets in TMPDIR there are after a batch."""
    while True:
        places = [Path("/dev/shm"), Path(tempfile.gettempdir())]
        mine = [file for place in places for file in place.iterdir() if file.name.startswith(("torch_", "pymp-"))]
        yield [torch.tensor(len(mine))]


def test_batches_come_in_turns_until_all_streams_have_ended() -> None:
    streams = [partial(numbers, 0, 5), partial(numbers, 10, 2), partial(numbers, 20, 0)]
    with ReaderProcesses(streams, prefetch=2) as processes:
        batches = list(processes)
        assert [int(values[0, 0]) for values, _, _ in batches] == [0, 10, 1, 11, 2, 3, 4]
    last, none, transposed = batches[-1]
    assert last.tolist() == [[4] * 3] * 2, "a batch outlives its process"
    assert none.shape == (0,)
    assert transposed.tolist() == torch.arange(12.0).reshape(3, 4).T.tolist()
    last += 1  # its memory is its reader's alone
    assert not readers_of(os.getpid())


@pytest.mark.parametrize(
    ("action", "kind", "last_line"),
    [
        (refuse, ValueError, "day 3: no such column"),
        (break_down, RuntimeError, "KeyError: 'a defect'"),
        (kill_itself, RuntimeError, "was killed by SIGKILL; is there enough memory?"),
    ],
)
def test_what_ends_a_process_is_an_error_here(
    action: Callable[[], object], kind: type[Exception], last_line: str
) -> None:
    with (
        pytest.raises(kind) as raised,
        ReaderProcesses([partial(one_and, action)], prefetch=1) as processes,
    ):
        list(processes)
    assert str(raised.value).splitlines()[-1].endswith(last_line)
    assert not readers_of(os.getpid())


def test_too_few_open_files_are_an_error_that_says_so() -> None:
    with (
        ReaderProcesses([few_files], prefetch=1) as processes,
        pytest.raises(ValueError, match=naming("Too many open files", "ulimit -n")),
    ):
        list(processes)


def test_batches_need_neither_dev_shm_nor_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)  # a Unix socket's path may have 107 bytes
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    with ReaderProcesses([shared_memory_files], prefetch=1) as processes:
        _, (second,) = next(batches := iter(processes)), next(batches)
    assert second == 0
    assert not list(deep.iterdir())


def test_signals_to_a_whole_job_do_not_reach_readers_and_close_ends_them() -> None:
    processes = ReaderProcesses([endless, partial(one_and, stay)], prefetch=1)
    for number in (signal.SIGTERM, signal.SIGINT):  # while they start, too
        for child in readers_of(os.getpid()):
            os.kill(child, number)
    batches = iter(processes)
    assert [int(next(batches)[0][0, 0]) for _ in range(3)] == [0, 0, 1]
    error: list[BaseException] = []

    def wait_for_a_batch() -> None:
        try:
            next(batches)
        except RuntimeError as raised:
            error.append(raised)

    waiting = threading.Thread(target=wait_for_a_batch)
    waiting.start()
    time.sleep(0.1)
    start = time.monotonic()
    processes.close()
    waiting.join(LIMIT_S)
    assert error, "who waits in another thread does not wait for ever"
    assert time.monotonic() - start < LIMIT_S
    assert not readers_of(os.getpid())


@pytest.mark.parametrize("reading", [False, True], ids=["starting", "reading"])
def test_no_reader_outlives_a_process_that_is_killed(reading: bool) -> None:
    code = (
        "from dlrm_mtl.data.reader_processes import PROGRAM, ReaderProcesses\n"
        "from tests.data.test_reader_processes import endless\n"
        "processes = ReaderProcesses([endless, endless], prefetch=1)\n"
        f"{'next(iter(processes))' if reading else ''}\n"
        "print('ready', flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        readers = readers_of(process.pid)
        assert len(readers) == 2
        process.kill()
    wait_for(lambda: not any(Path(f"/proc/{reader}").exists() for reader in readers), LIMIT_S, lambda: "readers")


def test_a_reader_whose_rank_has_gone_says_nothing() -> None:
    ours, theirs = Pipe()
    with theirs:
        ours.close()
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(theirs.fileno()), str(os.getpid())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert process.stderr == ""
