"""The description of a data set as text tables."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TypeVar

from data_prep.statistics.column_statistics import HEAD_IDS
from data_prep.statistics.description import (
    CategoricalDescription,
    DenseDescription,
    Description,
    RegressionDescription,
    TaskDescription,
)
from data_prep.statistics.regression_labels import QUANTILES, NumberStatistics
from dlrm_mtl.schema import SPLITS

Statistics = TypeVar("Statistics")
Described = TypeVar("Described")


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
    multi_hot = [feature for feature in description.categorical if feature.multi_hot]
    rows = ", ".join(f"{split} {rows:,} rows" for split, rows in description.rows.items())
    return joined(
        [f"{description.name}: {rows}"],
        section("Tasks", _task_columns, description.tasks),
        section("Regression tasks", _regression_columns, description.regressions),
        section("Categorical features", _categorical_columns, description.categorical),
        section("Multi-hot features", _multi_hot_columns, multi_hot),
        section("Dense features", _dense_columns, description.dense),
        _legend(description),
    )


def _task_columns(tasks: Sequence[TaskDescription]) -> list[Column]:
    """Base rates and their drift."""
    splits = [task.splits for task in tasks]
    return [
        Column("", "task", [task.name for task in tasks], left=True),
        Column("", "label", [task.label for task in tasks], left=True),
        Column("", "given", [task.given or "-" for task in tasks], left=True),
        *_by_split("defined rows", splits, lambda labels: f"{labels.rows:,}"),
        *_by_split("positives", splits, lambda labels: f"{labels.positives:,}"),
        *_by_split("base rate", splits, lambda labels: number(labels.base_rate, ".5f")),
        Column("", "ratio", [number(task.ratio, ".3f") for task in tasks]),
        Column("", "z", [number(task.z, "+.1f") for task in tasks]),
        marks(task.drifts for task in tasks),
    ]


def _regression_columns(tasks: Sequence[RegressionDescription]) -> list[Column]:
    """Labels and their drift."""
    splits = [task.splits for task in tasks]
    return [
        Column("", "task", [task.name for task in tasks], left=True),
        Column("", "label", [task.label for task in tasks], left=True),
        Column("", "given", [task.given or "-" for task in tasks], left=True),
        Column("", "weight", [task.weight or "-" for task in tasks], left=True),
        *_by_split("defined rows", splits, lambda labels: f"{labels.rows:,}"),
        *_by_split("mean", splits, lambda labels: number(labels.mean, ".3g")),
        *_by_split("std", splits, lambda labels: number(labels.deviation, ".3g")),
        *(column for name in QUANTILES for column in _by_split(name, splits, partial(_quantile, name))),
        *_by_split("max", splits, lambda labels: number(labels.max, ".3g")),
        Column("", "SMD", [number(task.smd, "+.3f") for task in tasks]),
        marks(task.drifts for task in tasks),
    ]


def _quantile(name: str, labels: NumberStatistics) -> str:
    return number(labels.quantiles[name], ".3g")


def _categorical_columns(features: Sequence[CategoricalDescription]) -> list[Column]:
    """Ids and their drift."""
    splits = [feature.splits for feature in features]
    return [
        Column("", "feature", [feature.name for feature in features], left=True),
        Column("", "cardinality", [f"{feature.cardinality:,}" for feature in features]),
        *_by_split("distinct ids", splits, lambda ids: f"{ids.distinct:,}"),
        *_by_split("missing", splits, lambda ids: percent(ids.missing_share)),
        *_by_split("unseen", splits, lambda ids: percent(ids.unseen_share)),
        *_by_split(f"top {HEAD_IDS}", splits, lambda ids: percent(ids.head_share)),
        Column("", "new", [percent(feature.new_share) for feature in features]),
        Column("", "PSI", [number(feature.psi, ".3f") for feature in features]),
        marks(feature.drifts for feature in features),
    ]


def _multi_hot_columns(features: Sequence[CategoricalDescription]) -> list[Column]:
    """Lengths of lists."""
    splits = [feature.splits for feature in features]
    return [
        Column("", "feature", [feature.name for feature in features], left=True),
        Column("", "table", [feature.table for feature in features], left=True),
        *_by_split("ids", splits, lambda ids: f"{ids.ids:,}"),
        *_by_split("mean length", splits, lambda ids: f"{ids.mean_length:.3f}"),
        *_by_split("max length", splits, lambda ids: f"{ids.max_length:,}"),
        *_by_split("empty", splits, lambda ids: percent(ids.empty_share)),
    ]


def _dense_columns(features: Sequence[DenseDescription]) -> list[Column]:
    """Values and their drift."""
    splits = [feature.splits for feature in features]
    return [
        Column("", "feature", [feature.name for feature in features], left=True),
        *_by_split("mean", splits, lambda values: number(values.mean, ".3g")),
        *_by_split("std", splits, lambda values: number(values.std, ".3g")),
        *_by_split("min", splits, lambda values: number(values.min, ".3g")),
        *_by_split("max", splits, lambda values: number(values.max, ".3g")),
        *_by_split("zero", splits, lambda values: percent(values.zero_share)),
        Column("", "SMD", [number(feature.smd, "+.3f") for feature in features]),
        marks(feature.drifts for feature in features),
    ]


def _legend(description: Description) -> list[str]:
    """The meaning of the columns, and the thresholds of drift."""
    limits = description.thresholds
    return [
        "Shares of a categorical feature are of its ids; -: not defined, or no such id is reserved.",
        f"top {HEAD_IDS}: share of the {HEAD_IDS} most frequent ids. new: share of eval ids that no training row has.",
        "PSI: population stability index of the ids that training rows have. SMD: standardised mean difference.",
        f"A task drifts where |z| > {limits['z']:g} (two proportions) and the ratio of the base rates is more than"
        f" {limits['ratio']:g} from 1;",
        f"a categorical feature where PSI > {limits['psi']:g} or new > {limits['new_share']:.0%};"
        f" a dense one or a regression label where |SMD| > {limits['smd']:g}.",
        "Without drift, chance makes PSI about 20 / eval ids, and |SMD| up to 2 / sqrt(eval rows).",
    ]


def _by_split(
    group: str, splits: Sequence[dict[str, Statistics]], cell: Callable[[Statistics], str]
) -> Iterable[Column]:
    """A column for each split."""
    return [Column(group, split, [cell(statistics[split]) for statistics in splits]) for split in SPLITS]


def marks(drifts: Iterable[bool]) -> Column:
    """The column that marks what drifts."""
    return Column("", "", ["drifts" if drift else "" for drift in drifts], left=True)


def joined(*sections: Sequence[str]) -> str:
    """The lines of sections, without the empty ones."""
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def section(title: str, columns: Callable[[Sequence[Described]], list[Column]], rows: Sequence[Described]) -> list[str]:
    """Title and table, a row for each that is described; empty where there is none."""
    return [title, *table(columns(rows))] if rows else []


def table(columns: Sequence[Column]) -> list[str]:
    """Lines of a table: two of header, one per row."""
    parts = []
    for group, members in groupby(columns, key=lambda column: column.group):
        blocks = [_block(column) for column in members]
        lines = ["  ".join(cells) for cells in zip(*blocks, strict=True)]
        width = max(len(lines[0]), len(group))
        parts.append([f"{group:^{width}}", *(line.rjust(width) for line in lines)])
    return ["  ".join(cells).rstrip() for cells in zip(*parts, strict=True)]


def _block(column: Column) -> list[str]:
    """Name and cells, of equal width."""
    cells = [column.name, *column.cells]
    width = max(len(cell) for cell in cells)
    return [cell.ljust(width) if column.left else cell.rjust(width) for cell in cells]


def number(value: float | None, form: str) -> str:
    """A number, or a dash for none."""
    return "-" if value is None else f"{value:{form}}"


def percent(share: float | None) -> str:
    """A share in percent; a small one is distinguished from 0."""
    if share is None:
        return "-"
    if share == 0.0:
        return "0"
    return f"{share:.1%}" if share >= 0.0005 else "<0.1%"
