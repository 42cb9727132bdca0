"""``python -m data_prep.join``: the data sets of several periods as one, to train on all of them anew.

A model that is trained day by day sees each row once, in the order of time. The alternative is a new model, trained on
the shuffled rows of all days; this makes its data set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.joined.days import Day, check_chain
from data_prep.joined.writing import write_joined
from data_prep.output.summary import summary
from dlrm_mtl import cli
from dlrm_mtl.quoting import quote
from dlrm_mtl.schema import Schema
from dlrm_mtl.storage.publishing import check_destination


@dataclass(frozen=True)
class Options:
    """Joins data sets of the split stream: the rows of some train, those of a later one evaluate, encoded as the last
    of the first."""

    train: tuple[Path, ...]
    """Data sets to train on, each continued by the next."""
    eval: Path
    """Data set to evaluate on, which continues the last of them. What was not in their vocabularies is unseen."""
    out: Path
    """Directory of the data set; an existing data set is replaced. Its training files are hard links where that is
    possible, otherwise copies."""


def join(options: Options) -> Schema:
    """Writes the data set.

    Raises:
        ValueError: a data set is not of the split stream, does not continue the one before it, or gives an id to
            another value, so that its ids cannot be those of the data sets before.
    """
    check_destination(options.out)
    days = [Day.open(path) for path in (*options.train, options.eval)]
    for day in days:
        if day.directory.resolve() == options.out.resolve():
            raise ValueError(f"out {quote(str(options.out))}: is one of the data sets that are joined")
    check_chain(days)
    return write_joined(days[:-1], days[-1], options.out)


def main(arguments: Sequence[str] | None = None) -> None:
    options = cli.parse(Options, "data_prep.join", arguments)
    print(summary(join(options), options.out))


if __name__ == "__main__":
    cli.run("join", main)
