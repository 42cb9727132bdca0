"""schema.json of a data set with unchanged shards."""

import math
import random
import shutil
from pathlib import Path
from typing import Any

from dlrm_mtl.files import read_json
from dlrm_mtl.schema import SPLITS, Schema
from tests.datasets import make_dataset
from tests.fuzz.mutations import mutate_json
from tests.fuzz.target import Target, WrongError
from tests.fuzz.targets.runs import Runs

TRAINED = 20
"""One of this many accepted data sets is trained on."""


def schema_target(directory: Path) -> Target:
    data = make_dataset(directory / "data", rows=64, eval_rows=48, row_group_rows=16, with_context=True)
    file = data / "schema.json"
    schema = read_json(file)
    runs = Runs(directory, data)
    accepted = 0

    def mutate(draw: random.Random) -> bytes:
        return mutate_json(schema, draw)

    def attempt(changed: bytes) -> None:
        nonlocal accepted
        file.write_bytes(changed)
        session = runs.prepare()
        try:
            _check(session.source.dataset.schema)
            accepted += 1
            if accepted % TRAINED == 1:
                runs.train(session)
        finally:
            shutil.rmtree(session.config.out)

    return Target("schema", mutate, attempt)


def _check(schema: Schema) -> None:
    """Checks independently what must hold of an accepted schema."""
    texts = [schema.name, *schema.dense, *schema.label_columns, *schema.task_names]
    texts += [name for feature in schema.categorical for name in (feature.name, feature.table_name)]
    for text in texts:
        _require(isinstance(text, str) and bool(text or text is schema.name), f"a name {text!r}")
    for feature in schema.categorical:
        _require(type(feature.cardinality) is int and 0 < feature.cardinality < 2**63, "a cardinality")
        _require(type(feature.multi_hot) is bool, "multi_hot")
        _require(_is_number(feature.mean_length) and feature.mean_length >= 0, "a mean length")
    for task in schema.tasks:
        _require(
            task.kind == "regression" or (_is_number(task.base_rate) and 0 < (task.base_rate or 0.0) < 1), "a base rate"
        )
        _require(task.bayes_ne is None or _is_number(task.bayes_ne), "a Bayes NE")
    for segment in schema.segments:
        _require(all(isinstance(text, str) and text for text in (segment.name, *segment.values)), "a segment's names")
        _require(0 < len(set(segment.values)) == len(segment.values) <= 256, "a segment's values")
    files = [shard.file for split in SPLITS for shard in schema.splits[split]]
    _require(len(set(files)) == len(files), "a shard twice")
    for split in SPLITS:
        for shard in schema.splits[split]:
            _require(type(shard.rows) is int and shard.rows >= 0, "a number of rows")
            _require(isinstance(shard.sha256, str), "a checksum")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise WrongError(what)
