"""Rows of a text log among good rows, plain or compressed."""

import gzip
import random
import shutil
from pathlib import Path

from data_prep.engine.options import IdOptions, WorkOptions
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions
from tests.data_prep.logs import LAYOUT, lines_of, read_split
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.target import Target, WrongError

GOOD = 40
"""Good rows before and after the changed one."""


def rows_target(directory: Path) -> Target:
    """The rows around a changed one must be read, and every line accounted for."""
    before, after = ("".join(f"{line}\n" for line in lines_of(GOOD, seed)).encode() for seed in (1, 2))
    row = lines_of(1, seed=3)[0].encode()
    out = directory / "out"

    def mutate(draw: random.Random) -> bytes:
        compressed = draw.random() < 0.2
        text = before + mutate_bytes(row + b"\n", draw) + after
        return b"z" + mutate_bytes(gzip.compress(text, mtime=0), draw) if compressed else b"p" + text

    def attempt(data: bytes) -> None:
        kind, data = data[:1], data[1:]
        log = directory / ("log.tsv.gz" if kind == b"z" else "log.tsv")
        log.write_bytes(data)
        split = SplitOptions(train_rows=f":{GOOD}", eval_rows=f"{GOOD}:")
        try:
            work = WorkOptions(on_bad_row="quarantine")
            schema = prepare("log", "fuzz", LAYOUT, [log], out, IdOptions(), split, work)
            if kind == b"p":
                _check(data, schema.source["rows_read"], schema.source["rows_quarantined"])
                rows = sum(len(read_split(out, schema, name)) for name in ("train", "eval"))
                if rows + schema.source["rows_quarantined"] != schema.source["rows_read"]:
                    raise WrongError(f"{rows} rows and {schema.source['rows_quarantined']} bad ones")
                if rows < 2 * GOOD - 1:
                    raise WrongError(f"{rows} rows came through")
        finally:
            log.unlink()
            shutil.rmtree(out, ignore_errors=True)
            shutil.rmtree(directory / "out.partial", ignore_errors=True)

    return Target("rows", mutate, attempt)


def _check(data: bytes, read: int, quarantined: int) -> None:
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    if read > lines or quarantined > read:
        raise WrongError(f"{read} rows of {lines} lines, {quarantined} of them bad")
