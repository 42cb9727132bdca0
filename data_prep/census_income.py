"""``python -m data_prep.census_income``: UCI's Census-Income (KDD) as a data set of two tasks, as in the paper of MMoE
(docs/data/census_income.md)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_prep.entry_point import print_outcome
from data_prep.layout import read_layout
from data_prep.options import IdOptions, SplitOptions, WorkOptions
from data_prep.prepare import prepare
from data_prep.raw_text import CODECS
from dlrm_mtl import cli
from dlrm_mtl.schema import Schema

TRAINING = ("census-income.data",)
EVALUATION = ("census-income.test", "census-income.test-a")
"""The official test file, or the beginning of it."""


@dataclass(frozen=True)
class Options:
    """Prepares UCI's Census-Income (KDD): the training file trains, the test file evaluates."""

    raw: Path
    """Directory with census-income.data and census-income.test or census-income.test-a, plain, .gz or .zst."""
    out: Path
    """Directory of the data set; one that is there already is replaced. An interrupted run goes on when it is
    started again."""
    tasks: Literal["income", "education"]
    """income: income above 50,000 dollars, and never married. education: a college degree, and never married."""
    ids: Annotated[IdOptions, tyro.conf.arg(name="")] = field(default_factory=IdOptions)
    work: Annotated[WorkOptions, tyro.conf.arg(name="")] = field(default_factory=WorkOptions)


def prepare_census(options: Options) -> Schema:
    """Writes the data set.

    Raises:
        ValueError: an option, a file or a row is not as it should be.
    """
    layout = read_layout(f"census_{options.tasks}")
    files = [find_one(options.raw, names) for names in (TRAINING, EVALUATION)]
    generator = "data_prep.census_income"
    return prepare(layout.name, generator, layout, files, options.out, options.ids, SplitOptions(), options.work)


def find_one(directory: Path, names: Sequence[str]) -> Path:
    """The one file of a directory that has one of the names, plain or compressed.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = [directory / f"{name}{suffix}" for name in names for suffix in ("", *CODECS)]
    found = [path for path in found if path.is_file()]
    if len(found) != 1:
        what = f"both {found[0].name} and {found[1].name} are there" if found else "not found"
        raise ValueError(f"{directory}: {what}; expected one of {', '.join(names)}, plain, .gz or .zst")
    return found[0]


def main() -> None:
    options = cli.parse(Options, "data_prep.census_income")
    schema = prepare_census(options)
    print_outcome(schema, options.out)


if __name__ == "__main__":
    cli.run("census_income", main)
