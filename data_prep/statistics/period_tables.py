"""The description of a data set of a period as text tables."""

from data_prep.statistics.column_statistics import HEAD_IDS
from data_prep.statistics.period_description import (
    DEVIATION,
    MEAN,
    CategoricalOfPeriod,
    DenseOfPeriod,
    PeriodDescription,
    TableOfPeriod,
    TaskOfPeriod,
)
from data_prep.statistics.text_tables import Column, marks, number, percent, table


def render_period(description: PeriodDescription) -> str:
    """The description as text tables."""
    what = [f"{description.name}: {description.rows:,} rows"]
    what += [f"period {description.period}"] if description.period is not None else []
    what += [f"continues {description.continues}"] if description.continues is not None else []
    sections = [
        [", ".join(what)],
        ["Tasks", *table(_task_columns(description.tasks))],
        ["Tables", *table(_table_columns(description.tables))],
        ["Categorical features", *table(_categorical_columns(description.categorical))],
    ]
    if description.dense:
        sections.append(["Dense features", *table(_dense_columns(description.dense))])
    sections.append(
        [
            "new: ids that the data set before has not; recycled: ids that it has for other values.",
            "not before: share of a feature's ids that are unseen for the data set before and for its models.",
            "kept scale: mean and deviation of the values that are not missing; 0 and 1 in the first data set.",
            f"A feature drifts where its mean is over {MEAN:g} from 0, or its deviation over {DEVIATION:g} from 1.",
        ]
    )
    return "\n\n".join("\n".join(lines) for lines in sections)


def _task_columns(tasks: tuple[TaskOfPeriod, ...]) -> list[Column]:
    return [
        Column("", "task", [task.name for task in tasks], left=True),
        Column("", "label", [task.label for task in tasks], left=True),
        Column("", "given", [task.given or "-" for task in tasks], left=True),
        Column("", "defined rows", [f"{task.labels.rows:,}" for task in tasks]),
        Column("", "positives", [f"{task.labels.positives:,}" for task in tasks]),
        Column("", "base rate", [number(task.labels.base_rate, ".5f") for task in tasks]),
    ]


def _table_columns(tables: tuple[TableOfPeriod, ...]) -> list[Column]:
    return [
        Column("", "table", [of_table.name for of_table in tables], left=True),
        Column("", "ids", [f"{of_table.ids:,}" for of_table in tables]),
        Column("", "at most", [number(of_table.capacity, ",") for of_table in tables]),
        Column("", "new", [f"{of_table.appended:,}" for of_table in tables]),
        Column("", "recycled", [f"{of_table.reset:,}" for of_table in tables]),
        Column("", "waiting", [number(of_table.waiting, ",") for of_table in tables]),
    ]


def _categorical_columns(features: tuple[CategoricalOfPeriod, ...]) -> list[Column]:
    return [
        Column("", "feature", [feature.name for feature in features], left=True),
        Column("", "table", [feature.table for feature in features], left=True),
        Column("", "distinct ids", [f"{feature.ids.distinct:,}" for feature in features]),
        Column("", "mean length", [f"{feature.ids.mean_length:.3f}" for feature in features]),
        Column("", "missing", [percent(feature.ids.missing_share) for feature in features]),
        Column("", "unseen", [percent(feature.ids.unseen_share) for feature in features]),
        Column("", "not before", [percent(feature.unseen_before) for feature in features]),
        Column("", f"top {HEAD_IDS}", [percent(feature.ids.head_share) for feature in features]),
    ]


def _dense_columns(features: tuple[DenseOfPeriod, ...]) -> list[Column]:
    return [
        Column("", "feature", [feature.name for feature in features], left=True),
        Column("", "min", [number(feature.values.min, ".3g") for feature in features]),
        Column("", "max", [number(feature.values.max, ".3g") for feature in features]),
        Column("", "missing", [percent(feature.missing_share) for feature in features]),
        Column("kept scale", "mean", [number(feature.mean, "+.3f") for feature in features]),
        Column("kept scale", "deviation", [number(feature.deviation, ".3f") for feature in features]),
        marks(feature.drifts for feature in features),
    ]
