"""Targets of fuzzing: readers of user input."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MESSAGE_LENGTH = 1_000
"""Maximum length of an error's line."""


class WrongError(Exception):
    """Something wrong was accepted."""


@dataclass(frozen=True)
class Target:
    """A kind of input.

    ``mutate`` gives the bytes of a changed input; ``attempt`` passes them in as a user would. It returns if they are
    accepted, raises ValueError or OSError if they are refused (an entry point prints one line and ends with code 2),
    and :class:`WrongError` if accepted input gives a wrong result.
    """

    name: str
    mutate: Callable[[random.Random], bytes]
    attempt: Callable[[bytes], None]


TargetFactory = Callable[[Path], Target]
"""Creates a target's files in a directory of its own."""


def outcome_of(target: Target, data: bytes) -> str:
    """``accepted``, ``refused``, or the fault."""
    try:
        target.attempt(data)
    except (ValueError, OSError) as error:
        return _fault_of_message(" ".join(str(error).split())) or "refused"
    except WrongError as error:
        return f"something wrong accepted: {error}"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {str(error)[:300]}"
    return "accepted"


def _fault_of_message(message: str) -> str | None:
    if not message:
        return "an empty message"
    if len(message) > MESSAGE_LENGTH:
        return f"a message of {len(message)} characters: {message[:200]}"
    if not message.isprintable():
        return f"a message that steers a terminal: {message[:200]!r}"
    return None
