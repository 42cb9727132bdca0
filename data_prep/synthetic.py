"""``python -m data_prep.synthetic``: a multi-task data set of any size whose true probabilities are known.

Rows are generated chunk by chunk, each from a generator seeded by (seed, split, chunk), so that memory does not
grow with the number of rows, and a larger data set begins with the rows of a smaller one.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import tyro
from tqdm import tqdm

from data_prep.columns.layout import USER
from data_prep.generated.ground_truth import EVAL, TRAIN, Distribution, GroundTruth, Rows
from data_prep.generated.users import UserNumbers
from data_prep.output.raw_context import cluster_keys
from data_prep.output.segment_values import KNOWN, NEW, are_among
from data_prep.output.summary import summary
from data_prep.output.writer import DatasetWriter, check_destination
from dlrm_mtl import cli
from dlrm_mtl.meaning import DenseFingerprint, Fingerprints, TableFingerprint
from dlrm_mtl.model_schema import CategoricalFeature, Task
from dlrm_mtl.schema import Schema
from dlrm_mtl.segments import Segment, cluster_column, segment_column

CHUNK_ROWS = 1 << 14
"""Rows generated at a time. Another value gives other rows."""


@dataclass(frozen=True)
class Options:
    """Generates a seeded multi-task data set with known true probabilities."""

    out: Path
    """Directory of the data set; an existing data set is replaced."""
    rows: int = 100_000
    """Rows to train on."""
    eval_rows: int = 20_000
    """Rows to evaluate on."""
    seed: int = 0
    """Seed of everything: the hidden factors and the rows."""
    distribution: Annotated[Distribution, tyro.conf.arg(name="")] = field(default_factory=Distribution)

    def validate(self) -> None:
        """Raises ValueError where an option is out of its range."""
        self.distribution.validate()
        for name in ("rows", "eval_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 1")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: expected at least 0")


class BayesNE:
    """Normalized entropy of the true probabilities, accumulated over rows where a task is defined: mean log loss
    against the realised labels over the entropy of their base rate."""

    def __init__(self) -> None:
        self._rows = 0
        self._positives = 0
        self._log_loss = 0.0

    def update(self, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Adds defined rows: ``labels`` 0 or 1, (B,); ``probabilities`` (B,)."""
        self._rows += len(labels)
        self._positives += int(labels.sum())
        likelihood = np.where(labels == 1, probabilities, 1.0 - probabilities)
        self._log_loss -= float(np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).sum())

    def value(self) -> float | None:
        """None where the rows hold one class only: their entropy is 0."""
        if not 0 < self._positives < self._rows:
            return None
        rate = self._positives / self._rows
        return self._log_loss / self._rows / -(rate * np.log(rate) + (1.0 - rate) * np.log(1.0 - rate))


def generate(options: Options) -> Schema:
    """Writes the data set.

    Raises:
        ValueError: an option is out of its range, a task came out with one class only, or ``out`` holds something
            that is not a data set.
    """
    options.validate()
    check_destination(options.out)
    truth = GroundTruth(options.distribution, options.seed)
    names = options.distribution.task_names
    tasks = [Task(name, name, given="click" if name == "conversion" else "") for name in names]
    bayes = {name: BayesNE() for name in names}
    seen = np.empty(0, np.int64)
    dense = [f"dense_{i}" for i in range(options.distribution.dense)]
    with (
        DatasetWriter(
            options.out,
            "synthetic",
            categorical_features(options.distribution),
            dense,
            tasks,
            fingerprints=fingerprints(truth),
            cluster=USER if truth.users is not None else "",
            segments=[Segment(USER, (KNOWN, NEW))] if truth.users is not None else [],
        ) as writer,
        tqdm(total=options.rows + options.eval_rows, unit="rows", unit_scale=True, mininterval=1.0) as progress,
    ):
        for split, stream, total in (("train", TRAIN, options.rows), ("eval", EVAL, options.eval_rows)):
            for chunk, size in chunks(total):
                rows = truth.rows(stream, chunk, CHUNK_ROWS)
                table = to_table(rows, options.distribution)
                if rows.users is not None:
                    seen = np.union1d(seen, rows.users[:size]) if split == "train" else seen
                    table = with_context(table, rows.users, seen)
                writer.write(split, table.slice(0, size))
                if split == "eval":
                    for index, task in enumerate(tasks):
                        defined = rows.labels[:size, 0] == 1 if task.given else slice(None)
                        bayes[task.name].update(
                            rows.labels[:size, index][defined], rows.probabilities[:size, index][defined]
                        )
                progress.update(size)
        bayes_ne = {name: value for name, ne in bayes.items() if (value := ne.value()) is not None}
        return writer.finish(source=source(options), bayes_ne=bayes_ne)


def categorical_features(distribution: Distribution) -> list[CategoricalFeature]:
    """One-hot features ``id_0``, ..., then multi-hot features ``list_0``, ..."""
    return [
        *(CategoricalFeature(f"id_{i}", size) for i, size in enumerate(distribution.cardinalities)),
        *(
            CategoricalFeature(f"list_{i}", size, multi_hot=True)
            for i, size in enumerate(distribution.multi_hot_cardinalities)
        ),
    ]


def fingerprints(truth: GroundTruth) -> Fingerprints:
    """The meaning of an id is its hidden factors: a function of the seed, its feature and these options."""
    distribution = truth.distribution
    function = f"hidden factors, {truth.latent} dimensions, exponent {distribution.exponent!r}, feature"
    return Fingerprints(
        {
            feature.name: TableFingerprint("generated", feature.cardinality, f"{function} {number}", truth.seed)
            for number, feature in enumerate(categorical_features(distribution))
        },
        {f"dense_{number}": DenseFingerprint("none") for number in range(distribution.dense)},
    )


def chunks(total: int) -> Iterator[tuple[int, int]]:
    """(index, rows to keep) of each chunk: the last one is generated whole and cut, so that its rows do not depend
    on where the data set ends."""
    for index in range(-(-total // CHUNK_ROWS)):
        yield index, min(CHUNK_ROWS, total - index * CHUNK_ROWS)


def to_table(rows: Rows, distribution: Distribution) -> pa.Table:
    """The rows as columns under the names of the schema."""
    columns: dict[str, pa.Array] = {f"id_{i}": pa.array(ids) for i, ids in enumerate(rows.one_hot)}
    for i, (offsets, ids) in enumerate(rows.multi_hot):
        columns[f"list_{i}"] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))
    for i in range(distribution.dense):
        columns[f"dense_{i}"] = pa.array(rows.dense[:, i])
    for i, name in enumerate(distribution.task_names):
        columns[name] = pa.array(rows.labels[:, i])
    return pa.table(columns)


def with_context(table: pa.Table, users: UserNumbers, seen: UserNumbers) -> pa.Table:
    """The rows with their clusters, and whether the user (B,) is one of those with training rows (U,)."""
    keys = pa.array(users)
    codes = (~are_among(users, seen)).astype(np.int32)
    table = table.append_column(cluster_column(USER), cluster_keys(keys.cast(pa.string())))
    return table.append_column(segment_column(USER), pa.array(codes))


def source(options: Options) -> dict[str, object]:
    """How the data set was made: with these values it can be made again."""
    distribution = asdict(options.distribution)
    return {
        "generator": "data_prep.synthetic",
        "rows": options.rows,
        "eval_rows": options.eval_rows,
        "seed": options.seed,
        # Lists, as JSON reads them back.
        "distribution": {
            name: list(value) if isinstance(value, tuple) else value for name, value in distribution.items()
        },
    }


def main() -> None:
    options = cli.parse(Options, "data_prep.synthetic")
    print(summary(generate(options), options.out))


if __name__ == "__main__":
    cli.run("synthetic", main)
