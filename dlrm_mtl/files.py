"""Files that are whole or not there."""

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Writes under a temporary name beside ``path``, then renames."""
    temporary = temporary_name(path)
    temporary.write_text(text)
    os.replace(temporary, path)


def temporary_name(path: Path) -> Path:
    """A name beside ``path`` to write under; no other process of the machine has the same."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        ValueError: it is not there or no valid JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: not found") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no valid JSON ({error})") from None


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON, whole. NaN and infinity are refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
