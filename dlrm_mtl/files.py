"""Atomic writing of files, also across a crash of the machine; strict reading of JSON and TOML."""

import hashlib
import json
import math
import os
import re
import secrets
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from dlrm_mtl.location import Location, store_failed
from dlrm_mtl.quoting import quote, shorten

MAX_DEPTH = 32
"""Maximum nesting of lists and objects in a JSON or TOML file."""

LEFTOVER = re.compile(r"\..+\.([0-9a-f]{16}|\d+)\.tmp")
"""Pattern of the temporary names of unfinished files."""


class PendingFile:
    """A file that gets its name when it is complete.

    Its ``temporary`` path lies in the same directory and is unique: no other process on any machine uses it, and it is
    not a link.

    Raises:
        OSError: the directory cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Shortened: a name may be as long as the file system allows.
        self.temporary = path.with_name(f".{path.name[:32]}.{secrets.token_hex(8)}.tmp")
        os.close(os.open(self.temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))

    def commit(self, durable: bool = True) -> None:
        """Gives the file its name.

        Args:
            durable: whether to synchronise the bytes to disk before renaming, and the name before returning. Not needed
                for files that are checked when read and can be made again.
        """
        if durable:
            synchronize(self.temporary)
        os.replace(self.temporary, self.path)
        if durable:
            synchronize(self.path.parent)

    def discard(self) -> None:
        """Removes the temporary file if it was not committed."""
        self.temporary.unlink(missing_ok=True)


def sha256(path: Location) -> str:
    """Checksum of a file's bytes, in hexadecimal digits. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to; the file appears at ``path`` if the block ends without an error."""
    pending = PendingFile(path)
    try:
        yield pending.temporary
        pending.commit()
    finally:
        pending.discard()


def write_text(path: Path, text: str) -> None:
    """Writes a text atomically."""
    with write_whole(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically. NaN and infinity are refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def synchronize(path: Path) -> None:
    """Waits until a file's bytes or a directory's entries are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(written: Path, path: Path) -> None:
    """Renames a finished directory to its final name, replacing an existing one.

    The old directory stays complete until the swap. Files must have been synchronised.
    """
    for directory in (written, *(item for item in written.rglob("*") if item.is_dir())):
        synchronize(directory)
    replaced = written.with_name(f"{written.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if path.exists():
        os.replace(path, replaced)
    os.replace(written, path)
    synchronize(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def is_leftover(path: Path) -> bool:
    """Whether this is a temporary file that a killed process may have left."""
    return LEFTOVER.fullmatch(path.name) is not None


def remove_leftovers(directory: Path) -> None:
    """Removes the temporary files of killed processes from a directory. No process may be writing there."""
    for path in directory.iterdir():
        if is_leftover(path):
            path.unlink(missing_ok=True)


def read_json(path: Location) -> Any:
    """Reads JSON.

    Raises:
        ValueError: the file is missing, not valid JSON or not strict, see :func:`parse_json`; the message names the
            file.
    """
    return parse_json(_read_text(path, "JSON"), str(path))


def read_object(path: Location) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ValueError: see :func:`read_json`, or the file holds another type.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object, found {type(value).__name__}")
    return value


def parse_json(text: str, where: str) -> Any:
    """Parses JSON strictly: no duplicate keys, no NaN or infinity, no lone surrogates, at most ``MAX_DEPTH`` levels.

    Args:
        where: describes the text in error messages.

    Raises:
        ValueError: the text is not such JSON.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite_number
        )
        _check_values(value)
    except RecursionError:
        raise ValueError(f"{where}: not valid JSON (more than {MAX_DEPTH} levels)") from None
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON ({error})") from None
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Reads TOML of at most ``MAX_DEPTH`` levels without NaN and infinity.

    Raises:
        ValueError: the file is missing or not such TOML; the message names the file.
    """
    text = _read_text(path, "TOML")
    try:
        value = tomllib.loads(text)
        _check_values(value)
    except RecursionError:
        raise ValueError(f"{path}: not valid TOML (more than {MAX_DEPTH} levels)") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid TOML ({error})") from None
    return value


def _read_text(path: Location, form: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: not found") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid {form} ({error.reason} at byte {error.start})") from None
    except OSError as error:
        if store_failed(error):
            raise
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {quote(repeated)} occurs twice in an object")
    return values


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shorten(text)} is beyond the range of a number")
    return number


def _check_values(value: Any) -> None:
    """Checks what the parsers accept but strict files must not have. Raises ValueError."""
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH:
            raise RecursionError
        depth += 1
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str):
                if not item.isascii():
                    _check_text(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise ValueError(f"{item} is not a finite number")
        level = below


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{quote(text)} contains a lone surrogate") from None
