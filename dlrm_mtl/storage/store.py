"""A directory of any file system that pyarrow knows."""

import posixpath
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow.fs import FileSelector, LocalFileSystem

from dlrm_mtl.files import is_leftover
from dlrm_mtl.location import STREAM_BYTES, Location, RemotePath

DELAYS_S = (1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts of an operation that fails."""
WHOLE = ("gcs", "s3")
"""File systems in which a file appears when it is complete; in others it is renamed then."""

Result = TypeVar("Result")


class Store:
    """Files by their names relative to a location, with slashes. Operations that fail are tried again, up to five
    times.

    Raises:
        ValueError, OSError: the location's file system cannot be opened.
    """

    def __init__(self, location: Location) -> None:
        if isinstance(location, RemotePath):
            self._filesystem, self._root = location.filesystem, location.key
        else:
            self._filesystem, self._root = LocalFileSystem(), str(location.absolute())
        self._is_whole = self._filesystem.type_name in WHOLE

    def names(self) -> set[str]:
        """Of all files; none where there is no such directory. Raises OSError."""
        below = FileSelector(self._root, allow_not_found=True, recursive=True)
        found = _retried(lambda: self._filesystem.get_file_info(below))
        names = {info.path[len(self._root) + 1 :] for info in found if info.is_file}
        return {name for name in names if not is_leftover(Path(name))}

    def put(self, file: Path, name: str) -> None:
        """Copies a file to the store, where it appears whole. Raises OSError."""
        _retried(lambda: self._put(file, self._path(name)))

    def get(self, name: str, file: Path) -> None:
        """Copies a file from the store. Raises OSError."""
        _retried(lambda: self._get(self._path(name), file))

    def read(self, name: str) -> bytes:
        """The bytes of a small file. Raises OSError."""

        def read_all() -> bytes:
            with self._filesystem.open_input_stream(self._path(name), compression=None) as stream:
                return bytes(stream.read())

        return _retried(read_all)

    def remove(self, name: str) -> None:
        """Removes a file, and its directory if it was the last one. Raises OSError."""
        _retried(lambda: self._filesystem.delete_file(self._path(name)))
        directory = posixpath.dirname(self._path(name))
        if not self._is_whole and not _retried(lambda: self._filesystem.get_file_info(FileSelector(directory))):
            _retried(lambda: self._filesystem.delete_dir(directory))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _put(self, file: Path, path: str) -> None:
        directory, name = posixpath.split(path)
        written = path if self._is_whole else f"{directory}/.{name[:32]}.{secrets.token_hex(8)}.tmp"
        with file.open("rb") as source:
            if not self._is_whole:
                self._filesystem.create_dir(directory, recursive=True)
            try:
                # By default it would compress what is named .gz.
                with self._filesystem.open_output_stream(written, compression=None) as stream:
                    shutil.copyfileobj(source, stream, STREAM_BYTES)
            except BaseException:
                with suppress(OSError):  # the end of the block above completes the file
                    self._filesystem.delete_file(written)
                raise
        if not self._is_whole:
            self._filesystem.move(written, path)

    def _get(self, path: str, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._filesystem.open_input_stream(path, compression=None) as stream, file.open("wb") as copy:
            shutil.copyfileobj(stream, copy, STREAM_BYTES)


def _retried(operation: Callable[[], Result]) -> Result:
    for delay in (*DELAYS_S, None):
        try:
            return operation()
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            if delay is None:
                raise OSError(" ".join(str(error).split())) from error
            time.sleep(delay)
    raise AssertionError
