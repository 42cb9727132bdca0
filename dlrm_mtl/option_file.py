"""Options from a file, ``--config FILE``, checked by name and type before the command line is parsed."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from dlrm_mtl.files import read_json, read_toml
from dlrm_mtl.location import Location
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import convert


def read_options(path: Path, kind: type) -> dict[str, Any]:
    """Reads the options in a TOML or JSON file, by its suffix, nested like the configuration.

    Args:
        kind: the dataclass of the configuration.

    Raises:
        ValueError: the file cannot be read, an option is unknown or given twice, or a value has another type than the
            option or looks like an option itself; the message names file and option.
    """
    values = read_toml(path) if path.suffix == ".toml" else read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected an object, found {type(values).__name__}")
    try:
        _check(kind, values, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return values


def as_arguments(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Nested options as arguments of the command line."""
    arguments: list[str] = []
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", "-")
        if isinstance(value, dict) and key != "embedding_dims":
            arguments += as_arguments(value, f"{prefix}{key}.")
        elif isinstance(value, dict):
            arguments += [f"--{name}", *(str(item) for pair in value.items() for item in pair)]
        elif isinstance(value, list):
            arguments += [f"--{name}", *map(str, value)]
        else:
            arguments += [f"--{name}", str(value)]
    return arguments


def _check(kind: type, values: Mapping[str, Any], prefix: str) -> None:
    hints = get_type_hints(kind)
    seen = set()
    for key, value in values.items():
        option, field = f"{prefix}{key}", key.replace("-", "_")
        if field not in hints:
            raise ValueError(f"unknown option {quote(option)}, expected one of {', '.join(prefix + n for n in hints)}")
        if field in seen:
            raise ValueError(f"option {quote(option)} occurs twice")
        seen.add(field)
        hint = _in_a_file(hints[field])
        if is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ValueError(f"{option}: expected an object, found {quote(value)}")
            _check(hint, value, f"{option}.")  # type: ignore[arg-type]
        else:
            convert(hint, value, option)
            _check_texts(value, option)


def _in_a_file(hint: Any) -> Any:
    """The type of an option in a file, where a path is a string."""
    if hint in (Path, Location):
        return str
    if get_origin(hint) is tuple:
        return tuple[tuple(_in_a_file(item) for item in get_args(hint))]  # type: ignore[misc]
    if NoneType in get_args(hint):
        return _in_a_file(reduce(or_, (item for item in get_args(hint) if item is not NoneType))) | None
    return hint


def _check_texts(value: Any, option: str) -> None:
    """Refuses texts that begin with a dash, which the parser would take for options."""
    if isinstance(value, str):
        if value.startswith("-"):
            raise ValueError(f"{option}: {quote(value)}, expected a text that does not begin with '-'")
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, option)
    elif isinstance(value, dict):
        for item in (*value.keys(), *value.values()):
            _check_texts(item, option)
