"""Builds dataclasses from the content of a JSON or TOML file, with every type checked."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import Parameter, signature
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dlrm_mtl.quoting import quote

T = TypeVar("T")

PLAIN = (str, int, float, bool)

INTEGERS = range(-(2**63), 2**63)
"""Range of an integer in a file: 64 bits."""


class MayHoldMore:
    """Base of dataclasses whose file may hold further keys, written by a later version; they are ignored."""


def build(kind: Callable[..., T], values: Any, where: str) -> T:
    """Builds a dataclass, and nested ones, from plain data. Lists become tuples and integers may stand for floats;
    nothing else is converted. The dataclass itself checks ranges.

    Args:
        where: place of the values in messages, such as ``tasks[1]``; may be empty.

    Raises:
        ValueError: a key is unknown or missing, a value has a wrong type, or the dataclass refuses it.
    """
    hints, needed = _fields(kind)
    if not isinstance(values, Mapping):
        raise ValueError(f"{_place(where)}expected an object, found {quote(values)}")
    if isinstance(kind, type) and issubclass(kind, MayHoldMore):
        values = {key: value for key, value in values.items() if key in hints}
    for key in values:
        if key not in hints:
            raise ValueError(f"{_place(where)}unknown key {quote(key)}, expected {', '.join(hints)}")
    if missing := [quote(name) for name in needed if name not in values]:
        raise ValueError(f"{_place(where)}missing {'key' if len(missing) == 1 else 'keys'} {', '.join(missing)}")
    built = {key: convert(hints[key], value, f"{where}.{key}".lstrip(".")) for key, value in values.items()}
    try:
        return kind(**built)
    except ValueError as error:
        raise ValueError(f"{_place(where)}{error}") from None


@cache
def _fields(kind: Callable[..., Any]) -> tuple[Mapping[str, Any], Sequence[str]]:
    """Types by name, and the names of those without a default."""
    parameters = signature(kind).parameters.items()
    return get_type_hints(kind), [name for name, parameter in parameters if parameter.default is Parameter.empty]


def convert(hint: Any, value: Any, where: str) -> Any:
    """Converts a value to the type of a hint, of a dataclass's field or a whole file.

    Raises:
        ValueError: it has another type; the message says where.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        return convert(_of_kind([each for each in arguments if each is not NoneType], value), value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{_place(where)}expected an object, found {quote(value)}")
        return {
            key: convert(arguments[1], item, f"{where}.{quote(key)[1:-1]}".lstrip(".")) for key, item in value.items()
        }
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise ValueError(f"{_place(where)}{quote(value)}, expected {' or '.join(map(str, arguments))}")
        return value
    if hint in PLAIN:
        return _plain(hint, value, where)
    return build(hint, value, where)


def _of_kind(hints: Sequence[Any], value: Any) -> Any:
    """Of dataclasses, the one with the value's ``kind``, or the first, without one."""
    kind = value.get("kind") if isinstance(value, Mapping) else None
    with_kind = [hint for hint in hints[1:] if kind in get_args(_fields(hint)[0]["kind"])]
    return (*with_kind, hints[0])[0]


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{_place(where)}expected a list, found {quote(value)}")
    if len(arguments) != 2 or arguments[1] is not Ellipsis:
        if len(value) != len(arguments):
            raise ValueError(f"{_place(where)}{len(value)} entries, expected {len(arguments)}")
        return tuple(
            convert(hint, item, f"{where}[{index}]")
            for index, (hint, item) in enumerate(zip(arguments, value, strict=True))
        )
    return tuple(convert(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))


def _plain(hint: type, value: Any, where: str) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, int) and is_number and value not in INTEGERS:
        raise ValueError(f"{_place(where)}{quote(value)}, expected {hint.__name__} of 64 bits")
    if hint is float and is_number:
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{_place(where)}{quote(value)}, expected {hint.__name__}")
    return value


def _place(where: str) -> str:
    return f"{where}: " if where else ""
