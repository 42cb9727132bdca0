"""Arms of a comparison, as text: ``multibalance:beta=0.1,prior_in_direction=0.5``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dlrm_mtl.quoting import quote

_CLASS = re.compile(r"_*[A-Z]\w*(\+.*)?")
"""A class's name, maybe with the beginning of a second method's behind it."""

_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?"
_NAMED = re.compile(rf"[^/]+:{_NUMBER}(/[^/]+:{_NUMBER})*")
"""Numbers by name."""

LEVELS = ("representation", "interaction", "dense", "embedding")


@dataclass(frozen=True)
class Recipe:
    """A balancing method with its options, and how the layer reduces the Gramian."""

    text: str
    """As the user wrote it: the arm's name in reports and paths."""
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reduction: str = "exact"
    level: str = "representation"
    """Whose gradients decide: the representation's, in the one backward pass; or those of shared parameters, of the
    interaction, the bottom MLP ("dense") or the tables ("embedding"), in one more backward pass per task."""
    fade_share: float = 0.0
    """Share of the run's steps that becomes the method's option ``fade``."""

    def in_steps(self, steps: int) -> "Recipe":
        """The same in a run of so many steps, with ``fade`` in place of ``fade_share``, at least one step."""
        if not self.fade_share:
            return self
        fade = max(round(self.fade_share * steps), 1)
        return replace(self, options={**self.options, "fade": fade}, fade_share=0.0)


def parse_recipe(text: str) -> Recipe:
    """Parses ``METHOD[:OPTION=VALUE,...]``.

    METHOD is the name of a method; a class of the user's (``my_package.my_module:MyBalancer``), which begins with a
    capital letter; a TorchJD weighting (``torchjd:UPGrad``); or a combination of these (``imtl_l+imtl_g``). A value is
    a number, ``none``, ``true``, ``false``, a word, or several numbers joined by ``/`` (a weight per task), maybe with
    names (``click:0.7/like:0.3``).
    ``reduction`` and ``level`` belong to the layer, ``fade_share`` to the run, every other option to the method, which
    checks it.

    Raises:
        ValueError: not of this form, or an option given twice.
    """
    method, options = parse_options("arm", text)
    if not method:
        raise ValueError(f"arm {quote(text)} names no method, expected METHOD or METHOD:OPTION=VALUE,...")
    reduction = options.pop("reduction", "exact")
    level = options.pop("level", "representation")
    if level not in LEVELS:
        raise ValueError(f"arm {quote(text)}: level is {quote(level)}, expected one of {', '.join(LEVELS)}")
    if level != "representation" and reduction != "exact":
        raise ValueError(f"arm {quote(text)}: reduction is {quote(reduction)}, expected exact with level={level}")
    fade_share = options.pop("fade_share", 0.0)
    if isinstance(fade_share, bool) or not (isinstance(fade_share, (int, float)) and 0 <= fade_share <= 1):
        raise ValueError(f"arm {quote(text)}: fade_share is {quote(str(fade_share))}, expected a number in [0, 1]")
    if fade_share and options.get("fade"):
        raise ValueError(f"arm {quote(text)}: fade is {quote(str(options['fade']))}, expected 0 beside fade_share")
    return Recipe(text, method, options, reduction, level, fade_share)


def parse_options(kind: str, text: str) -> tuple[str, dict[str, Any]]:
    """The name and the options of ``NAME[:OPTION=VALUE,...]``.

    Args:
        kind: what the text is, for messages.

    Raises:
        ValueError: an option not of this form, or given twice.
    """
    name, tail = _split(text)
    options: dict[str, Any] = {}
    for part in filter(None, tail.split(",")):
        option, equals, value = part.partition("=")
        if not (option and equals and value):
            raise ValueError(f"{kind} {quote(text)}: {quote(part)} is not of the form OPTION=VALUE")
        if option in options:
            raise ValueError(f"{kind} {quote(text)}: option {quote(option)} is given twice")
        options[option] = _parse_value(value)
        if isinstance(options[option], dict) and len(options[option]) < len(value.split("/")):
            raise ValueError(f"{kind} {quote(text)}: a name occurs twice in {quote(part)}")
    return name, options


def _split(text: str) -> tuple[str, str]:
    """The name, and what follows it."""
    method, *parts = text.split(":")
    while parts and (_CLASS.fullmatch(parts[0]) or method.split("+")[-1] == "torchjd"):
        method = f"{method}:{parts.pop(0)}"
    return method, ":".join(parts)


def _parse_value(text: str) -> Any:
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    if _NAMED.fullmatch(text):
        return {name: _parse_value(number) for name, _, number in (part.rpartition(":") for part in text.split("/"))}
    if "/" in text:
        return [_parse_value(part) for part in text.split("/")]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
