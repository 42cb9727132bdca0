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
OWNED_BY = "%of_"
"""Stands between a table and its owner, and in no name that is escaped."""

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


def owner_of(head: str) -> str:
    """The first of the names of a task's heads: the task owns tables under it."""
    return head.removesuffix(_SECOND)


def table_name(table: str, owner: str = "") -> str:
    """The name of a data set's embedding table in the model; of the shared one, or of an owner's."""
    return f"{escape(table)}{OWNED_BY}{owner}" if owner else escape(table)


def table_of(name: str) -> str:
    """The data set's table that a table of the model is for, whoever owns it."""
    return unescape(name.partition(OWNED_BY)[0])


def belongs_to(parameter: str, tasks: Collection[str]) -> bool:
    """Whether a parameter, or a value of its optimizer, is in a module or an own table of one of these tasks."""
    owners = {head_name(task) for task in tasks}
    return not owners.isdisjoint(owner_of(part.rpartition(OWNED_BY)[2]) for part in re.split("[./]", parameter))


def module_of(parameter: str, tasks: Collection[str]) -> str:
    """The module or own table of one of these tasks that a parameter is in."""
    parts = parameter.split(".")
    last = next(number for number, part in enumerate(parts) if belongs_to(part, tasks))
    return ".".join(parts[: last + 1])


def unescape(name: str) -> str:
    """The inverse of :func:`escape`."""
    return unquote(name, errors="strict")


def _encoded(character: str) -> str:
    return f"%{ord(character):02X}"
