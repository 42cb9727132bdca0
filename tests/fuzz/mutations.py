"""Small changes, by a seeded generator: of bytes, of lines of text, of JSON and TOML values."""

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

INTERESTING_BYTES = (
    b"\x00",
    b"\xff",
    b"\n",
    b"\r",
    b'"',
    b"{",
    b"[",
    b",",
    b"\t",
    b"\x1b",
    b"\x1f\x8b",
    b"PAR1",
    b"-",
    b"9",
)

INTERESTING_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.5, 1.0, 50.5, 1e39, 1e300, 2**31, 2**32, 2**63, 2**64, -(2**63)),
    *(
        "",
        "x",
        ".",
        "..",
        "../../etc/passwd",
        "/etc/passwd",
        "a/b",
        "a.b",
        "\x1b[31m",
        "\x00",
        "\n",
        "名",
        "type",
        "keys",
    ),
    *("--seed", "NaN", "1", "x" * 300, [], {}, [[]], [None], {"": None}, {"a": 1}, ["x"], [1], [0, 0]),
)

ODD_TEXTS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 5000,
    '"\\ud800"',
    "[" * 2000,
    '{"a":' * 2000,
    "'",
    "01",
    "1_0",
)
"""Texts that no parser should take for a value."""


def mutate_bytes(data: bytes, draw: random.Random) -> bytes:
    """Changes, cuts, doubles or inserts a few bytes, one to four times."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        data = _change_bytes(data, draw)
    return data


def mutate_value(value: Any, draw: random.Random) -> Any:
    """Changes one to three places of a JSON value: other values, other types, removed, duplicate or new keys."""
    root = {"": copy.deepcopy(value)}
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        _change_place(root, draw)
    return root[""]


def mutate_json(value: Any, draw: random.Random) -> bytes:
    """The text of a changed value, or a changed text."""
    if draw.random() < 0.2:
        return mutate_bytes(json.dumps(value, indent=1).encode(), draw)
    text = json.dumps(mutate_value(value, draw), indent=1)
    if draw.random() < 0.1:
        number = draw.choice([index for index, letter in enumerate(text) if letter.isdigit()] or [0])
        text = text[:number] + draw.choice(ODD_TEXTS) + text[number + 1 :]
    return text.encode(errors="surrogatepass")


def to_toml(values: dict[str, Any], draw: random.Random) -> bytes:
    """A table as TOML, with inline tables; values that TOML does not have become texts."""
    lines = [f"{json.dumps(key)} = {_toml(value)}" for key, value in values.items() if value is not None]
    if draw.random() < 0.05:
        lines.insert(draw.randrange(len(lines) + 1), f"odd = {draw.choice(ODD_TEXTS)}")
    return ("\n".join(lines) + "\n").encode(errors="surrogatepass")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if value is None:
        return '"none"'
    return json.dumps(value)


def _change_bytes(data: bytes, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(data) + 1), draw.choice((1, 1, 2, 4, 16, 256))
    before, after = data[:at], data[at:]
    match draw.randrange(7):
        case 0:
            return before + bytes([draw.randrange(256)]) + after[1:]
        case 1:
            return before + bytes(byte ^ (1 << draw.randrange(8)) for byte in after[:1]) + after[1:]
        case 2:
            return before + draw.randbytes(size) + after[size:]
        case 3:
            return before + draw.choice(INTERESTING_BYTES) + after[draw.randrange(2) :]
        case 4:
            return before + after[size:]
        case 5:
            return before + after[:size] + after
        case _:
            return before


def _change_place(root: dict[str, Any], draw: random.Random) -> None:
    place, key = draw.choice(list(_places(root)))
    old = place[key]
    change = draw.randrange(6)
    if change == 0 and isinstance(place, dict) and place is not root:
        del place[key]
    elif change == 1 and isinstance(place, list):
        _change_list(place, key, draw)
    elif change == 2 and isinstance(old, dict):
        old[draw.choice(("", "x", "name", "table", "\x1b", "__class__"))] = draw.choice(INTERESTING_VALUES)
    elif change == 3:
        place[key] = _nearby(old, draw)
    elif change == 4:
        other, other_key = draw.choice(list(_places(root)))
        place[key] = copy.deepcopy(other[other_key])
    else:
        place[key] = copy.deepcopy(draw.choice(INTERESTING_VALUES))


def _change_list(entries: list[Any], index: int, draw: random.Random) -> None:
    match draw.randrange(4):
        case 0:
            entries.pop(index)
        case 1:
            entries.append(copy.deepcopy(entries[index]))
        case 2:
            entries.reverse()
        case _:
            entries.clear()


def _nearby(value: Any, draw: random.Random) -> Any:
    """A value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw.choice((value + 1, value - 1, -value, 2 * value, value + 2**31, value * 10**12))
    if isinstance(value, float):
        return draw.choice((-value, value * 1e30, value / 1e30, round(value), 1 - value))
    if isinstance(value, str):
        return draw.choice(
            (value.upper(), value + value, value[1:], f"{value}.", f"../{value}", f"{value}\n", f" {value}")
        )
    return [value, value]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a value: what holds it, and its key or index there."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(entries):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)
