"""The work directory of a preparation: markers of finished pieces, so that a killed preparation resumes.

``OUT.partial/data`` becomes ``OUT`` at the end, or is copied there; ``OUT.partial/work`` holds the plan, a marker for
each finished piece of work, and files for later stages. A marker lists the files of its piece with their checksums and
is written after them; a piece whose marker or files are damaged is done again.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from dlrm_mtl.files import publish, read_json, read_object, remove_leftovers, sha256, write_json
from dlrm_mtl.location import Location, RemotePath
from dlrm_mtl.storage.publishing import publish_to_store

GRACE_S = 60.0
"""Seconds for which a failure that is older than this process counts as one of an earlier attempt, whose replica may
not have started again yet."""

POLL_S = 0.5
"""Seconds between checks of other replicas."""

ATTEMPT = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_RESTART_COUNT")
"""Environment variables that identify an attempt of a job."""


@dataclass(frozen=True)
class Replica:
    """One of the processes, on one machine or several, that prepare a data set together."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def from_environment() -> "Replica":
        """From RANK and WORLD_SIZE, as torchrun sets them; by default one of one."""
        return Replica(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


@dataclass(frozen=True)
class WorkDirectory:
    """The directories of one preparation."""

    out: Location
    replica: Replica = field(default_factory=Replica)
    parent: int = field(default_factory=os.getpid)
    """Id of the main process."""
    place: Path | None = None
    """Where the work directory is; None: beside ``out``, which is a path."""
    begun: float = field(default_factory=time.time)

    @property
    def partial(self) -> Path:
        place = self.out.parent if self.place is None else self.place
        assert isinstance(place, Path)
        return place / f"{self.out.name}.partial"

    @property
    def data(self) -> Path:
        return self.partial / "data"

    @property
    def work(self) -> Path:
        return self.partial / "work"

    def open(self, plan: Mapping[str, Any], check: Callable[[], None] = lambda: None) -> None:
        """Begins, or resumes work of the same plan; ``check`` is called while waiting for the first replica. A single
        replica discards work of another plan that has not finished a segment.

        Raises:
            ValueError: the work was begun by another plan.
        """
        plan = json.loads(json.dumps(plan))
        (self.work / "failures").mkdir(parents=True, exist_ok=True)
        self._failure(self.replica.rank).unlink(missing_ok=True)
        file = self.work / "plan.json"
        if self.replica.rank == 0:
            begun = read_object(file) if file.exists() else None
            if begun is not None and (self.replica.size > 1 or self._has_finished_work):
                _check_same(plan, begun, self.partial)
            elif begun != plan:
                self._begin_anew(file, plan)
        else:
            self.wait_for(file.exists, check)
            _check_same(plan, read_object(file), self.partial)

    @property
    def _has_finished_work(self) -> bool:
        """Whether anything but the number of lines is finished."""
        return any(marker.parent.name not in ("index", "failures") for marker in self.work.glob("*/*.json"))

    def _begin_anew(self, file: Path, plan: Mapping[str, Any]) -> None:
        stages = [path for path in self.work.iterdir() if path.is_dir() and path.name != "failures"]
        for directory in (self.data, *stages):
            shutil.rmtree(directory, ignore_errors=True)
        write_json(file, plan)

    def lock(self) -> IO[str]:
        """Takes this replica's lock, until the returned file is closed.

        Raises:
            ValueError: another process holds it.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        file = (self.work / f"lock-{self.replica.rank}").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{self.partial}: another process is at work there") from None
        return file

    def file(self, kind: str, name: str) -> Path:
        """Path of a file for later stages; creates its directory."""
        path = self.work / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def stage(self, name: str) -> Path:
        """Directory of a stage's markers."""
        return self.work / name

    def marker(self, stage: str, key: str) -> Path:
        return self.work / stage / f"{key}.json"

    def finished(self, stage: str, key: str) -> dict[str, Any] | None:
        """The record of a piece of work, after a check of its files; None: it is not finished, or a file has
        changed."""
        marker = self.marker(stage, key)
        record = read_marker(marker)
        if record is None:
            marker.unlink(missing_ok=True)
            return None
        for name, checksum in record["files"].items():
            path = self.partial / name
            if not path.is_file() or sha256(path) != checksum:
                marker.unlink()
                return None
        return record

    def finish(self, stage: str, key: str, record: Mapping[str, Any], files: Mapping[Path, str]) -> None:
        """Marks a piece of work as finished, with its files and their checksums."""
        marker = self.marker(stage, key)
        marker.parent.mkdir(parents=True, exist_ok=True)
        named = {str(path.relative_to(self.partial)): checksum for path, checksum in files.items()}
        sealed = json.loads(json.dumps({**record, "files": named}))
        write_json(marker, {**sealed, "seal": _seal(sealed)})

    def record(self, stage: str, key: str) -> dict[str, Any] | None:
        """The record of a finished piece, without a check of its files; None: it is not finished."""
        return read_marker(self.marker(stage, key))

    def leave_if_orphaned(self) -> None:
        """Ends a worker whose main process is gone, since another one may have taken over."""
        if self.parent not in (os.getpid(), os.getppid()):
            os._exit(1)

    def fail(self, error: BaseException) -> None:
        """Tells the other replicas that this one has failed."""
        if self.replica.size > 1 and self.work.is_dir():
            # The disk may be full.
            with suppress(OSError):
                message = str(error) or type(error).__name__
                write_json(self._failure(self.replica.rank), {"attempt": _attempt(), "error": message})

    def wait_for(self, condition: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
        """Waits for other replicas.

        Raises:
            ValueError: one of them failed.
        """
        while not condition():
            for rank in range(self.replica.size):
                if rank != self.replica.rank and (error := self._error_of(rank)) is not None:
                    raise ValueError(f"stopped, since replica {rank} failed: {error}")
            meanwhile()
            time.sleep(POLL_S)

    def publish(self) -> None:
        """Moves the data set into place, or copies it to a store, and removes the work directory."""
        for directory in [self.data, *(path for path in self.data.iterdir() if path.is_dir())]:
            remove_leftovers(directory)
        if isinstance(self.out, RemotePath):
            publish_to_store(self.data, self.out)
        else:
            publish(self.data, self.out)
        self.clear()

    def clear_after(self, plan: Mapping[str, Any]) -> None:
        """Removes the work of a process that was killed after it had published the data set of that plan."""
        if self.replica.rank or not self.partial.is_dir():
            return
        lock = self.lock()
        try:
            file = self.work / "plan.json"
            if not file.exists() or read_json(file) == json.loads(json.dumps(plan)):
                self.clear()
        finally:
            lock.close()

    def clear(self) -> None:
        """Removes the work directory, as far as other replicas do not use it."""
        shutil.rmtree(self.partial, ignore_errors=True)

    def _error_of(self, rank: int) -> str | None:
        """Why another replica failed in this attempt."""
        file = self._failure(rank)
        try:
            failure = read_json(file)
            is_old = file.stat().st_mtime < self.begun and time.time() < self.begun + GRACE_S
        except (ValueError, OSError):
            return None
        return None if failure["attempt"] != _attempt() or is_old else failure["error"]

    def _failure(self, rank: int) -> Path:
        return self.work / "failures" / f"failed-{rank}.json"


def read_marker(marker: Path) -> dict[str, Any] | None:
    """The record in a marker; None: it is missing or damaged."""
    try:
        record = read_json(marker)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.pop("seal", None) != _seal(record):
        return None
    return record


def _seal(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _attempt() -> str:
    return "-".join(os.environ.get(name, "") for name in ATTEMPT)


def _check_same(plan: Mapping[str, Any], begun: Mapping[str, Any], partial: Path) -> None:
    for key in sorted(plan.keys() | begun.keys()):
        if plan.get(key) != begun.get(key):
            before, now = _first_difference(begun.get(key), plan.get(key))
            raise ValueError(
                f"{partial}: was begun with {key} {before}, now it is {now}; delete it, or go on with the same"
            )


def _first_difference(before: Any, now: Any) -> tuple[Any, Any]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                inner = _first_difference(before.get(key), now.get(key))
                return f"{key} = {inner[0]}", f"{key} = {inner[1]}"
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return next(_first_difference(a, b) for a, b in zip(before, now, strict=True) if a != b)
    return before, now
