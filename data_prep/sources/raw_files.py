"""The files of a raw log, found in directories, in order."""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path

from data_prep.sources.text_file import COMPRESSED_SUFFIXES
from dlrm_mtl.location import Location, RemotePath, name_below


def find_files(paths: Sequence[Location]) -> tuple[list[Location], int]:
    """The files of a log: paths in the given order; files below a directory sorted by path, with numbers by size
    (``day_2`` before ``day_10``). Names that begin with ``_`` or ``.`` are skipped, but for partitions ``_KEY=VALUE``.

    Returns:
        The files, and how many files and directories were skipped.

    Raises:
        ValueError: there is no file, a file is listed twice, is there both plain and compressed, or is a broken link.
    """
    files: list[Location] = []
    passed_over = 0
    for path in paths:
        if path.is_dir():
            for entry in _below(path, frozenset()) if isinstance(path, Path) else _below_remote(path):
                passed_over += entry is None
                files += [] if entry is None else [entry]
        elif path.is_file():
            files.append(path)
        else:
            raise ValueError(f"{path}: not found")
    if not files:
        others = f" but {passed_over} whose names begin with _ or ." if passed_over else ""
        raise ValueError(f"{', '.join(map(str, paths))}: holds no file{others}")
    _refuse_twice(files)
    return files, passed_over


def find_named(directory: Path, name: str) -> list[Path]:
    """Files of a directory that match a pattern (``*`` and ``?`` as in a shell, any case), plain or compressed, in
    order.

    Raises:
        ValueError: there is no such directory, or a file is there both plain and compressed.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory}: not a directory; expected the one that holds the raw files")
    files = [
        path
        for path in directory.iterdir()
        if path.is_file() and fnmatchcase(_uncompressed(path).name.lower(), name.lower())
    ]
    files.sort(key=natural_order)
    _refuse_twice(files)
    return files


def names_of(files: Sequence[Location]) -> list[str]:
    """Distinct names of files: their names, or, where two are equal, their paths below the common directory."""
    names = [path.name for path in files]
    if len(set(names)) == len(names):
        return names
    parts = [path.absolute().parts for path in files]
    levels = zip(*(part[:-1] for part in parts), strict=False)
    shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, levels))
    return ["/".join(part[shared:]) for part in parts]


def natural_order(path: Location) -> list[list[tuple[int, str]]]:
    """Sort key of paths; numbers in names count by size."""
    return [
        [(int(digits), "") if digits.isdecimal() else (-1, digits) for digits in re.split(r"([0-9]+)", name)]
        for name in path.parts
    ]


def _below(directory: Path, above: frozenset[Path]) -> Iterator[Path | None]:
    """Files below a directory in order; None for each entry that is skipped."""
    above |= {directory.resolve()}
    for path in sorted(directory.iterdir(), key=natural_order):
        is_directory = path.is_dir()
        if _is_skipped(path.name, is_directory):
            yield None
        elif is_directory:
            if path.resolve() in above:
                raise ValueError(f"{path}: a link to a directory above it")
            yield from _below(path, above)
        elif path.is_file():
            yield path
        else:
            raise ValueError(f"{path}: neither a file nor a directory; is it a broken link?")


def _below_remote(directory: RemotePath) -> Iterator[RemotePath | None]:
    """As :func:`_below`, by one listing; None for each file that is skipped."""
    for file in sorted(directory.files_below(), key=natural_order):
        *above, name = name_below(directory, file).split("/")
        skipped = _is_skipped(name, False) or any(_is_skipped(each, True) for each in above)
        yield None if skipped else file


def _is_skipped(name: str, is_directory: bool) -> bool:
    return name.startswith(".") or (name.startswith("_") and not (is_directory and "=" in name))


def _refuse_twice(files: Sequence[Location]) -> None:
    plain: dict[Location, Location] = {}
    for file in files:
        key = _uncompressed(file.resolve())
        if key in plain:
            raise ValueError(f"{file}: is there twice, the other is {plain[key]}; its rows would count twice")
        plain[key] = file


def _uncompressed(path: Location) -> Location:
    """The path without the suffix of a compressed file."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSED_SUFFIXES else path
