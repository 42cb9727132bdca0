"""A rank that fails, ends or hangs ends the others: one message and one exit code, under any launcher."""

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import product

import pytest

from dlrm_mtl.distributed.failure import Position, format_positions
from dlrm_mtl.distributed.links import pair
from dlrm_mtl.distributed.messages import Signal
from dlrm_mtl.distributed.watch import Watch
from tests.entry_points.launched import listening_ports
from tests.entry_points.processes import QUIET_CPU, ROOT
from tests.entry_points.processes import run as run_command
from tests.messages import mentions
from tests.preloaded import ModuleProcess
from tests.waiting import free_port

BOUND_S = 60
"""Far less than the 600 s after which a collective gives up."""

ROUND_S = 0.01
"""A pause between two rounds of strangers, which leaves the ranks their share of the machine."""

USER_ERROR = "failing: rows of day 3: no such column"


def start(rank: int, world_size: int, port: int, timeout_s: int, *arguments: str, **environment: str) -> ModuleProcess:
    """A rank of a job; further environment variables."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world_size)}
    variables = {**os.environ, **QUIET_CPU, **place, **environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    return ModuleProcess("tests.distributed.failing", [str(timeout_s), *arguments], variables, ROOT)


class Job:
    """Processes of the job in failing.py without a launcher, which would end one because another failed."""

    def __init__(self, world_size: int, *arguments: str, timeout_s: int = 600) -> None:
        port = free_port()
        self.ranks = [start(rank, world_size, port, timeout_s, *arguments) for rank in range(world_size)]

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.ranks:
            process.kill()
            process.communicate(BOUND_S)

    def end(self, rank: int) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a rank, once it has ended."""
        stdout, stderr = self.ranks[rank].communicate(timeout=BOUND_S)
        return self.ranks[rank].returncode or 0, stdout, stderr


def run(world_size: int, *arguments: str, timeout_s: int = 600) -> tuple[list[int], list[str]]:
    """Exit codes by rank, and what each wrote to stderr."""
    with Job(world_size, *arguments, timeout_s=timeout_s) as job:
        ends = [job.end(rank) for rank in range(world_size)]
    return [code for code, _, _ in ends], [stderr for _, _, stderr in ends]


@pytest.fixture(scope="module", autouse=True)
def waiting_rank() -> Iterator[tuple[ModuleProcess, int]]:
    """The first rank of a host, which waits for a store at a port that accepts connections and stays silent; and the
    port. Started before all tests, so that none waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        process = start(0, 2, port, 1, TORCHELASTIC_USE_AGENT_STORE="True")
        yield process, port
        process.kill()
        process.communicate(BOUND_S)


def test_a_job_without_failures_says_nothing() -> None:
    with Job(3) as job:
        assert [job.end(rank) for rank in range(3)] == [(0, f"rank {rank} is done\n", "") for rank in range(3)]


def test_strangers_at_every_port_of_a_job_change_nothing() -> None:
    strangers: deque[socket.socket] = deque()
    deadline = time.monotonic() + BOUND_S
    attacked = set()
    with ExitStack() as cleanup, Job(2) as job:
        while any(rank.poll() is None for rank in job.ranks) and time.monotonic() < deadline:
            ports = {port for rank in job.ranks for port in listening_ports(rank.pid)}
            attacked |= ports
            for port, part in product(ports, (b"", b"\0", b"\xff" * 8, b"[" * 10_000)):
                with suppress(OSError):
                    strangers.append(cleanup.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1)))
                    strangers[-1].sendall(part)
            while len(strangers) > 300:
                strangers.popleft().close()
            time.sleep(ROUND_S)
        ends = [job.end(rank) for rank in range(2)]
    assert [(code, stdout) for code, stdout, _ in ends] == [(0, f"rank {rank} is done\n") for rank in range(2)]
    # On a busy machine the ranks may meet late, which rank 0 reports after some seconds.
    notices = [line for _, _, stderr in ends for line in stderr.splitlines()]
    assert all(mentions(line, "waits", 2) for line in notices)
    assert attacked


def test_an_error_of_the_user_on_one_rank() -> None:
    assert run(2, "1=user") == ([2, 2], [f"{USER_ERROR} (rank 1)\n", ""])


def test_an_error_of_the_user_on_all_ranks_is_said_once_and_of_none() -> None:
    assert run(2, "0=all", "1=all") == ([2, 2], [f"{USER_ERROR}\n", ""])


@pytest.mark.parametrize(
    ("world_size", "action", "error"), [(3, "defect", "KeyError: 'a defect'"), (2, "runtime", "RuntimeError: no shape")]
)
def test_a_defect_on_one_rank_is_the_only_traceback(world_size: int, action: str, error: str) -> None:
    codes, [message, *rest] = run(world_size, f"1={action}")
    assert codes == [1] * world_size
    assert mentions(message, "failing", "rank 1", "Traceback")
    assert message.endswith(f"\n{error}\n")
    assert message.count("Traceback") == 1
    assert not any(rest)


def test_a_killed_rank() -> None:
    with Job(3, "1=kill") as job:
        codes, output, messages = zip(*(job.end(rank) for rank in range(3)), strict=True)
    assert codes == (1, -signal.SIGKILL, 1)
    [line] = messages[0].splitlines()
    assert mentions(line, "failing", "rank 1", "last reports", "rank 1 at")
    assert line.endswith("; ranks 0, 2 at training step 5")
    assert messages[1:] == ("", "")
    assert output == (line.replace("failing", "before the end") + "\n", "", "")


def test_the_first_rank_killed_and_the_store_with_it() -> None:
    codes, messages = run(3, "0=kill")
    assert codes == [-signal.SIGKILL, 1, 1]
    line = "failing: rank 0 ended unexpectedly; last report: rank 1 at training step 5\n"
    assert messages == ["", line, ""]


def test_a_stopped_rank() -> None:
    with Job(3, "1=stop", timeout_s=3) as job:
        first, third = job.end(0), job.end(2)
        assert job.ranks[1].poll() is None
        job.ranks[1].send_signal(signal.SIGCONT)
        second = job.end(1)
    assert first[0] == second[0] == third[0] == 1
    [line] = first[2].splitlines()
    assert mentions(line, "failing", "no progress", "3 s", "timeout_s", "last reports", "rank 1 at")
    assert "ranks 0, 2 at training step 5, in all_reduce (" in line
    assert mentions(line, "no answer", "rank 1")
    assert second[2] == third[2] == ""


def test_the_first_rank_stopped_and_the_store_with_it() -> None:
    with Job(3, "0=stop", timeout_s=3) as job:
        ends = [job.end(1), job.end(2)]
    line = "failing: no progress for 3 s (timeout_s); rank 0 does not answer; last report: rank 1 at training step 5\n"
    assert ends == [(1, "", line), (1, "", "")]


def test_a_rank_that_works_forever_is_told_from_those_that_wait_for_it() -> None:
    codes, messages = run(2, "1=loop", timeout_s=3)
    assert codes == [1, 1]
    [line] = messages[0].splitlines()
    assert mentions(line, "failing", "no progress", "3 s", "timeout_s", "last reports")
    assert "rank 1 at training step 5, in act (failing.py:" in line
    assert "rank 0 at training step 5, in all_reduce (" in line
    assert messages[1] == ""


def test_a_job_of_one_rank_is_watched_too() -> None:
    [code], [message] = run(1, "0=loop", timeout_s=2)
    assert code == 1
    [line] = message.splitlines()
    begin = "failing: no progress for 2 s (timeout_s); last reports: "
    assert line.startswith(f"{begin}rank 0 at training step 5, in act (failing.py:")


def test_pauses_take_as_long_as_they_take() -> None:
    assert run(2, "1=pause", "0=pause", timeout_s=2) == ([0, 0], ["", ""])


def test_an_exit_of_all_ranks_keeps_its_code() -> None:
    assert run(2, "0=exit", "1=exit") == ([143, 143], ["", ""])


def test_a_port_that_somebody_else_holds(waiting_rank: tuple[ModuleProcess, int]) -> None:
    process, port = waiting_rank
    _, stderr = process.communicate(timeout=BOUND_S)
    assert process.returncode == 1
    assert [line for line in stderr.splitlines() if line.startswith("failing: ")] == [
        f"failing: rank 0 waits for all 2 ranks to meet at 127.0.0.1:{port}, for 11 s at most",
        f"failing: the 2 ranks did not meet at 127.0.0.1:{port} within 11 s",
    ]


def test_under_torchrun() -> None:
    launcher = ("torchrun", "--standalone", "--nproc_per_node", "2")
    process = run_command(*launcher, "-m", "tests.distributed.failing", "600", "1=defect")
    assert process.returncode == 1
    assert process.stderr.count("KeyError: 'a defect'") == 1
    before_torchrun, _ = process.stderr.split("KeyError: 'a defect'")
    assert mentions(before_torchrun, "failing", "rank 1", "Traceback")
    assert before_torchrun.count("Traceback") == 1


def test_a_rank_reports_rarely_and_whenever_it_is_asked() -> None:
    link, coordinators_link = pair(1)
    watch = Watch(1, link, timeout_s=600)
    for step in range(25):
        watch.progress("training", step)
        time.sleep(0.1)
    [report] = coordinators_link.receive() or []
    assert isinstance(report, Position)
    coordinators_link.send(Signal.ASK)
    [answer] = coordinators_link.receive() or []
    assert isinstance(answer, Position)
    assert (answer.where, answer.step) == ("training", 24)
    watch.leave()
    assert coordinators_link.receive() == [Signal.LEFT]
    coordinators_link.close()


def test_positions_are_grouped_and_those_behind_come_first() -> None:
    ahead, behind = Position(8, "training", 7), Position(7, "training", 6)
    positions = {0: ahead, 1: behind, 2: ahead, 3: ahead, 4: ahead, 5: Position()}
    expected = "rank 5 at no step yet; rank 1 at training step 6; ranks 0, 2-4 at training step 7"
    assert format_positions(positions) == expected
