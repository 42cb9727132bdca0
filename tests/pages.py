"""Commands in documents, for tests that run them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_RUN = "# Not run by the tests"


def blocks(document: Path, language: str) -> list[str]:
    """Fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands(document: Path) -> list[str]:
    """Commands of a document's shell blocks, with continued lines joined, without blocks marked as not run."""
    lines: list[str] = []
    for block in blocks(document, "sh"):
        if not block.startswith(NOT_RUN):
            lines += block.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line and not line.startswith("#")]


def command(page: str, start: str, **values: str | Path | int) -> list[str]:
    """The words of the one command of ``docs/launching/PAGE.md`` that starts like this; words in capitals are replaced
    by their values, and ``...`` at the end by ``MORE``."""
    [found] = [line for line in commands(ROOT / f"docs/launching/{page}.md") if line.startswith(start)]
    more = values.pop("MORE", "")
    words = shlex.split(found.removesuffix(" ...")) + shlex.split(str(more))
    return [re.sub(r"\b[A-Z]+\b", lambda name: str(values.get(name[0], name[0])), word) for word in words]
