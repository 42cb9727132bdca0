"""``python -m data_prep.describe DIR``: what is in a data set, and whether its eval rows drift from its training rows.

Works on any data set in the project's format, whoever wrote it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import tyro

from data_prep.statistics.column_statistics import HEAD_IDS
from data_prep.statistics.description import (
    CategoricalDescription,
    DenseDescription,
    Description,
    TaskDescription,
    describe,
)
from dlrm_mtl import cli
from dlrm_mtl.files import write_json
from dlrm_mtl.schema import SPLITS

Statistics = TypeVar("Statistics")


@dataclass(frozen=True)
class Options:
    """Describes a data set: rows, tasks, features, and what drifts from the train to the eval split."""

    directory: tyro.conf.Positional[Path]
    """Directory of the data set."""
    json: Path | None = None
    """File to write the description to, as JSON."""

    def validate(self) -> None:
        """Raises ValueError where the JSON file cannot be written."""
        if self.json is not None and (self.json.is_dir() or not self.json.parent.is_dir()):
            raise ValueError(f"{self.json}: expected a file in a directory that exists")


@dataclass(frozen=True)
class Column:
    """A column of a text table."""

    group: str
    """Header that adjacent columns share; empty: none."""
    name: str
    cells: Sequence[str]
    left: bool = False
    """Whether it is aligned on the left."""


def render(description: Description) -> str:
    """The description as text tables."""
    sections = [
        [f"{description.name}: " + ", ".join(f"{split} {rows:,} rows" for split, rows in description.rows.items())],
        ["Tasks", *table(task_columns(description.tasks))],
        ["Categorical features", *table(categorical_columns(description.categorical))],
    ]
    multi_hot = [feature for feature in description.categorical if feature.multi_hot]
    if multi_hot:
        sections.append(["Multi-hot features", *table(multi_hot_columns(multi_hot))])
    if description.dense:
        sections.append(["Dense features", *table(dense_columns(description.dense))])
    sections.append(legend(description))
    return "\n\n".join("\n".join(lines) for lines in sections)


def task_columns(tasks: Sequence[TaskDescription]) -> list[Column]:
    """Base rates and their drift."""
    splits = [task.splits for task in tasks]
    return [
        Column("", "task", [task.name for task in tasks], left=True),
        Column("", "label", [task.label for task in tasks], left=True),
        Column("", "given", [task.given or "-" for task in tasks], left=True),
        *by_split("defined rows", splits, lambda labels: f"{labels.rows:,}"),
        *by_split("positives", splits, lambda labels: f"{labels.positives:,}"),
        *by_split("base rate", splits, lambda labels: number(labels.base_rate, ".5f")),
        Column("", "ratio", [number(task.ratio, ".3f") for task in tasks]),
        Column("", "z", [number(task.z, "+.1f") for task in tasks]),
        marks(task.drifts for task in tasks),
    ]


def categorical_columns(features: Sequence[CategoricalDescription]) -> list[Column]:
    """Ids and their drift."""
    splits = [feature.splits for feature in features]
    return [
        Column("", "feature", [feature.name for feature in features], left=True),
        Column("", "cardinality", [f"{feature.cardinality:,}" for feature in features]),
        *by_split("distinct ids", splits, lambda ids: f"{ids.distinct:,}"),
        *by_split("missing", splits, lambda ids: percent(ids.missing_share)),
        *by_split("unseen", splits, lambda ids: percent(ids.unseen_share)),
        *by_split(f"top {HEAD_IDS}", splits, lambda ids: percent(ids.head_share)),
        Column("", "new", [percent(feature.new_share) for feature in features]),
        Column("", "PSI", [number(feature.psi, ".3f") for feature in features]),
        marks(feature.drifts for feature in features),
    ]


def multi_hot_columns(features: Sequence[CategoricalDescription]) -> list[Column]:
    """Lengths of lists."""
    splits = [feature.splits for feature in features]
    return [
        Column("", "feature", [feature.name for feature in features], left=True),
        Column("", "table", [feature.table for feature in features], left=True),
        *by_split("ids", splits, lambda ids: f"{ids.ids:,}"),
        *by_split("mean length", splits, lambda ids: f"{ids.mean_length:.3f}"),
        *by_split("max length", splits, lambda ids: f"{ids.max_length:,}"),
        *by_split("empty", splits, lambda ids: percent(ids.empty_share)),
    ]


def dense_columns(features: Sequence[DenseDescription]) -> list[Column]:
    """Values and their drift."""
    splits = [feature.splits for feature in features]
    return [
        Column("", "feature", [feature.name for feature in features], left=True),
        *by_split("mean", splits, lambda values: number(values.mean, ".3g")),
        *by_split("std", splits, lambda values: number(values.std, ".3g")),
        *by_split("min", splits, lambda values: number(values.min, ".3g")),
        *by_split("max", splits, lambda values: number(values.max, ".3g")),
        *by_split("zero", splits, lambda values: percent(values.zero_share)),
        Column("", "SMD", [number(feature.smd, "+.3f") for feature in features]),
        marks(feature.drifts for feature in features),
    ]


def legend(description: Description) -> list[str]:
    """What the columns mean, and when something drifts."""
    limits = description.thresholds
    return [
        "Shares of a categorical feature are of its ids; -: not defined, or no such id is reserved.",
        f"top {HEAD_IDS}: share of the {HEAD_IDS} most frequent ids. new: share of eval ids that no training row has.",
        "PSI: population stability index of the ids that training rows have. SMD: standardised mean difference.",
        f"A task drifts where |z| > {limits['z']:g} (two proportions) and the ratio of the base rates is more than"
        f" {limits['ratio']:g} from 1;",
        f"a categorical feature where PSI > {limits['psi']:g} or new > {limits['new_share']:.0%};"
        f" a dense one where |SMD| > {limits['smd']:g}.",
        "Without drift, chance makes PSI about 20 / eval ids, and |SMD| up to 2 / sqrt(eval rows).",
    ]


def by_split(
    group: str, splits: Sequence[dict[str, Statistics]], cell: Callable[[Statistics], str]
) -> Iterable[Column]:
    """A column for each split."""
    return [Column(group, split, [cell(statistics[split]) for statistics in splits]) for split in SPLITS]


def marks(drifts: Iterable[bool]) -> Column:
    """The column that marks what drifts."""
    return Column("", "", ["drifts" if drift else "" for drift in drifts], left=True)


def table(columns: Sequence[Column]) -> list[str]:
    """Lines of a table: two of header, one per row."""
    parts = []
    for group, members in groupby(columns, key=lambda column: column.group):
        blocks = [block(column) for column in members]
        lines = ["  ".join(cells) for cells in zip(*blocks, strict=True)]
        width = max(len(lines[0]), len(group))
        parts.append([f"{group:^{width}}", *(line.rjust(width) for line in lines)])
    return ["  ".join(cells).rstrip() for cells in zip(*parts, strict=True)]


def block(column: Column) -> list[str]:
    """Name and cells, of equal width."""
    cells = [column.name, *column.cells]
    width = max(len(cell) for cell in cells)
    return [cell.ljust(width) if column.left else cell.rjust(width) for cell in cells]


def number(value: float | None, form: str) -> str:
    """A number, or a dash for none."""
    return "-" if value is None else f"{value:{form}}"


def percent(share: float | None) -> str:
    """A share, in which a few of many are told from none."""
    if share is None:
        return "-"
    if share == 0.0:
        return "0"
    return f"{share:.1%}" if share >= 0.0005 else "<0.1%"


def main() -> None:
    options = cli.parse(Options, "data_prep.describe")
    options.validate()
    description = describe(options.directory)
    print(render(description))
    if options.json is not None:
        write_json(options.json, description.as_dict())


if __name__ == "__main__":
    cli.run("describe", main)
