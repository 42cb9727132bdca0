"""Names of tables, features and tasks inside the model.

PyTorch and torchrec do not accept every name: a module's name becomes an attribute beside its own (``type``,
``items``), ``.`` separates modules, torchrec's ``@`` separates a feature from its table, and ``/`` separates the parts
of a checkpoint's keys. So user-given names are escaped where they enter the model, and unescaped where they leave it.
Ordinary names are unchanged.
"""

import re
from collections.abc import Collection
from urllib.parse import unquote

from torch import nn

_SEPARATORS = re.compile(r"[%./@]")
_SECOND = "%second"
"""No name that is escaped ends so."""

_RESERVED = frozenset(dir(nn.ModuleDict()))
"""Names that a container of modules refuses."""


def escape(name: str) -> str:
    """A name that any module accepts: reserved characters, or the first character of a reserved name, are
    percent-encoded. Different names stay different."""
    escaped = _SEPARATORS.sub(lambda match: _encoded(match[0]), name)
    return _encoded(name[0]) + name[1:] if escaped in _RESERVED else escaped


def head_name(task: str) -> str:
    """The name of a task's modules, and so of its parameters in a checkpoint."""
    return escape(f"task_{task}")


def second_head_name(task: str) -> str:
    """The same for the second head of a task that has two."""
    return f"{head_name(task)}{_SECOND}"


def belongs_to(parameter: str, tasks: Collection[str]) -> bool:
    """Whether a parameter, or a value of its optimizer, is in a module of one of these tasks."""
    owners = {head_name(task) for task in tasks}
    return not owners.isdisjoint(part.removesuffix(_SECOND) for part in re.split("[./]", parameter))


def unescape(name: str) -> str:
    """The inverse of :func:`escape`."""
    return unquote(name, errors="strict")


def _encoded(character: str) -> str:
    return f"%{ord(character):02X}"
