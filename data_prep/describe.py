"""``python -m data_prep.describe DIR``: statistics of a data set, and whether its eval rows drift from its training
rows, or the rows of a period from those before. Works on any data set in the format of docs/data.md."""

from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from data_prep.statistics.description import describe
from data_prep.statistics.period_description import describe_period
from data_prep.statistics.period_tables import render_period
from data_prep.statistics.text_tables import render
from dlrm_mtl import cli
from dlrm_mtl.files import write_json
from dlrm_mtl.location import Location
from dlrm_mtl.schema import STREAM, read_schema


@dataclass(frozen=True)
class Options:
    """Describes a data set: rows, tasks, features, and what drifts from the train to the eval split; of a data set of a
    period, its new ids, and whether the kept scales of dense features still fit."""

    directory: tyro.conf.Positional[Location]
    """Directory of the data set."""
    json: Path | None = None
    """File to write the description to, as JSON."""

    def validate(self) -> None:
        """Raises ValueError where the JSON file cannot be written."""
        if self.json is not None and (self.json.is_dir() or not self.json.parent.is_dir()):
            raise ValueError(f"{self.json}: expected a file in a directory that exists")


def main() -> None:
    options = cli.parse(Options, "data_prep.describe")
    options.validate()
    if STREAM in read_schema(options.directory).splits:
        of_period = describe_period(options.directory)
        text, described = render_period(of_period), asdict(of_period)
    else:
        description = describe(options.directory)
        text, described = render(description), description.as_dict()
    print(text)
    if options.json is not None:
        write_json(options.json, described)


if __name__ == "__main__":
    cli.run("describe", main)
