"""``python -m data_prep.census_income``: UCI's Census-Income (KDD) as a data set of two tasks, as in the paper of MMoE
(docs/data/census_income.md)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_prep.columns.layout import read_layout
from data_prep.engine.prepare import prepare
from data_prep.engine.split import SplitOptions, TimeOptions
from data_prep.raw_log import PreparationOptions, print_outcome
from data_prep.sources.raw_files import find_named
from dlrm_mtl import cli
from dlrm_mtl.schema import Schema

WEIGHT = "instance_weight"
"""Column of the row weights."""

TRAINING = "census-income.data"

WHOLE_TEST = "census-income.test"
"""The official test file."""

TEST_PARTS = "census-income.test-?"
"""Parts of it, in order: -a, -b, ..."""


@dataclass(frozen=True, kw_only=True)
class Options(PreparationOptions):
    """Prepares UCI's Census-Income (KDD): the training file trains, the test file evaluates; with eval_from, rows of
    either file do, by their time."""

    raw: Path
    """Directory with census-income.data and census-income.test, or parts of the latter (census-income.test-a, -b, ...),
    plain, .gz or .zst."""
    tasks: Literal["income", "education"]
    """income: income above 50,000 dollars, and never married. education: a college degree, and never married."""
    weights: bool = False
    """Whether rows weigh as much as the survey's instance_weight says, divided by its mean over the training file."""
    times: Annotated[TimeOptions, tyro.conf.arg(name="")] = field(default_factory=TimeOptions)


def prepare_census(options: Options) -> Schema:
    """Writes the data set.

    Raises:
        ValueError: an option, a file or a row is invalid.
    """
    layout = options.context.apply(read_layout(f"census_{options.tasks}"))
    if options.weights:
        layout = replace(layout, tasks=tuple(replace(task, weight=WEIGHT) for task in layout.tasks))
    files = [find_training(options.raw), *find_evaluation(options.raw)]
    split = SplitOptions(time_column=options.times.time_column, eval_from=options.times.eval_from)
    if not options.times.eval_from and not options.stream.is_used:
        split = replace(split, train_files="0:1", eval_files=f"1:{len(files)}")
    return prepare(
        layout.name,
        "data_prep.census_income",
        layout,
        files,
        options.out,
        options.ids,
        split,
        options.work,
        stream=options.stream,
    )


def find_training(directory: Path) -> Path:
    """The training file of a directory, plain or compressed. Raises ValueError where it is not there."""
    files = find_named(directory, TRAINING)
    if not files:
        raise ValueError(f"{directory}: not found; expected one of {TRAINING}, plain, .gz or .zst")
    return files[0]


def find_evaluation(directory: Path) -> list[Path]:
    """The test file in a directory, or its parts, plain or compressed.

    Raises:
        ValueError: there is none, or there are both the whole file and parts of it.
    """
    whole, parts = find_named(directory, WHOLE_TEST), find_named(directory, TEST_PARTS)
    if whole and parts:
        raise ValueError(f"{directory}: both {whole[0].name} and {parts[0].name} are there, which share rows; keep one")
    if not whole + parts:
        raise ValueError(f"{directory}: not found; expected {WHOLE_TEST} or {TEST_PARTS}, plain, .gz or .zst")
    return whole + parts


def main() -> None:
    options = cli.parse(Options, "data_prep.census_income")
    schema = prepare_census(options)
    print_outcome(schema, options.out)


if __name__ == "__main__":
    cli.run("census_income", main)
