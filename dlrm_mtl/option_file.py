"""Options from a file, ``--config FILE``: checked by name and type, then given to the parser of the command line."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from dlrm_mtl.files import read_json, read_toml
from dlrm_mtl.quoting import quote
from dlrm_mtl.records import convert


def read_options(path: Path, kind: type) -> dict[str, Any]:
    """The options in a TOML or JSON file, by its suffix, in the nesting of a configuration.

    Args:
        kind: the dataclass that they are for.

    Raises:
        ValueError: the file cannot be read, an option is unknown or stands twice, or a value is of another type than
            the option or would itself be taken for one; the message names file and option.
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
    """Options in the form of a file as arguments of the command line."""
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
            raise ValueError(f"option {quote(option)} stands twice")
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
    """The type that a file has for an option's: a path is a text."""
    if hint is Path:
        return str
    if get_origin(hint) is tuple:
        return tuple[tuple(_in_a_file(item) for item in get_args(hint))]  # type: ignore[misc]
    if NoneType in get_args(hint):
        [only] = [item for item in get_args(hint) if item is not NoneType]
        return _in_a_file(only) | None
    return hint


def _check_texts(value: Any, option: str) -> None:
    """What begins with a dash would be an option to the parser."""
    if isinstance(value, str):
        if value.startswith("-"):
            raise ValueError(f"{option}: {quote(value)}, expected a text that does not begin with '-'")
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, option)
    elif isinstance(value, dict):
        for item in (*value.keys(), *value.values()):
            _check_texts(item, option)
