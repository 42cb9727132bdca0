"""Where files lie: at a path of a file system, or at a URI that pyarrow's file systems read and write."""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from copy import copy
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast
from urllib.parse import quote as percent_encode
from urllib.parse import unquote, urlsplit

from dlrm_mtl.quoting import quote

SCHEMES = ("s3", "gs", "hdfs", "file")

STREAM_BYTES = 8 << 20
"""Bytes of each request of a file that is read from beginning to end."""

_STORE_FAILED = re.compile(r"AWS Error|google::cloud|HDFS|libhdfs")
"""In messages of pyarrow's file systems, whose errors have no type of their own."""
_PERMANENT = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|NO_SUCH_BUCKET|HTTP status 4\d\d"
)
"""In messages of errors that the user must fix: credentials, or the name of the bucket."""

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ONE_SLASH = re.compile(rf"({'|'.join(SCHEMES)}):/")


class Status(NamedTuple):
    """Size in bytes and time of the last change, by the names that :class:`os.stat_result` has for them."""

    st_size: int
    st_mtime_ns: int

    @classmethod
    def of(cls, result: os.stat_result) -> "Status":
        return cls(result.st_size, result.st_mtime_ns)


class RemotePath:
    """A file or directory in an object store or HDFS, with the methods of :class:`pathlib.Path` that readers need.

    The URI's query configures the file system, and holds for everything below. Nothing is contacted before a method
    needs it.

    Args:
        uri: ``s3://BUCKET/KEY``, ``gs://BUCKET/KEY`` or ``hdfs://HOST:PORT/PATH``, percent-encoded, with pyarrow's
            options of the file system in the query, such as ``?endpoint_override=HOST:PORT&scheme=http``.

    Raises:
        ValueError: the URI names no bucket or host, or holds a password.
    """

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        user, _, host = parts.netloc.rpartition("@")
        if user and (parts.scheme != "hdfs" or ":" in user):
            raise ValueError(f"{parts.scheme}://...@{host}: expected no credentials in a URI, but in the environment")
        if not host or parts.fragment:
            raise ValueError(f"{quote(uri)}: expected {parts.scheme}://, a bucket or host, and a path without '#'")
        path = posixpath.normpath("/" + unquote(parts.path).lstrip("/"))
        self._root, self._path, self._query = f"{parts.scheme}://{parts.netloc}", path, parts.query

    def _at(self, path: str) -> "RemotePath":
        other = copy(self)
        other._path = path
        return other

    def __str__(self) -> str:
        path = percent_encode(self._path) if self._path != "/" else ""
        return f"{self._root}{path}{'?' if self._query else ''}{self._query}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash((self._root, self._path))

    def __truediv__(self, name: str) -> "RemotePath":
        return self._at(posixpath.normpath(posixpath.join(self._path, name)))

    @property
    def scheme(self) -> str:
        return self._root.partition("://")[0]

    @property
    def name(self) -> str:
        return posixpath.basename(self._path)

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self._path)[1]

    @property
    def parts(self) -> tuple[str, ...]:
        return (f"{self._root}/", *filter(None, self._path.split("/")))

    @property
    def parent(self) -> "RemotePath":
        return self._at(posixpath.dirname(self._path))

    @property
    def filesystem(self) -> Any:
        """The :class:`pyarrow.fs.FileSystem`, for :attr:`key`.

        Raises:
            ValueError: the query has an option that the file system does not know.
            OSError: the file system cannot be reached, or its library is missing.
        """
        return _filesystem(self._root, self._query)

    @property
    def key(self) -> str:
        """The path within :attr:`filesystem`."""
        if self.scheme == "hdfs":
            return self._path
        return (self._root.partition("://")[2] + self._path).rstrip("/")

    def with_suffix(self, suffix: str) -> "RemotePath":
        return self._at(posixpath.splitext(self._path)[0] + suffix)

    def absolute(self) -> "RemotePath":
        return self

    resolve = absolute

    def is_file(self) -> bool:
        """Whether there is such a file. Raises OSError where the store cannot be reached."""
        return bool(self._info().is_file)

    def is_dir(self) -> bool:
        """Whether there are files below. Raises OSError where the store cannot be reached."""
        return self._info().type.name == "Directory"

    def stat(self) -> Status:
        """Raises OSError where there is no such file, or the store cannot be reached."""
        info = self._info()
        if not info.is_file:
            raise FileNotFoundError(2, "No such file", str(self))
        return _status(info)

    def open(self, mode: Literal["rb"] = "rb") -> BufferedReader:
        """The bytes from beginning to end. Raises OSError where they cannot be read."""
        # A pyarrow.NativeFile, which has the methods of a BufferedReader. By default it would decompress a .gz.
        return cast(BufferedReader, self.filesystem.open_input_stream(self.key, None, STREAM_BYTES))

    def read_bytes(self) -> bytes:
        with self.filesystem.open_input_file(self.key) as file:
            return bytes(file.read())

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def iterdir(self) -> Iterator["RemotePath"]:
        """Files and directories of a directory. Raises OSError where it is not there."""
        return (self._of(info) for info in self._list(recursive=False))

    def files_below(self) -> Mapping["RemotePath", Status]:
        """All files below a directory, none where it is not there."""
        return {self._of(info): _status(info) for info in self._list(recursive=True, may_miss=True) if info.is_file}

    def _info(self) -> Any:
        return self.filesystem.get_file_info(self.key)

    def _list(self, recursive: bool, may_miss: bool = False) -> list[Any]:
        from pyarrow.fs import FileSelector

        return list(self.filesystem.get_file_info(FileSelector(self.key, may_miss, recursive)))

    def _of(self, info: Any) -> "RemotePath":
        return self / posixpath.relpath(info.path, self.key)


Location = Path | RemotePath
"""Where a file or directory lies."""


def name_below(directory: Location, file: Location) -> str:
    """The path of a file relative to a directory that it lies in, with slashes."""
    return "/".join(file.parts[len(directory.parts) :])


def parse_location(text: str) -> Location:
    """A path, or the location of a URI; ``file://`` gives a path.

    Raises:
        ValueError: the URI's scheme is unknown, or see :class:`RemotePath`.
    """
    if _ONE_SLASH.match(text) and not _URI.match(text):
        raise ValueError(f"{quote(text)}: expected two slashes, {text.partition(':')[0]}://; for a folder, ./{text}")
    uri = _URI.match(text)
    if uri is None:
        return Path(text)
    scheme = uri[1]
    if scheme not in SCHEMES:
        raise ValueError(f"{quote(text)}: expected a path, or a URI of {', '.join(f'{name}://' for name in SCHEMES)}")
    if scheme != "file":
        return RemotePath(text)
    parts = urlsplit(text)
    if parts.netloc or parts.query or parts.fragment or not parts.path:
        raise ValueError(f"{quote(text)}: expected file:///PATH")
    return Path(unquote(parts.path))


def parse_path(text: str) -> Path:
    """A path of a file system. Raises ValueError for a URI of anything else."""
    location = parse_location(text)
    if isinstance(location, RemotePath):
        raise ValueError(
            f"{quote(text)}: expected a path of a file system, not a URI; docs/storage.md says where URIs go"
        )
    return location


def _status(info: Any) -> Status:
    return Status(info.size, info.mtime_ns or 0)


@cache
def _filesystem(root: str, query: str) -> Any:
    from pyarrow.fs import FileSystem

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if root.startswith("s3://") and endpoint and "endpoint_override=" not in query:
        # pyarrow reads it, too, but would first ask Amazon for the bucket's region.
        parts = urlsplit(endpoint)
        query += f"{'&' if query else ''}endpoint_override={percent_encode(parts.netloc, '')}&scheme={parts.scheme}"
    try:
        return FileSystem.from_uri(f"{root}/{'?' if query else ''}{query}")[0]
    except ValueError as error:
        raise ValueError(f"{root}: {' '.join(str(error).split())}") from None


def store_failed(error: BaseException) -> bool:
    """Whether a store refused a request or could not be reached."""
    of_a_file = isinstance(error, FileNotFoundError)
    return isinstance(error, OSError) and not of_a_file and _STORE_FAILED.search(str(error)) is not None


def store_may_recover(error: BaseException) -> bool:
    """Whether a store may answer later what it has refused now."""
    return store_failed(error) and _PERMANENT.search(str(error)) is None
