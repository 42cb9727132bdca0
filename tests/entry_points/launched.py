"""Launchers that run beside a test, and the processes under them."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.entry_points.processes import ROOT, environment
from tests.waiting import wait_for

LIMIT_S = 300
"""Upper limit in seconds of any wait."""


class Launched:
    """A command that trains a run, under any launcher.

    Args:
        out: the run's directory as in the command, by which the run's processes are identified.
        log: file for the output.
    """

    def __init__(self, out: Path, log: Path, *command: str | Path) -> None:
        self._out = out
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command], cwd=ROOT, env=environment(), stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def processes(self) -> list[int]:
        """Process ids of the running launcher, agents and ranks."""
        return processes_of(self._out)

    @property
    def ranks(self) -> dict[int, int]:
        """Process ids by rank."""
        return {int(rank): pid for pid in self.processes if (rank := environment_of(pid).get("RANK"))}

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition, which must come true before the launcher ends."""
        wait_for(condition, LIMIT_S, lambda: self.output, lambda: self._process.poll() is not None)

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self) -> int:
        """Waits for the launcher's end; its exit code."""
        try:
            return self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end:\n{self.output}") from None

    def wait_for_all(self) -> None:
        """Waits until the ranks have ended, which may be after the launcher."""
        wait_for(lambda: not self.processes, LIMIT_S, lambda: self.output)

    def kill_all(self) -> None:
        for pid in self.processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def launched(out: Path, log: Path, *command: str | Path) -> Iterator[Launched]:
    """Ends all processes of the run, whatever the test's outcome."""
    launch = Launched(out, log, *command)
    try:
        yield launch
    finally:
        launch.kill_all()


def processes_of(out: Path) -> list[int]:
    """Process ids of all processes with the run's directory among their arguments."""
    return [pid for pid in _pids() if str(out) in _read(pid, "cmdline")]


def environment_of(pid: int) -> dict[str, str]:
    """The environment with which a process began."""
    return dict(entry.partition("=")[::2] for entry in _read(pid, "environ"))


def parent(pid: int) -> int:
    """Process id of a process's parent."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("PPid:")]
    return int(line.split()[1])


def listens(pid: int, port: int) -> bool:
    """Whether a process listens on a TCP port."""
    return port in listening_ports(pid)


def listening_ports(pid: int) -> set[int]:
    """TCP ports on which a process listens; none if it has ended."""
    own = set()
    with suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                own.add(os.readlink(file))
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in own:
                ports.add(int(columns[1].rpartition(":")[2], 16))
    return ports


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(pid: int, file: str) -> list[str]:
    """Entries of a process's command line or environment; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
