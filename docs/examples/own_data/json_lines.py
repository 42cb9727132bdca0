"""A data source of one's own: logs of JSON lines.

python docs/examples/own_data/json_lines.py --raw FILES --layout LAYOUT.toml --out DATA
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import json

from data_prep import batches


def read(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of one file, in batches of 1 MiB of its text."""
    yield from json.open_json(path)  # pyarrow 20 or newer


if __name__ == "__main__":
    batches.run("json_lines", read)
