"""User-given text in messages, shortened and safe for a terminal."""

import reprlib

MAX_LENGTH = 200
"""Maximum number of characters that a message quotes."""


def quote(value: object, limit: int = 80) -> str:
    """The ``repr`` of a value on one line: printable, at most ``limit`` characters, with an ellipsis where it
    was cut."""
    writer = reprlib.Repr()
    writer.maxstring = writer.maxother = writer.maxlong = limit
    try:
        text = printable(writer.repr(value))
    except ValueError:  # Python refuses to convert integers of more than some thousand digits
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def shorten(text: str, limit: int = MAX_LENGTH) -> str:
    """A printable text of at most ``limit`` characters, with an ellipsis where it was cut."""
    text = printable(text[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def printable(text: str) -> str:
    """The text with control characters and changes of writing direction escaped as in Python; spaces and letters of all
    languages are unchanged."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
