"""Names of files and folders for user-given names such as tables and arms."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from hashlib import sha256

MAX_BYTES = 200
"""Maximum number of bytes of a file's name, so that a suffix fits below the usual limit of 255."""

_FORBIDDEN = re.compile(r'^\.|[/\\:*?"<>|\x00-\x1f\x7f]')
"""Characters that some file system forbids, or that hide a file."""
_DIGEST = re.compile(r"-[0-9a-f]{16}$")


def file_names(names: Collection[str]) -> dict[str, str]:
    """Distinct file names for distinct names, also on file systems that ignore case.

    A name is unchanged except for ``-`` in place of characters that a file system may forbid. A digest is appended if
    the name is too long or would equal another one.
    """
    plain = {name: _FORBIDDEN.sub("-", name) for name in names}
    uses = Counter(_folded(file) for file in plain.values())
    return {
        name: f"{_cut(file)}-{_digest(name)}" if uses[_folded(file)] > 1 or _needs_digest(file) else file
        for name, file in plain.items()
    }


def _needs_digest(file: str) -> bool:
    # A name that ends like a digest gets one too, so that it cannot equal a generated name.
    return len(file.encode()) > MAX_BYTES or _DIGEST.search(file) is not None


def _folded(file: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", file).casefold())


def _digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:16]


def _cut(file: str) -> str:
    return file.encode()[: MAX_BYTES - 17].decode(errors="ignore")
