"""Names of tables, features and tasks inside the model.

Users name them as they like. PyTorch and torchrec do not take every name: a module's name becomes an attribute beside
those that the module has (``type``, ``items``), ``.`` separates modules, torchrec's ``@`` separates a feature from its
table, and ``/`` separates the parts of a checkpoint's keys. So a name is escaped where it enters the model, and
unescaped where it leaves it. Ordinary names stay as they are.
"""

import re
from collections.abc import Collection
from urllib.parse import unquote

from torch import nn

_SEPARATORS = re.compile(r"[%./@]")
_SECOND = "%second"
"""No name that is escaped ends so."""

_RESERVED = frozenset(dir(nn.ModuleDict()))
"""What a container of modules refuses as the name of one."""


def escape(name: str) -> str:
    """A user's name as one that any module takes: reserved characters, or the first one of a reserved name, are
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
    """The user's name that :func:`escape` was given."""
    return unquote(name, errors="strict")


def _encoded(character: str) -> str:
    return f"%{ord(character):02X}"
