"""Messages are tested for the file, the field and the value that they name, not for their words."""

import re


def naming(*parts: object) -> str:
    """A pattern for ``match=``: these parts as whole words, in this order, with any text between."""
    return "(?s)" + ".*?".join(rf"(?<!\w){re.escape(str(part))}(?!\w)" for part in parts)


def mentions(text: str, *parts: object) -> bool:
    """Whether a text has these parts in this order."""
    return re.search(naming(*parts), text) is not None
