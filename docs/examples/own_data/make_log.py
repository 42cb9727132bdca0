"""A small log of a shop, in place of your own: parquet and JSON lines.

python docs/examples/own_data/make_log.py DIR ROWS
"""

import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = datetime(2024, 3, 1)
DAYS = 10


def make_log(rows: int) -> pa.Table:
    """Impressions of 10 days in the order of time; whether a user clicks depends on the user and the item."""
    draw = np.random.default_rng(0)
    user, item = draw.integers(500, size=rows), draw.zipf(1.5, size=rows) % 200
    score = np.sin(user) + np.cos(item) - 1.0
    clicked = draw.random(rows) < 1 / (1 + np.exp(-score))
    ordered = clicked & (draw.random(rows) < 1 / (1 + np.exp(0.5 - np.sin(item))))
    second = np.sort(draw.integers(DAYS * 86_400, size=rows))
    return pa.table(
        {
            "logged_at": [START + timedelta(seconds=int(s)) for s in second],
            "user_id": user,
            "item": item,
            "viewed": [draw.integers(200, size=draw.integers(4)).tolist() for _ in range(rows)],
            "country": [["de", "fr", None][i] for i in draw.integers(3, size=rows)],
            "price": pa.array(draw.uniform(1, 200, rows).round(2), mask=draw.random(rows) < 0.05),
            "clicked": ["yes" if c else "no" for c in clicked],
            "order_value": pa.array(draw.uniform(1, 99, rows).round(2), mask=~ordered),
        }
    )


def main(directory: Path, rows: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    log = make_log(rows)
    pq.write_table(log, directory / "log.parquet")
    (directory / "log.jsonl").write_text("".join(json.dumps(row, default=str) + "\n" for row in log.to_pylist()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
