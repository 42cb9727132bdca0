"""Small data sets for tests: seeded, learnable, with every kind of column."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_prep.output.writer import DatasetWriter
from dlrm_mtl.meaning import DenseFingerprint, Fingerprints, TableFingerprint
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.segments import Segment

CATEGORICAL = (
    CategoricalFeature("user", 50),
    CategoricalFeature("item", 30),
    CategoricalFeature("history", 30, multi_hot=True, table="item"),
    CategoricalFeature("tags", 7, multi_hot=True),
)
DENSE = ("age", "price")
FINGERPRINTS = Fingerprints(
    {
        "user": TableFingerprint("vocabulary", 50, sha256="0123456789abcdef" * 4),
        "item": TableFingerprint("hash", 30, "splitmix64 of the 64-bit integer"),
        "tags": TableFingerprint("generated", 7, "letters", 3),
    },
    {"age": DenseFingerprint("log", 1.0, 2.5, 0.25), "price": DenseFingerprint("none")},
)
TASKS = (Task("click", "click"), Task("like", "like"), Task("buy", "buy", given="click"))
SEGMENTS = (Segment("hour", tuple(map(str, range(24)))), Segment("tab", ("home", "other")))


def make_table(rows: int, seed: int) -> pa.Table:
    """Rows of the test data set. The column ``row`` numbers them, so that tests can follow a row through the reader."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(50, size=rows), rng.integers(30, size=rows)
    dense = rng.normal(size=(rows, 2)).astype(np.float32)
    score = 0.5 * dense[:, 0] + np.sin(user) + np.cos(3 * item)
    click = rng.random(rows) < 1 / (1 + np.exp(-score))
    like = rng.random(rows) < 1 / (1 + np.exp(score + 1.5))
    buy = click & (rng.random(rows) < 1 / (1 + np.exp(1 - dense[:, 1])))
    return pa.table(
        {
            "user": user,
            "item": item,
            "history": _lists(rng, rows, 30, 4),
            "tags": _lists(rng, rows, 7, 3),
            "age": dense[:, 0],
            "price": dense[:, 1],
            "click": click.astype(np.int8),
            "like": like.astype(np.int8),
            "buy": buy.astype(np.int8),
        }
    )


def make_dataset(
    directory: Path,
    rows: int = 600,
    eval_rows: int = 200,
    row_group_rows: int = 64,
    tasks: Sequence[Task] = TASKS,
    with_context: bool = False,
) -> Path:
    """Writes the test data set and returns its directory.

    Args:
        with_context: whether evaluation rows keep a cluster and segments.
    """
    evaluation = make_table(eval_rows, seed=2)
    if with_context:
        context = {
            "cluster:visitor": pa.array([cluster_of(row) for row in range(eval_rows)], pa.int64()),
            "segment:hour": pa.array([row % 24 for row in range(eval_rows)], pa.int32()),
            "segment:tab": pa.array([row % 2 for row in range(eval_rows)], pa.int32()),
        }
        evaluation = pa.table({**dict(zip(evaluation.column_names, evaluation.columns, strict=True)), **context})
    with DatasetWriter(
        directory,
        "small",
        CATEGORICAL,
        DENSE,
        tasks,
        row_group_rows,
        4 * row_group_rows,
        FINGERPRINTS,
        cluster="visitor" if with_context else "",
        segments=SEGMENTS if with_context else (),
    ) as writer:
        writer.write("train", make_table(rows, seed=1))
        writer.write("eval", evaluation)
        writer.finish(source={})
    return directory


def cluster_of(row: int) -> int | None:
    """Rows 4 i to 4 i + 3 form a cluster; every tenth row has none."""
    return None if row % 10 == 9 else row // 4


def _lists(rng: np.random.Generator, rows: int, cardinality: int, longest: int) -> pa.Array:
    lengths = rng.integers(longest + 1, size=rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, rng.integers(cardinality, size=offsets[-1]).astype(np.int32))
