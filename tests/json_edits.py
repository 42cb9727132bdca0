"""Changes to JSON values, by place: ``put("tasks", 0, "name", "click")`` is ``value["tasks"][0]["name"] = "click"``."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dlrm_mtl.files import read_json, write_json

Change = Callable[[Any], object]


def put(*place: Any) -> Change:
    """Sets the value (the last argument) at a place (the others)."""
    *path, last, new = place

    def change(value: Any) -> None:
        _at(value, path)[last] = new

    return change


def puts(*place: Any, values: Iterable[Any]) -> list[Change]:
    """One change for each value."""
    return [put(*place, value) for value in values]


def drop(*place: Any) -> Change:
    *path, last = place

    def change(value: Any) -> None:
        del _at(value, path)[last]

    return change


def edit(path: Path, change: Change) -> None:
    """Changes a file."""
    value = read_json(path)
    change(value)
    write_json(path, value)


def _at(value: Any, path: Iterable[Any]) -> Any:
    for key in path:
        value = value[key]
    return value
