"""``python -m data_prep.schema DIR --tasks ...``: makes the ``schema.json`` and ``encoding.json`` of a data set that is
encoded already."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro

from data_prep.encoding.encoding import of_encoded
from data_prep.encoding.files import write_encoding
from data_prep.output.summary import summary
from data_prep.statistics.encoded_columns import Roles
from data_prep.statistics.encoded_dataset import describe_encoded
from dlrm_mtl import cli
from dlrm_mtl.model_schema import Task
from dlrm_mtl.quoting import quote, shorten
from dlrm_mtl.schema import write_schema


@dataclass(frozen=True, kw_only=True)
class Options:
    """Makes the schema.json of parquet files that hold ids, dense values and labels already: DIR/train and DIR/eval, in
    the format of docs/data.md. Other columns of integers, and of lists of them, become categorical features,
    those of floating-point numbers dense ones."""

    directory: tyro.conf.Positional[Path]
    """Directory of the data set: parquet files in its directories train and eval."""
    tasks: tuple[str, ...]
    """Tasks, each NAME (of its label's column), NAME:LABEL, or NAME:LABEL:GIVEN, where GIVEN is the label that must be
    1 for the task to be defined: click cvr:order:click."""
    regressions: tuple[str, ...] = ()
    """The tasks whose label is a number: columns of floating-point numbers."""
    weights: dict[str, str] = field(default_factory=dict)
    """Columns of row weights, by task: cvr importance."""
    name: str = ""
    """Name of the data set; by default that of its directory."""
    ignore: tuple[str, ...] = ()
    """Columns that are neither features nor labels: row ids, times, outcomes that no task names."""
    tables: dict[str, str] = field(default_factory=dict)
    """Embedding tables of features that share one: item items viewed items."""
    cardinalities: dict[str, int] = field(default_factory=dict)
    """Rows of embedding tables, by table; by default the largest id + 1. A larger number leaves room for later ids."""

    def validate(self) -> None:
        """Raises ValueError where the directory is missing or has a schema, or an option names no task."""
        names = [parse_task(text).name for text in self.tasks]
        for option, named in (("regressions", self.regressions), ("weights", tuple(self.weights))):
            if unknown := [name for name in named if name not in names]:
                raise ValueError(
                    f"{option} {quote(unknown[0])}: no such task; expected some of {shorten(', '.join(names))}"
                )
        if not self.directory.is_dir():
            raise ValueError(f"{self.directory}: not a directory; expected one that holds train and eval")
        if (self.directory / "schema.json").exists():
            raise ValueError(f"{self.directory / 'schema.json'}: exists; move it away to make another one")


def tasks_of(options: Options) -> tuple[Task, ...]:
    """The tasks with their kinds and row weights."""
    return tuple(
        replace(
            task,
            kind="regression" if task.name in options.regressions else "binary",
            weight=options.weights.get(task.name, ""),
        )
        for task in map(parse_task, options.tasks)
    )


def parse_task(text: str) -> Task:
    """A task as the command line names it.

    Raises:
        ValueError: there are more than three parts.
    """
    name, *columns = text.split(":")
    if len(columns) > 2:
        raise ValueError(f"task {quote(text)}: expected NAME, NAME:LABEL or NAME:LABEL:GIVEN")
    label, given = [*columns, "", ""][:2]
    return Task(name, label or name, given)


def main() -> None:
    options = cli.parse(Options, "data_prep.schema")
    options.validate()
    roles = Roles(tasks_of(options), options.ignore, options.tables, options.cardinalities)
    schema, remarks = describe_encoded(options.directory, options.name or options.directory.resolve().name, roles)
    write_encoding(of_encoded(schema), options.directory, {})
    write_schema(schema, options.directory)
    print("\n".join([summary(schema, options.directory), *remarks]))


if __name__ == "__main__":
    cli.run("schema", main)
