"""``python -m data_prep.synthetic``: a multi-task data set of any size whose true probabilities are known.

Rows are generated chunk by chunk, each from a generator seeded by (seed, split, chunk), so that memory does not
grow with the number of rows, and a larger data set begins with the rows of a smaller one.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from tqdm import tqdm

from data_prep.columns.layout import USER
from data_prep.generated.bayes_ne import BayesNEs
from data_prep.generated.columns import CHUNK_ROWS, SEGMENT, chunks, keys_of_users, tasks_of, to_table, with_context
from data_prep.generated.day_options import DayOptions, as_json
from data_prep.generated.days import DayLog
from data_prep.generated.ground_truth import EVAL, TRAIN, Distribution, GroundTruth
from data_prep.output.raw_context import distinct_keys
from data_prep.output.summary import line_of_day, summary
from data_prep.output.writer import DatasetWriter
from dlrm_mtl import cli
from dlrm_mtl.meaning import DenseFingerprint, Fingerprints, TableFingerprint
from dlrm_mtl.model_schema import CategoricalFeature
from dlrm_mtl.schema import Schema
from dlrm_mtl.storage.publishing import check_destination


@dataclass(frozen=True)
class Options:
    """Generates a seeded multi-task data set with known true probabilities."""

    out: Path
    """Directory of the data set, which replaces an existing one; with --days, of a data set for each day."""
    rows: int = 100_000
    """Rows to train on; with --days, rows of each day."""
    eval_rows: int = 20_000
    """Rows to evaluate on. With --days, there are none."""
    seed: int = 0
    """Seed of everything: the hidden factors and the rows."""
    distribution: Annotated[Distribution, tyro.conf.arg(name="")] = field(default_factory=Distribution)
    log: Annotated[DayOptions, tyro.conf.arg(name="")] = field(default_factory=DayOptions)

    def validate(self) -> None:
        """Raises ValueError where an option is out of its range."""
        self.distribution.validate()
        for name in ("rows", "eval_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: expected at least 1")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: expected at least 0")
        self.log.validate(self.distribution)
        if self.log.days and self.eval_rows != Options.eval_rows:
            raise ValueError(f"eval_rows {self.eval_rows}: contradicts days; leave it out")


def generate(options: Options) -> Schema:
    """Writes the data set.

    Raises:
        ValueError: an option is out of its range, a task came out with one class only, or ``out`` holds something
            that is not a data set.
    """
    options.validate()
    check_destination(options.out)
    truth = GroundTruth(options.distribution, options.seed)
    tasks = tasks_of(options.distribution)
    bayes = BayesNEs(tasks)
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
            segments=[SEGMENT] if truth.users is not None else [],
        ) as writer,
        tqdm(total=options.rows + options.eval_rows, unit="rows", unit_scale=True, mininterval=1.0) as progress,
    ):
        for split, stream, total in (("train", TRAIN, options.rows), ("eval", EVAL, options.eval_rows)):
            for chunk, size in chunks(total):
                rows = truth.rows(stream, chunk, CHUNK_ROWS)
                table = to_table(rows, options.distribution)
                if rows.users is not None:
                    keys = keys_of_users(rows.users)
                    seen = np.union1d(seen, distinct_keys(keys[:size])) if split == "train" else seen
                    table = with_context(table, keys, seen)
                writer.write(split, table.slice(0, size))
                if split == "eval":
                    bayes.update(rows, size)
                progress.update(size)
        return writer.finish(source=source(options) | bayes.nmse(), bayes_ne=bayes.values())


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


def generate_days(options: Options) -> Iterator[tuple[Path, Schema]]:
    """Writes the days of a log that are not there yet; yields each day's directory and schema.

    Raises:
        ValueError: see :func:`generate`, or a day is there that was generated with other options.
    """
    options.validate()
    if (options.out / "schema.json").is_file():
        raise ValueError(f"{options.out}: is a data set, expected a directory for the days of a log")
    record = {**source(options), **options.log.as_record()}
    del record["eval_rows"]
    yield from DayLog(options.out, options.log, options.distribution, options.seed, options.rows, record).generate()


def source(options: Options) -> dict[str, object]:
    """How the data set was made: with these values it can be made again."""
    return {
        "generator": "data_prep.synthetic",
        "rows": options.rows,
        "eval_rows": options.eval_rows,
        "seed": options.seed,
        "distribution": {name: as_json(value) for name, value in asdict(options.distribution).items()},
    }


def main() -> None:
    options = cli.parse(Options, "data_prep.synthetic")
    if not options.log.days:
        print(summary(generate(options), options.out))
        return
    for directory, schema in generate_days(options):
        print(line_of_day(directory, schema))


if __name__ == "__main__":
    cli.run("synthetic", main)
