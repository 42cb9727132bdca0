"""Files and folders that are called by names of the user's: tables, arms."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from hashlib import sha256

MAX_BYTES = 200
"""Of a file's name, so that a suffix fits below the 255 bytes of common file systems."""

_FORBIDDEN = re.compile(r'^\.|[/\\:*?"<>|\x00-\x1f\x7f]')
"""What some file system forbids, or what hides a file."""
_DIGEST = re.compile(r"-[0-9a-f]{16}$")


def file_names(names: Collection[str]) -> dict[str, str]:
    """For each of distinct names a file name of its own, also where a file system does not tell upper from lower case.

    A name stays as it is, but for ``-`` in place of characters that a file system may forbid. One that is too long, or
    would be called as another one, ends in a digest of it.
    """
    plain = {name: _FORBIDDEN.sub("-", name) for name in names}
    uses = Counter(_folded(file) for file in plain.values())
    return {
        name: f"{_cut(file)}-{_digest(name)}" if uses[_folded(file)] > 1 or _needs_digest(file) else file
        for name, file in plain.items()
    }


def _needs_digest(file: str) -> bool:
    # What looks like a digest gets one, so that no plain name is that of a digest.
    return len(file.encode()) > MAX_BYTES or _DIGEST.search(file) is not None


def _folded(file: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", file).casefold())


def _digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:16]


def _cut(file: str) -> str:
    return file.encode()[: MAX_BYTES - 17].decode(errors="ignore")
