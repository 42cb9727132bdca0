"""The mirror of a run directory: ``--mirror URI``.

A checkpoint in the mirror is whole if its manifest is there, which is copied last and removed first.
"""

import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from dlrm_mtl.distributed.checkpoint_directory import MANIFEST, remove
from dlrm_mtl.distributed.processes import Ranks
from dlrm_mtl.files import publish, read_object, synchronize
from dlrm_mtl.location import Location
from dlrm_mtl.monitoring.background import Background
from dlrm_mtl.run_config import TrainingConfig
from dlrm_mtl.storage.store import Store
from dlrm_mtl.units import format_size

THREADS = 8
"""Files that are copied at the same time."""
ATTEMPTS = 10
"""To copy a run directory while files are removed from it."""

_CHECKPOINT = re.compile(r"((?:.*/)?checkpoints/step-\d{8,})/([^/]+)")
"""Name of a checkpoint's file: the checkpoint, and the file in it."""

Stamp = tuple[int, int]
"""Size, and time of the last change in ns."""


class Mirror:
    """Copies a run directory to a location, in a thread of rank 0. What fails is reported once, and tried again with
    the next checkpoint.

    Raises:
        ValueError, OSError: the location's file system cannot be opened, or the location lies in the run directory.
    """

    def __init__(self, location: Location, out: Path) -> None:
        self._out = out.absolute()
        if isinstance(location, Path) and location.absolute().is_relative_to(self._out):
            raise ValueError(f"mirror: {location} lies in the run directory {out}, expected another place")
        self._name = f"mirror {location}"
        self._store = Store(location)
        self._copied: dict[str, Stamp] = {}
        """Files that the mirror has, as they were then."""
        self._thread: Background | None = None

    def begin(self, ranks: Ranks) -> None:
        """Restores the run directory if the mirror has more of the run, and makes ready to copy. Collective.

        Raises:
            ValueError: the mirror holds another run or other files, or cannot be read; on every rank.
        """
        first = ranks.is_first
        there = ranks.run_on_all(lambda: self._store.names() if first else set[str]())
        behind = ranks.broadcast(ranks.run_on_all(lambda: first and self._is_ahead(there)))
        if behind:
            self._restore(ranks.broadcast(sorted(_whole(there))), ranks)
        if first:
            local = self._local()
            equal = there if behind else self._equal_checkpoints(there)
            self._copied = {name: local[name] for name in equal if name in local}
            self._thread = Background(self._name)

    @property
    def failures(self) -> int:
        """How many copies failed."""
        return self._thread.failures if self._thread is not None else 0

    def copy_soon(self) -> None:
        """Copies what the mirror lacks, in the thread."""
        if self._thread is not None and not self._thread.waits:
            self._thread.submit(self.copy)

    def finish(self) -> None:
        """Copies what the mirror lacks, however long it takes.

        Raises:
            OSError: it cannot be copied.
        """
        if self._thread is None:
            return
        local = self._local()
        sizes = [stamp[0] for name, stamp in local.items() if self._copied.get(name) != stamp]
        self._say(f"copying {len(sizes)} files, {format_size(sum(sizes))}, before the end")
        self._thread.close(threading.TIMEOUT_MAX)
        try:
            self.copy()
        except OSError as error:
            raise OSError(
                f"{self._name}: cannot be written, and lacks the end of this run ({error}); all of it is in"
                f" {self._out}, and the same command copies it"
            ) from error
        self._say("has all of this run")

    def copy(self) -> None:
        """Makes the mirror equal to the run directory; of removed files it loses those of checkpoints. Raises
        OSError."""
        for _ in range(ATTEMPTS):
            local = self._local()
            try:
                self._copy(local)
            except FileNotFoundError:
                if all((self._out / name).exists() for name in local):
                    raise
            else:
                return
        raise OSError(f"files of {self._out} are removed all the time")

    def _copy(self, local: Mapping[str, Stamp]) -> None:
        there = self._store.names()
        changed = {name for name, stamp in local.items() if self._copied.get(name) != stamp}
        manifests = {name for name in changed if _is_manifest(name)}
        for name in manifests & there:  # of a step that was trained again
            self._remove(name)
        self._put(sorted(changed - manifests), local)
        self._put([name for name in sorted(manifests) if self._has_files_of(name)], local)
        for name in sorted(there - local.keys(), key=_is_manifest, reverse=True):
            if (checkpoint := _CHECKPOINT.fullmatch(name)) and not (self._out / checkpoint[1]).exists():
                self._remove(name)

    def _put(self, names: Sequence[str], local: Mapping[str, Stamp]) -> None:
        def put(name: str) -> None:
            self._store.put(self._out / name, name)
            self._copied[name] = local[name]

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(put, names))

    def _remove(self, name: str) -> None:
        self._store.remove(name)
        self._copied.pop(name, None)

    def _has_files_of(self, manifest: str) -> bool:
        """Whether the mirror has the files of a checkpoint, which may be removed here meanwhile."""
        directory = PurePosixPath(manifest).parent
        try:
            files = read_object(self._out / manifest)["files"]
        except ValueError:
            return False
        return all(self._copied.get(f"{directory}/{name}", (-1,))[0] == file["bytes"] for name, file in files.items())

    def _local(self) -> dict[str, Stamp]:
        """The files of the run directory, without hidden ones, which are not complete."""
        stamps: dict[str, Stamp] = {}
        for directory, folders, files in os.walk(self._out):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for path in (Path(directory, name) for name in files if not name.startswith(".")):
                if path.exists():
                    status = path.stat()
                    stamps[path.relative_to(self._out).as_posix()] = status.st_size, status.st_mtime_ns
        return stamps

    def _is_ahead(self, there: set[str]) -> bool:
        """Whether the mirror has starts of the run that the run directory does not have.

        Raises:
            ValueError: it holds another run or other files.
        """
        ahead = False
        records = sorted(name for name in there if PurePosixPath(name).name in ("config.json", "starts.jsonl"))
        if there and not records:
            raise ValueError(f"{self._name}: holds other files, expected an empty place or the mirror of a run")
        for name in records:
            file, theirs = self._out / name, self._store.read(name)
            ours = file.read_bytes() if file.is_file() else b""
            if not (theirs.startswith(ours) or ours.startswith(theirs)):
                raise ValueError(f"{self._name}: {name} is of another run than {file}; give another place")
            ahead = ahead or len(theirs) > len(ours)
        return ahead

    def _equal_checkpoints(self, there: set[str]) -> set[str]:
        """The files of checkpoints that are the same here and in the mirror."""
        manifests = [name for name in there if _is_manifest(name) and (self._out / name).is_file()]
        equal = {
            str(PurePosixPath(name).parent)
            for name in manifests
            if (self._out / name).read_bytes() == self._store.read(name)
        }
        return {name for name in there if str(PurePosixPath(name).parent) in equal}

    def _restore(self, names: Sequence[str], ranks: Ranks) -> None:
        """Replaces the run directory by the files of the mirror. Collective."""
        partial = self._out.with_name(f".{self._out.name}.restored")
        ranks.run_on_all(lambda: remove(partial) if ranks.is_first else None)

        def get(name: str) -> None:
            self._store.get(name, partial / name)
            synchronize(partial / name)

        def get_share() -> None:
            with ThreadPoolExecutor(THREADS) as threads:
                list(threads.map(get, names[ranks.rank :: ranks.world_size]))

        ranks.run_on_all(get_share)
        ranks.run_on_all(lambda: publish(partial, self._out) if ranks.is_first else None)
        if ranks.is_first:
            self._say(f"restored {len(names)} files to {self._out}")

    def _say(self, text: str) -> None:
        print(f"{self._name}: {text}", file=sys.stderr, flush=True)


@contextmanager
def mirrored(config: TrainingConfig) -> Iterator[Mirror | None]:
    """The mirror of a job, around its process group, so that no rank waits for the last copy; None: it has none.

    Raises:
        ValueError: see :class:`Mirror`.
        OSError: the mirror lacks the end of the run.
    """
    if config.mirror is None:
        yield None
        return
    mirror = Mirror(config.mirror, config.out)
    try:
        yield mirror
    except SystemExit:
        try:
            mirror.finish()
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
        raise
    mirror.finish()


def _is_manifest(name: str) -> bool:
    match = _CHECKPOINT.fullmatch(name)
    return match is not None and match[2] == MANIFEST


def _whole(names: set[str]) -> set[str]:
    """Files of a mirror without those of checkpoints that are not whole."""
    whole = {str(PurePosixPath(name).parent) for name in names if _is_manifest(name)}
    return {name for name in names if not (match := _CHECKPOINT.fullmatch(name)) or match[1] in whole}
