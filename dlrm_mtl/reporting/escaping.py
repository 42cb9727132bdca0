"""User-given names in Markdown, escaped so that they show as they are."""

import re

from dlrm_mtl.quoting import printable

_MARKUP = re.compile(r"[\\`*|<>\[\]~&$#]|(?<![^\W_])_|_(?![^\W_])")
"""Characters that could start Markdown, HTML or a formula. An underscore between letters is plain text."""


def text(name: str) -> str:
    """A name for a table's cell, a heading or a sentence."""
    return _MARKUP.sub(lambda match: f"\\{match[0]}", printable(name))


def code(name: str) -> str:
    """A name as code, outside of tables."""
    name = printable(name)
    fence = "`" * (1 + max(map(len, re.findall("`+", name)), default=0))
    space = " " if name[:1] == "`" or name[-1:] == "`" else ""
    return f"{fence}{space}{name}{space}{fence}"
