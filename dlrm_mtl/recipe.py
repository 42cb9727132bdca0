"""Arms of a comparison, as text: ``multibalance:beta=0.1,prior_in_direction=0.5``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """A balancing method with its options, and how the layer reduces the Gramian."""

    text: str
    """As the user wrote it: the arm's name in reports and paths."""
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reduction: str = "exact"


def parse_recipe(text: str) -> Recipe:
    """Parses ``METHOD[:OPTION=VALUE,...]``.

    A value is a number, ``none``, ``true``, ``false``, a word, or several numbers joined by ``/`` (a weight per task).
    ``reduction`` belongs to the layer, every other option to the method, which checks it.

    Raises:
        ValueError: not of this form, or an option given twice.
    """
    method, _, tail = text.partition(":")
    if not method:
        raise ValueError(f"arm {text!r} names no method, expected METHOD or METHOD:OPTION=VALUE,...")
    options: dict[str, Any] = {}
    for part in filter(None, tail.split(",")):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise ValueError(f"arm {text!r}: {part!r} is not of the form OPTION=VALUE")
        if name in options:
            raise ValueError(f"arm {text!r}: option {name!r} is given twice")
        options[name] = _parse_value(value)
    reduction = options.pop("reduction", "exact")
    return Recipe(text, method, options, reduction)


def _parse_value(text: str) -> Any:
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    if "/" in text:
        return [_parse_value(part) for part in text.split("/")]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
