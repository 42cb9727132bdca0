"""Runs that end early, under each launcher and with any number of readers: all processes end soon, with the right exit
code and message."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.children import processes_with
from tests.entry_points.processes import ROOT, environment
from tests.waiting import free_port, wait_for

LIMIT_S = 10.0
"""Seconds within which all processes end after the cause."""
START_S = 240.0
"""Upper limit in seconds of any wait before that."""
MARK = "DLRM_MTL_ENDING"
"""Environment variable set in all processes of a run."""
READER = "dlrm_mtl.data.reader_process"

OPTIONS = (
    *("--batch-size", "48", "--epochs", "1000", "--log-every", "2", "--model.head-mlp", "16"),
    *("--model.bottom-mlp", "8", "--reader.shuffle-rows", "500"),
)
CODES = {"refused": 2, "failed": 1, "preempted": 143, "interrupted": 130, "finished": 0}

Strike = Callable[["Struck"], None]


@dataclass(frozen=True)
class Ending:
    """A way to end a run.

    Attributes:
        outcome: of :data:`CODES`.
        says: regular expression for the last line that a rank writes.
        options: further options of the run.
        fault: fault of every rank in a step, see :mod:`tests.faults.failing_rank`.
        wrap: shell command around the run, ``"$@"``, if its surroundings end it.
        strike: action on the run from outside.
        needs_readers: whether it needs reader processes.
        needs_root: whether ``wrap`` mounts something.
    """

    outcome: str
    says: str = ""
    options: tuple[str, ...] = ()
    fault: str = ""
    wrap: str = ""
    strike: Strike | None = None
    needs_readers: bool = False
    needs_root: bool = False


def to_all(number: int) -> Strike:
    def strike(run: "Struck") -> None:
        run.await_training()
        run.send(number, run.processes)

    return strike


def to_one_reader(run: "Struck") -> None:
    run.await_training()
    run.send(signal.SIGKILL, run.readers[:1])


def while_readers_start(number: int) -> Strike:
    def strike(run: "Struck") -> None:
        run.wait_until(lambda: bool(run.readers))
        run.send(number, run.ranks if number == signal.SIGKILL else run.processes)

    return strike


def to_ranks(run: "Struck") -> None:
    run.await_training()
    run.send(signal.SIGKILL, run.ranks)


def vanish(run: "Struck") -> None:
    run.await_training()
    for shard in run.data.glob("train/*.parquet"):
        shard.unlink()
    run.wait_until(lambda: "cannot be read" in run.output)


LONG_TMPDIR = 'export TMPDIR="$PLACE/' + "d" * 100 + '"; mkdir -p "$TMPDIR"; exec "$@"'
FINISHES = ("--max-steps", "8", "--epochs", "1")

ENDINGS = {
    "not a number": Ending(
        "refused", "3 steps in a row", ("--optimizer.dense-lr", "1e30", "--max-nonfinite-steps", "2")
    ),
    "defect": Ending("failed", "KeyError: 'a defect'", fault="defect"),
    "refusal": Ending("refused", "rows of day 3", fault="refusal"),
    "full disk": Ending(
        "refused",
        "No space left on device",
        wrap='mkdir -p "$PLACE/run"; mount -t tmpfs -o size=300k tmpfs "$PLACE/run" && exec "$@"',
        needs_root=True,
    ),
    "SIGTERM": Ending("preempted", "told to end", strike=to_all(signal.SIGTERM)),
    "SIGINT": Ending("interrupted", "interrupted", strike=to_all(signal.SIGINT)),
    "SIGKILL": Ending("killed", strike=to_ranks),
    "vanished shards": Ending("refused", "cannot be read", strike=vanish),
    "killed reader": Ending("failed", "was killed by SIGKILL", strike=to_one_reader, needs_readers=True),
    "SIGTERM while readers start": Ending(
        "preempted", "told to end", strike=while_readers_start(signal.SIGTERM), needs_readers=True
    ),
    "SIGINT while readers start": Ending(
        "interrupted", "interrupted", strike=while_readers_start(signal.SIGINT), needs_readers=True
    ),
    "SIGKILL while readers start": Ending("killed", strike=while_readers_start(signal.SIGKILL), needs_readers=True),
    "long TMPDIR": Ending("finished", options=FINISHES, wrap=LONG_TMPDIR, needs_readers=True),
    "small /dev/shm": Ending(
        "finished",
        options=FINISHES,
        wrap='mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"',
        needs_readers=True,
        needs_root=True,
    ),
    "few open files": Ending("finished", options=FINISHES, wrap='ulimit -n 64; exec "$@"', needs_readers=True),
}


class Struck:
    """A run that is going to end."""

    def __init__(self, directory: Path, data: Path, readers: int, launcher: str, ending: Ending) -> None:
        directory.mkdir(parents=True)
        self.data = data
        self._log = directory / "output"
        self._mark = uuid.uuid4().hex
        module = "tests.faults.failing_rank" if ending.fault else "dlrm_mtl.train"
        arguments = ["--data", str(data), "--out", str(directory / "run"), *OPTIONS, "--reader.workers", str(readers)]
        command = [*LAUNCHERS[launcher](module, directory), *arguments, *ending.options]
        if ending.wrap:
            shell = ["bash", "-c", ending.wrap, "run"]
            command = [*(["unshare", "-m"] if ending.needs_root else []), *shell, *command]
        variables = {**environment(), MARK: self._mark, "FAULT": ending.fault, "PLACE": str(directory)}
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job of a shell ignores
        with self._log.open("w") as output:
            self._process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace") + "".join(
            log.read_text(errors="replace") for log in self._log.parent.glob("logs/**/std*.log")
        )

    @property
    def processes(self) -> list[int]:
        return list(self._commands())

    @property
    def readers(self) -> list[int]:
        return [pid for pid, command in self._commands().items() if READER in command]

    @property
    def ranks(self) -> list[int]:
        launchers = ("torchrun", "torch.distributed.run", "torchx", "bash -c")
        return [
            pid
            for pid, command in self._commands().items()
            if READER not in command and not any(launcher in command for launcher in launchers)
        ]

    def await_training(self) -> None:
        self.wait_until(lambda: any(self._log.parent.glob("run/*/metrics.jsonl")) and "steps" in self.output)
        self.wait_until(
            lambda: any(log.stat().st_size for log in self._log.parent.glob("run/*/metrics.jsonl")),
        )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        wait_for(condition, START_S, lambda: self.output, lambda: self._process.poll() is not None)

    def send(self, number: int, processes: Sequence[int]) -> None:
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self) -> int:
        """Exit code of the launcher, or of the run itself without one."""
        return self._process.wait(START_S)

    def all_are_gone_within(self, limit_s: float) -> bool:
        end = time.monotonic() + limit_s
        while self.processes:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def wait_for_word(self, says: str) -> None:
        """Waits until the run has printed this, or has ended."""
        wait_for(lambda: not self.processes or (says and re.search(says, self.output)), START_S, lambda: self.output)

    def kill(self) -> None:
        self.send(signal.SIGKILL, self.processes)
        self._process.wait()

    def _commands(self) -> dict[int, str]:
        self._process.poll()  # so that it is reaped
        return processes_with(MARK, self._mark)


@contextmanager
def struck(directory: Path, data: Path, readers: int, launcher: str, ending: Ending) -> Iterator[Struck]:
    """Leaves no process behind."""
    run = Struck(directory, data, readers, launcher, ending)
    try:
        yield run
    finally:
        run.kill()


def faults_of(run: Struck, launcher: str, ending: Ending) -> list[str]:
    """Faults in the ending of a run."""
    if ending.strike is not None:
        ending.strike(run)
    if ending.strike is None or ending.says:
        run.wait_for_word(ending.says)
    if not run.all_are_gone_within(LIMIT_S):
        return [f"after {LIMIT_S:g} s {len(run.processes)} processes are left, of them readers: {len(run.readers)}"]
    found = []
    code = run.wait()
    if launcher == PLAIN and ending.outcome in CODES and code != CODES[ending.outcome]:
        found.append(f"exit code {code}, expected {CODES[ending.outcome]}")
    if launcher != PLAIN and (code == 0) != (ending.outcome == "finished"):
        found.append(f"exit code of the launcher: {code}")
    lines = [line for line in run.output.splitlines() if line.strip()]
    # Launchers print more after a rank's last line.
    if not any(re.search(ending.says, line) for line in (lines[-1:] if launcher == PLAIN else lines)):
        found.append(f"does not say {ending.says!r}")
    return found


def cases() -> Iterator[tuple[str, int, str]]:
    """Launcher, number of readers and name of every ending that this machine can run."""
    for launcher in LAUNCHERS:
        for readers in (0, 1, 2):
            for name, ending in ENDINGS.items():
                possible = readers > 0 or not ending.needs_readers
                possible &= os.geteuid() == 0 or not ending.needs_root
                # A component runs the entry point itself, and starts no shell.
                possible &= launcher != TORCHX or not (ending.fault or ending.wrap)
                if possible:
                    yield launcher, readers, name


def run_case(directory: Path, data: Path, launcher: str, readers: int, name: str) -> list[str]:
    """Runs one ending; returns its faults."""
    ending = ENDINGS[name]
    mine = Path(shutil.copytree(data, directory / "data"))  # some lose shards
    with struck(directory / "place", mine, readers, launcher, ending) as run:
        faults = faults_of(run, launcher, ending)
        return [f"{name}, {launcher}, {readers} readers: {fault}\n{run.output[-3000:]}" for fault in faults]


def _python(module: str, directory: Path) -> list[str]:
    return [sys.executable, "-m", module]


def _torchrun(processes: int, module: str, directory: Path) -> list[str]:
    return ["torchrun", "--standalone", "--nproc_per_node", str(processes), "-m", module]


def _torchx(module: str, directory: Path) -> list[str]:
    settings = ["-s", "local_cwd", "-cfg", f"log_dir={directory / 'logs'}"]
    options = ["-j", "1x2", "--restarts", "0", "--rdzv_port", str(free_port())]
    return ["torchx", "run", *settings, "components/train.py:train", *options, "--"]


PLAIN, TORCHX = "plain", "torchx, 2 ranks"
LAUNCHERS: dict[str, Callable[[str, Path], list[str]]] = {
    PLAIN: _python,
    "torchrun, 1 rank": partial(_torchrun, 1),
    "torchrun, 2 ranks": partial(_torchrun, 2),
    TORCHX: _torchx,
}
