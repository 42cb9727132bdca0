"""Messages between rank 0 and the other ranks, beside the collectives: short lines of JSON, validated when received."""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dlrm_mtl.distributed.failure import Failure, Kind, Position

MAX_BYTES = 1 << 18
"""Of a message, at most."""
MAX_TEXT = 20_000
"""Characters of a failure's text; JSON takes at most 12 bytes for one."""
MAX_PLACE = 200
"""Characters that say where a rank is."""
MAX_COUNT = 1 << 62
MAX_CODE = 255


class Signal(Enum):
    """Messages without content."""

    ASK = "ask"
    """Rank 0 asks for a rank's position."""
    LEFT = "left"
    """A rank has finished."""


@dataclass(frozen=True)
class End:
    """Rank 0 ends the job."""

    code: int
    """Exit code of every rank."""


Message = Position | Failure | Signal | End


def encode(message: Message) -> bytes:
    """A message as a line, of at most ``MAX_BYTES``."""
    return json.dumps(_plain(message)).encode() + b"\n"


def decode(line: bytes, rank: int) -> Message:
    """The message of a line.

    Args:
        line: without the newline.
        rank: the sender.

    Raises:
        ValueError: the line is not a message.
    """
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("not a message: nested too deeply") from None
    match value:
        case ["position", begun, str(where), step, str(code_line)] if _is_count(begun) and _is_count(step):
            return Position(begun, where, step, code_line)
        case ["failure", kind, code, str(text)] if _is_count(kind, max(Kind)) and _is_count(code, MAX_CODE):
            return Failure(Kind(kind), rank, code, text)
        case ["end", code] if _is_count(code, MAX_CODE):
            return End(code)
        case [str(word)]:
            return Signal(word)
    raise ValueError("not a message")


def _plain(message: Message) -> list[Any]:
    match message:
        case Position(begun, where, step, line):
            return ["position", begun, _shortened(where, MAX_PLACE), step, _shortened(line, MAX_PLACE)]
        case Failure():
            return ["failure", int(message.kind), message.code, _shortened(message.text, MAX_TEXT)]
        case End():
            return ["end", message.code]
        case Signal():
            return [message.value]


def _shortened(text: str, limit: int) -> str:
    """The text, without its middle if it is too long: of a traceback, the ends say most."""
    left_out = len(text) - limit
    if left_out <= 0:
        return text
    return f"{text[: limit // 2]} ... {left_out} characters left out ... {text[-limit // 2 :]}"


def _is_count(value: Any, largest: int = MAX_COUNT) -> bool:
    return type(value) is int and 0 <= value <= largest
