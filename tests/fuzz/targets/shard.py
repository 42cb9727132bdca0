"""The bytes of a shard."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dlrm_mtl.data.reader import EvaluationReader
from dlrm_mtl.files import read_json, write_json
from tests.datasets import make_dataset
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.target import Target, WrongError
from tests.fuzz.targets.runs import Runs

CODES = (("user", 49), ("item", 29), ("click", 1), ("like", 1), ("buy", 1), ("segment:hour", 23), ("segment:tab", 1))
"""Columns of integers from 0 on, and the largest one."""


def shard_target(directory: Path) -> Target:
    """Half of the inputs are of a data set with checksums, where every change must be noticed."""
    data = make_dataset(directory / "data", rows=64, eval_rows=48, row_group_rows=16, with_context=True)
    schema = read_json(data / "schema.json")
    file = data / schema["splits"]["eval"][0]["file"]
    original = file.read_bytes()
    whole = pq.read_table(file)
    without_checksums = json.loads(json.dumps(schema))
    for shards in without_checksums["splits"].values():
        for shard in shards:
            shard["sha256"] = ""
    runs = Runs(directory, data)

    def mutate(draw: random.Random) -> bytes:
        return bytes([draw.randrange(2)]) + mutate_bytes(original, draw)

    def attempt(changed: bytes) -> None:
        has_checksums, changed = bool(changed[0]), changed[1:]
        write_json(data / "schema.json", schema if has_checksums else without_checksums)
        file.write_bytes(changed)
        session = runs.prepare()
        try:
            if has_checksums and changed != original:
                raise WrongError("bytes that are not those of the checksum")
            rows = sum(batch.rows.numel() for batch in EvaluationReader(session.source, 16, 0, 1))
            if rows != schema["splits"]["eval"][0]["rows"]:
                raise WrongError(f"{rows} rows")
            _check(pq.read_table(file), whole)
        finally:
            shutil.rmtree(session.config.out)

    return Target("shard", mutate, attempt)


def _check(table: pa.Table, whole: pa.Table) -> None:
    """Values may differ where there is no checksum, but each is one that training can use."""
    if len(table) != len(whole):
        raise WrongError(f"{len(table)} rows")
    for name, high in CODES:
        values = table[name].to_numpy()
        if values.min() < 0 or values.max() > high:
            raise WrongError(f"{name} out of range")
    for name in ("age", "price"):
        if not np.isfinite(table[name].to_numpy()).all():
            raise WrongError(f"{name} not finite")
