"""Text of a user's, in messages: short, and harmless to a terminal."""

import reprlib

MAX_LENGTH = 200
"""Characters of data that a message quotes at most."""


def quote(value: object, limit: int = 80) -> str:
    """A value as Python writes it, on one line: printable, at most ``limit`` characters, with an ellipsis where it was
    cut."""
    writer = reprlib.Repr()
    writer.maxstring = writer.maxother = writer.maxlong = limit
    try:
        text = printable(writer.repr(value))
    except ValueError:  # Python writes out no integer of more than some thousand digits
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def shorten(text: str, limit: int = MAX_LENGTH) -> str:
    """A text, printable, at most ``limit`` characters, with an ellipsis where it was cut."""
    text = printable(text[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def printable(text: str) -> str:
    """A text in which everything that steers a terminal, or the direction of writing, is escaped as Python escapes it;
    spaces and the letters of all languages stay."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
